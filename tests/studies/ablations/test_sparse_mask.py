import torch
from hypothesis import given
from hypothesis import strategies as st

from replication.methods import attach
from replication.methods.solo_connection import DenseMap, SoloConnectionConfig
from studies.ablations.sparse_mask import PermutedMap, permute_mask, summarise


@given(outputs=st.integers(1, 6), inputs=st.integers(2, 7), seed=st.integers(0, 99))
def test_the_factors_are_a_permutation_and_one_entry_alone_is_hidden(outputs, inputs, seed):
    generator = torch.Generator().manual_seed(seed)
    dense = DenseMap(outputs, inputs, torch.zeros(1), generator)
    permuted = PermutedMap(dense, 1.0, generator)
    assert sorted(permuted.factors.flatten().tolist()) == list(range(outputs * inputs))
    assert (permuted.factors == 0).sum() == 1
    scaled = PermutedMap(dense, 1.0 / (outputs * inputs - 1), generator)
    assert scaled.factors.min() == 0
    assert scaled.factors.max() <= 1
    assert torch.equal(permuted.dense_weight(), dense.weight * permuted.factors)


def test_the_variant_starts_as_the_base_and_trains_what_is_meant_to_be_hidden(tiny_gpt2):
    ids = torch.randint(0, 97, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        base = tiny_gpt2(input_ids=ids).logits
        model = attach(tiny_gpt2, SoloConnectionConfig(rank=8, skip_length=2))
        permute_mask(False, 3, model)
        assert torch.equal(model(input_ids=ids).logits, base)
        model.solo_connection.connections[0].homotopy_vector.fill_(0.01)
    model(input_ids=ids).logits.square().mean().backward()
    assert (model.solo_connection.encoder.weight.grad != 0).float().mean() > 0.9


def test_the_sentence_names_the_best_rate_and_what_diverged():
    losses = {
        "binary mask (ours)": {0.1: {1: 2.0}, 0.2: {1: 1.0}},
        "permutation 0 to n-1": {0.1: {1: None}},
        "permutation / (n-1)": {0.1: {1: 1.5}},
    }
    said = summarise(losses, 3.0, {"permutation 0 to n-1": 5000, "binary mask (ours)": 2000})
    assert "binary mask (ours): 1.0000 at rate 0.2" in said
    assert "permutation 0 to n-1: diverged at every rate" in said
    assert "5,000" in said
