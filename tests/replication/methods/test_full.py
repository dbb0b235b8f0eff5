"""Full fine-tuning: everything trains, and the whole state is saved, tied weights once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from replication.methods import adapter_parameters, attach, load, save, trainable_parameters
from replication.methods.full import FullConfig


@pytest.mark.parametrize("fixture", ["tiny_gpt2", "tiny_llama", "tiny_bart"])
def test_everything_trains_even_what_was_frozen(request, fixture):
    model = request.getfixturevalue(fixture)
    model.requires_grad_(False)
    attach(model, FullConfig())
    assert list(trainable_parameters(model)) == [name for name, _ in model.named_parameters()]
    assert list(adapter_parameters(model)) == list(trainable_parameters(model))


@pytest.mark.parametrize("fixture", ["tiny_gpt2", "tiny_llama", "tiny_bart"])
def test_the_whole_state_is_saved_with_tied_weights_once(request, fixture, tmp_path):
    model = request.getfixturevalue(fixture)
    save(attach(model, FullConfig()), tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as handle:
        names = set(handle.keys())
        size = sum(handle.get_tensor(name).numel() for name in names)
    state = model.state_dict()
    assert names <= set(state)
    assert {state[name].data_ptr() for name in names} == {tensor.data_ptr() for tensor in state.values()}
    assert len(names) == len({tensor.data_ptr() for tensor in state.values()})
    assert size == sum({tensor.data_ptr(): tensor.numel() for tensor in state.values()}.values())


def test_loading_overwrites_another_model_and_keeps_weights_tied(tiny_gpt2, tmp_path):
    from transformers import GPT2LMHeadModel

    save(attach(tiny_gpt2, FullConfig()), tmp_path)
    torch.manual_seed(77)
    other = load(GPT2LMHeadModel(tiny_gpt2.config).eval(), tmp_path)
    assert other.lm_head.weight is other.transformer.wte.weight
    assert all(torch.equal(value, tiny_gpt2.state_dict()[key]) for key, value in other.state_dict().items())


@given(
    width=st.sampled_from([2, 6, 8]),
    blocks=st.integers(1, 5),
    vocabulary=st.integers(1, 50),
    n=st.integers(1, 9),
)
def test_the_closed_form_counts_a_gpt2(width, blocks, vocabulary, n):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=vocabulary, n_positions=n, n_embd=width, n_layer=blocks, n_head=1)
    with torch.device("meta"):
        model = attach(GPT2LMHeadModel(config), FullConfig())
    counted = sum(parameter.numel() for parameter in trainable_parameters(model).values())
    assert counted == FullConfig().closed_form_parameters(width, blocks, vocabulary, n)
