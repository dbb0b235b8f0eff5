"""Numbering, ranking, removing and restoring adapters."""

import copy
import itertools
import json
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from replication.errors import AdapterError, ReplicationWarning
from replication.methods import attach, detach, load, merge, save, trainable_parameters
from replication.methods.lora import LoraConfig, LoraLinear, lora_layers
from replication.methods.selection import (
    apply_structure,
    describe_adapters,
    enumerate_adapters,
    hard_threshold,
    kept_by_place,
    largest,
    present_updates,
    recorded_adapters,
    remove_adapters,
    seeded_generator,
    structure_of,
)
from replication.methods.shared.projections import find_projections
from replication.methods.weight_lora import WeightLoraConfig
from replication.methods.weight_lora_plus import WeightLoraPlusConfig

# few distinct values, so that ties, negative ones and zeros of both signs are common
WEIGHTS = st.lists(
    st.one_of(st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0]), st.floats(-9, 9, width=32)),
    min_size=1,
    max_size=9,
)
MODES = st.sampled_from(["signed", "magnitude"])


def logits_of(model, seed=3):
    ids = torch.randint(3, 97, (2, 7), generator=torch.Generator().manual_seed(seed))
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **more).logits


def stir(model, seed=1, size=0.2):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    return model


# --- ranking -------------------------------------------------------------------------


@given(weights=WEIGHTS, keep=st.integers(1, 10), rank_by=MODES)
def test_at_most_k_weights_are_left_and_those_are_the_largest(weights, keep, rank_by):
    values = torch.tensor(weights)
    result = hard_threshold(values, keep, rank_by)
    assert int((result != 0).sum()) <= keep
    score = abs if rank_by == "magnitude" else (lambda value: value)
    expected = sorted(range(len(weights)), key=lambda i: (-score(weights[i]), i))[:keep]
    assert largest(values, keep, rank_by) == sorted(expected)
    for i, weight in enumerate(weights):
        assert result[i].item() == (values[i].item() if i in expected else 0), weight


@given(weights=WEIGHTS, keep=st.integers(1, 9))
def test_by_magnitude_no_other_choice_of_k_is_nearer(weights, keep):
    values = torch.tensor(weights, dtype=torch.float64)
    distance = (values - hard_threshold(values, keep, "magnitude")).square().sum()
    places = itertools.combinations(range(len(weights)), min(keep, len(weights)))
    best = min(sum(weights[i] ** 2 for i in range(len(weights)) if i not in kept) for kept in places)
    assert float(distance) == pytest.approx(best, rel=1e-9, abs=1e-12)


def test_a_large_negative_weight_is_dropped_by_sign_and_kept_by_magnitude():
    values = torch.tensor([1.0, -7.0, 0.5])
    assert hard_threshold(values, 2, "signed").tolist() == [1.0, 0.0, 0.5]
    assert hard_threshold(values, 2, "magnitude").tolist() == [1.0, -7.0, 0.0]


def test_of_equal_weights_the_first_modules_stay():
    assert largest(torch.ones(100), 7, "signed") == list(range(7))
    assert largest(torch.tensor([0.0, 1, 2, 1, 2, 1]), 3, "signed") == [1, 2, 4]


@given(weights=st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=8), keep=st.integers(1, 9), rank_by=MODES)
def test_a_choice_by_place_is_one_that_turns_with_the_order(weights, keep, rank_by):
    values = torch.tensor(weights)
    turned = {len(weights) - 1 - index for index in largest(values.flip(0), keep, rank_by)}
    assert (kept_by_place(values, keep, rank_by) == 0) == (turned == set(largest(values, keep, rank_by)))


def test_of_those_kept_the_tied_ones_are_counted():
    assert kept_by_place(torch.tensor([1.0, 3, 1, 2, 1]), 4, "signed") == 2
    assert kept_by_place(torch.tensor([1.0, 3, 1, 2, 1]), 2, "signed") == 0
    assert kept_by_place(torch.tensor([1.0, -3, 3]), 1, "magnitude") == 1


# --- numbering -----------------------------------------------------------------------


def places(model, targets):
    adapters = enumerate_adapters(find_projections(model, targets))
    assert [adapter.index for adapter in adapters] == list(range(len(adapters)))
    return [(adapter.module, adapter.label, adapter.block, adapter.role) for adapter in adapters]


def test_adapters_are_numbered_in_module_order(tiny_gpt2, tiny_bart):
    fused = places(tiny_gpt2, ("value", "query"))
    assert fused[:3] == [
        ("transformer.h.0.attn.c_attn", "query", 0, "query"),
        ("transformer.h.0.attn.c_attn", "value", 0, "value"),
        ("transformer.h.1.attn.c_attn", "query", 1, "query"),
    ]
    both = places(tiny_bart, ("query",))
    assert both[0] == ("model.encoder.layers.0.self_attn.q_proj", "query", 0, "query")
    assert both[-1] == ("model.decoder.layers.5.encoder_attn.q_proj", "query", 5, "query")


def test_a_target_by_name_gets_a_role_too():
    from transformers import BertConfig, BertModel

    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    with torch.device("meta"):
        model = BertModel(BertConfig(vocab_size=9, hidden_size=4, **sizes))
    found = places(model, ("query", "output.dense"))
    assert [(label, block, role) for _, label, block, role in found[:3]] == [
        ("query", 0, "query"),
        ("whole", 0, "output"),  # attention.output.dense
        ("whole", 0, "output.dense"),
    ]
    plain = nn.ModuleDict({"fc": nn.Linear(2, 2)})
    assert places(plain, ("fc",)) == [("fc", "whole", None, "fc")]


def test_the_numbering_is_plain_data_that_a_copy_keeps_and_detach_takes_off(tiny_gpt2):
    attach(tiny_gpt2, WeightLoraConfig(rank=2, keep=3))
    twin = copy.deepcopy(tiny_gpt2)
    remove_adapters(tiny_gpt2, [0, 1, 2])
    assert len(recorded_adapters(tiny_gpt2)) == 18  # removed ones keep their numbers
    assert list(present_updates(tiny_gpt2)) == list(range(3, 18))
    assert list(present_updates(twin)) == list(range(18))
    first = describe_adapters(twin)[0]
    assert first == {
        "index": 0, "module": "transformer.h.0.attn.c_attn", "label": "query", "block": 0, "role": "query"
    }  # fmt: skip
    assert json.loads(json.dumps(first)) == first
    detach(tiny_gpt2)
    with pytest.raises(AdapterError, match="carries no selecting method"):
        recorded_adapters(tiny_gpt2)


# --- removing ------------------------------------------------------------------------


def test_of_a_fused_projection_only_the_slice_goes(tiny_gpt2):
    stir(attach(tiny_gpt2, WeightLoraConfig(rank=2, keep=3)))
    layer = tiny_gpt2.transformer.h[0].attn.c_attn
    x = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    before = layer(x)
    remove_adapters(tiny_gpt2, [1])
    after = layer(x)
    assert tiny_gpt2.transformer.h[0].attn.c_attn is layer
    assert [piece.label for piece, _ in layer.updates()] == ["query", "value"]
    assert torch.equal(after[..., 32:64], layer.base_layer(x)[..., 32:64])
    assert not torch.equal(before[..., 32:64], after[..., 32:64])
    assert torch.equal(after[..., :32], before[..., :32])
    assert torch.equal(after[..., 64:], before[..., 64:])
    remove_adapters(tiny_gpt2, [0, 2])
    assert tiny_gpt2.transformer.h[0].attn.c_attn is layer.base_layer
    assert len(lora_layers(tiny_gpt2)) == 5


@settings(max_examples=10)
@given(
    gone=st.sets(st.integers(0, 11)),
    fixture=st.sampled_from(["tiny_gpt2", "tiny_llama", "tiny_bart"]),
    targets=st.sampled_from([("query", "value"), ("key", "output")]),
)
def test_removing_zeros_changes_no_logit_and_detach_restores_the_base(request, fixture, gone, targets):
    model = copy.deepcopy(request.getfixturevalue(fixture))
    plain = logits_of(model)
    stir(attach(model, WeightLoraConfig(rank=2, keep=1, targets=targets)))
    names = str(model)
    with torch.no_grad():
        for index in gone:
            present_updates(model)[index].importance_weight.zero_()
    before = logits_of(model)
    remove_adapters(model, gone)
    assert torch.equal(logits_of(model), before)
    assert set(present_updates(model)) & gone == set()
    wrapped = {recorded_adapters(model)[index].module for index in present_updates(model)}
    assert set(lora_layers(model)) == wrapped
    assert (str(model) == names) == (not gone)
    assert torch.equal(logits_of(detach(model)), plain)
    assert not any(isinstance(module, LoraLinear) for module in model.modules())


# --- structure -----------------------------------------------------------------------


@settings(max_examples=10)
@given(
    survivors=st.sets(st.integers(0, 17), min_size=1),
    ranks=st.lists(st.integers(1, 32), min_size=18, max_size=18),
    fixed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_structure_brings_a_fresh_model_to_the_same_shape(tiny_gpt2, survivors, ranks, fixed, seed):
    model = attach(copy.deepcopy(tiny_gpt2), WeightLoraConfig(rank=2, keep=3))
    asked = {
        "survivors": sorted(survivors),
        "ranks": {str(index): ranks[index] for index in sorted(survivors)},
        "fixed_weights": sorted(survivors) if fixed else [],
        "frozen_pairs": [min(survivors)] if fixed else [],
    }
    apply_structure(model, json.loads(json.dumps(asked)))
    assert structure_of(model) == asked
    for index, update in present_updates(model).items():
        assert (len(update.lora_A), update.lora_B.shape[1]) == (ranks[index], ranks[index])
        assert update.scaling == 16  # of the first rank
    logits_of(stir(model, seed))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"survivors": [0, 18]}, r"\[18\] are none of the 18"),
        ({"ranks": {"0": 33}}, "rank 33 of adapter 0 is not between 1 and 32"),
        ({"ranks": {"0": 0}}, "rank 0 of adapter 0"),
    ],
)
def test_a_structure_that_does_not_fit_is_refused(tiny_gpt2, change, text):
    attach(tiny_gpt2, WeightLoraConfig(rank=2, keep=3))
    with pytest.raises(AdapterError, match=text):
        apply_structure(tiny_gpt2, {"survivors": [0], "ranks": {"0": 2}, **change})


def test_a_method_without_structure_says_so(tiny_gpt2):
    attach(tiny_gpt2, LoraConfig())
    with pytest.raises(AdapterError, match="takes no structure"):
        LoraConfig().restructure(tiny_gpt2, {"survivors": []})


# --- chance --------------------------------------------------------------------------


@given(st.integers(0, 2**40), st.integers(0, 9))
def test_each_seed_and_purpose_has_its_own_stream(seed, number):
    state = torch.random.get_rng_state()

    def draws(*purpose):
        return torch.rand(4, generator=seeded_generator(*purpose)).tolist()

    assert draws(seed, "expansion", number) == draws(seed, "expansion", number)
    others = [(seed + 1, "expansion", number), (seed, "expansion", number + 1), (seed, "reset", number)]
    assert all(draws(*other) != draws(seed, "expansion", number) for other in others)
    assert torch.equal(torch.random.get_rng_state(), state)


# --- going back, and states from elsewhere ------------------------------------------------------------


def training_of(model):
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


@given(fixed=st.sets(st.integers(0, 3)), frozen=st.sets(st.integers(0, 3)), seed=st.integers(0, 9))
@settings(max_examples=20)
def test_a_structure_fixes_and_thaws(tiny_gpt2, fixed, frozen, seed):
    """Whatever was fixed and frozen before: `remove_losers=False`, and back to a checkpoint from before."""
    model = copy.deepcopy(tiny_gpt2)
    attach(model, WeightLoraConfig(rank=2, keep=2, targets=("query", "key")))
    first, start = structure_of(model), training_of(model)
    generator = seeded_generator(seed)
    for parameter in trainable_parameters(model).values():
        parameter.requires_grad_(bool(torch.rand(1, generator=generator) > 0.5))
    for update in present_updates(model).values():  # one matrix frozen alone is somebody's choice
        update.lora_B.requires_grad_(update.lora_A.requires_grad)
    wanted = {**first, "fixed_weights": sorted(fixed), "frozen_pairs": sorted(frozen)}
    apply_structure(model, wanted)
    assert structure_of(model) == wanted
    apply_structure(model, first)
    assert training_of(model) == start


def test_a_matrix_that_somebody_froze_does_not_freeze_its_pair(tiny_gpt2, tmp_path):
    base = copy.deepcopy(tiny_gpt2)
    model = attach(tiny_gpt2, WeightLoraConfig(rank=2, keep=2, selection_steps=None))
    for update in present_updates(model).values():
        update.lora_A.requires_grad_(False)
    save(model, tmp_path)
    trained = trainable_parameters(load(base, tmp_path))
    assert {name.rpartition(".")[2] for name in trained} >= {"lora_B", "importance_weight"}
    apply_structure(model, structure_of(model))
    assert not any(update.lora_A.requires_grad for update in present_updates(model).values())


def selected(model, config):
    """As after the selection: adapters 1 and 2 are left, with fixed weights and the last rank."""
    attach(model, config)
    rank = config.milestones(6)[-1].rank
    config.restructure(model, {"survivors": [1, 2], "ranks": {"1": rank, "2": rank}, "fixed_weights": [1, 2]})
    return model


@pytest.mark.parametrize(
    "config", [WeightLoraConfig(rank=2, keep=2), WeightLoraPlusConfig(rank=1, keep=4, expansions=1)]
)
def test_weights_that_train_on_after_a_state_dict_are_told_at_save(tiny_gpt2, config, tmp_path):
    base = copy.deepcopy(tiny_gpt2)
    after = selected(tiny_gpt2, config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(after, tmp_path / "after")
    model = attach(base, config)
    model.load_state_dict(after.state_dict())
    with pytest.warns(ReplicationWarning, match="2 of 18 adapters remain, but their importance weights still train"):
        save(model, tmp_path / "model")
    apply_structure(model, structure_of(after))
    assert training_of(model) == training_of(after)


def test_a_merged_model_is_not_restructured_before_it_refuses(tiny_gpt2):
    config = WeightLoraConfig(rank=2, keep=2)
    state = copy.deepcopy(selected(copy.deepcopy(tiny_gpt2), config).state_dict())
    model = merge(attach(tiny_gpt2, config))
    before = structure_of(model)
    with pytest.raises(AdapterError, match="is merged"):
        model.load_state_dict(state)
    assert structure_of(model) == before
