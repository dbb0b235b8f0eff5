"""Adapter-L: where the adapters sit, what they compute, counts."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from replication.errors import AdapterError, ConfigError
from replication.methods import attach, merge, trainable_parameters
from replication.methods.adapter_l import AdapterLConfig
from replication.testing.laws import some_ids, stir


def test_an_adapter_acts_on_the_output_of_its_block(tiny_gpt2):
    model = stir(attach(tiny_gpt2, AdapterLConfig(bottleneck=4)))
    block, adapter = model.transformer.h[1], model.adapter_l[1]
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    plain = block.forward(x)
    plain = plain[0] if isinstance(plain, tuple) else plain
    seen = block(x)
    seen = seen[0] if isinstance(seen, tuple) else seen
    norm = F.layer_norm(plain, (32,), adapter.layer_norm.weight, adapter.layer_norm.bias)
    inner = F.relu(norm @ adapter.down.weight.T + adapter.down.bias)
    torch.testing.assert_close(seen, plain + inner @ adapter.up.weight.T + adapter.up.bias)


def test_the_hidden_states_are_those_behind_the_adapters(tiny_gpt2):
    model = stir(attach(tiny_gpt2, AdapterLConfig(bottleneck=4)))
    with torch.no_grad():
        states = model(input_ids=some_ids(), output_hidden_states=True).hidden_states
        again = model.transformer.h[3](states[3])
    torch.testing.assert_close(again[0] if isinstance(again, tuple) else again, states[4])


def test_the_decoder_of_an_encoder_decoder_model(tiny_bart):
    assert len(attach(tiny_bart, AdapterLConfig(bottleneck=4)).adapter_l) == len(tiny_bart.model.decoder.layers)


@given(width=st.sampled_from([4, 8, 12]), blocks=st.integers(1, 4), bottleneck=st.integers(1, 9))
def test_the_closed_form_counts_a_gpt2(width, blocks, bottleneck):
    config = AdapterLConfig(bottleneck=bottleneck)
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=5, n_positions=4, n_embd=width, n_layer=blocks, n_head=1))
    counted = sum(p.numel() for p in trainable_parameters(attach(model, config)).values())
    assert counted == config.closed_form_parameters(width, blocks)


@pytest.mark.parametrize(
    ("width", "blocks", "bottleneck", "published"),
    [(1024, 24, 6, "0.37"), (1024, 24, 224, "11.09"), (1280, 36, 8, "0.88"), (1280, 36, 248, "23.00")],
)
def test_the_published_counts(width, blocks, bottleneck, published):
    count = AdapterLConfig(bottleneck=bottleneck).closed_form_parameters(width, blocks)
    assert f"{count / 1e6:.2f}" == published


def test_it_cannot_be_merged(tiny_gpt2):
    with pytest.raises(AdapterError, match="adapter_l cannot be merged: between"):
        merge(attach(tiny_gpt2, AdapterLConfig()))


@pytest.mark.parametrize("field", [{"bottleneck": 0}, {"init_seed": -1}, {"adapter_dtype": "float8"}])
def test_bad_fields_are_refused_by_name(field):
    with pytest.raises(ConfigError, match=next(iter(field))):
        AdapterLConfig(**field)


def test_the_seed_decides_the_start(tiny_gpt2):
    starts = [
        attach(copy.deepcopy(tiny_gpt2), AdapterLConfig(bottleneck=4, init_seed=seed)).adapter_l[3].down.weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert starts[0].detach().std() == pytest.approx(0.02, rel=0.3)
