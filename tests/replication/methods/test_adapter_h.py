"""Adapter-H: where the adapters sit, what they compute, what trains, counts."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from replication.errors import AdapterError, ConfigError
from replication.methods import attach, detach, merge, trainable_parameters
from replication.methods.adapter_h import AdapterHConfig, block_norms
from replication.testing.laws import logits_of, some_ids, state_of, stir


def inputs_to(module, run):
    """The input of a module's forward, and its output as the rest of the model sees it."""
    seen = []
    handle = module.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    run()
    handle.remove()
    return seen[0]


def test_an_adapter_follows_attention_and_feedforward_before_the_residual(tiny_gpt2):
    model = stir(attach(tiny_gpt2, AdapterHConfig(bottleneck=4)))
    block, adapters = model.transformer.h[2], model.adapter_h[4:6]
    for projection, adapter in zip((block.attn.c_proj, block.mlp.c_proj), adapters, strict=True):
        given_, seen = inputs_to(projection, lambda: logits_of(model, some_ids()))
        plain = projection.forward(given_)
        down = F.gelu(plain @ adapter.down.weight.T + adapter.down.bias)
        torch.testing.assert_close(seen, plain + down @ adapter.up.weight.T + adapter.up.bias)


def test_a_block_of_each_architecture_has_its_adapters(tiny_gpt2, tiny_llama, tiny_bart):
    shape = BertConfig(vocab_size=97, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64)
    bert = BertForSequenceClassification(shape)
    for model, adapters in ((tiny_gpt2, 12), (tiny_llama, 12), (tiny_bart, 2 * 2 + 6 * 3), (bert, 6)):
        assert len(attach(model, AdapterHConfig(bottleneck=4)).adapter_h) == adapters
    assert bert.get_submodule("bert.encoder.layer.0.attention.output.dense")._forward_hooks
    assert not bert.bert.pooler.dense._forward_hooks


def test_it_compiles_whole_with_its_changed_layer_norms(tiny_gpt2):
    model = stir(attach(tiny_gpt2, AdapterHConfig(bottleneck=4)))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(logits_of(compiled, some_ids()), logits_of(model, some_ids()))


def test_the_norms_of_the_blocks_change_as_if_they_trained_themselves(tiny_llama):
    model = attach(tiny_llama, AdapterHConfig(bottleneck=4))
    norms, changes = block_norms(model), model.adapter_h_norms
    assert len(norms) == len(changes) == 12
    assert model.model.norm not in norms
    before, twin = state_of(model), copy.deepcopy(tiny_llama)
    with torch.no_grad():
        for change in changes:
            change.weight.fill_(0.25)
        for norm in block_norms(detach(twin)):
            norm.weight.add_(0.25)
    assert torch.equal(logits_of(model, some_ids()), logits_of(twin, some_ids()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if "norms" not in name)


def test_without_the_norms_only_the_bottlenecks_train(tiny_gpt2):
    attach(tiny_gpt2, AdapterHConfig(bottleneck=4, train_layer_norms=False))
    assert not hasattr(tiny_gpt2, "adapter_h_norms")
    assert all(name.startswith("adapter_h.") for name in trainable_parameters(tiny_gpt2))


@given(width=st.sampled_from([4, 8, 12]), blocks=st.integers(1, 4), bottleneck=st.integers(1, 9), norms=st.booleans())
def test_the_closed_form_counts_a_gpt2(width, blocks, bottleneck, norms):
    config = AdapterHConfig(bottleneck=bottleneck, train_layer_norms=norms)
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=5, n_positions=4, n_embd=width, n_layer=blocks, n_head=1))
    counted = sum(p.numel() for p in trainable_parameters(attach(model, config)).values())
    assert counted == config.closed_form_parameters(width, blocks)


def test_the_seed_decides_the_start(tiny_gpt2):
    starts = [
        attach(copy.deepcopy(tiny_gpt2), AdapterHConfig(bottleneck=4, init_seed=seed)).adapter_h[3].down.weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert 0 < starts[0].abs().max() <= 0.02


def test_it_cannot_be_merged(tiny_gpt2):
    with pytest.raises(AdapterError, match="adapter_h cannot be merged: between"):
        merge(attach(tiny_gpt2, AdapterHConfig()))


def test_a_model_without_a_feedforward_network_is_refused(tiny_gpt2):
    for block in tiny_gpt2.transformer.h:
        block.mlp = torch.nn.Identity()
    with pytest.raises(AdapterError, match="no second projection of a feedforward network"):
        attach(tiny_gpt2, AdapterHConfig())


@pytest.mark.parametrize(
    "field", [{"bottleneck": 0}, {"train_layer_norms": 1}, {"init_seed": -1}, {"adapter_dtype": ""}]
)
def test_bad_fields_are_refused_by_name(field):
    with pytest.raises(ConfigError, match=next(iter(field))):
        AdapterHConfig(**field)
