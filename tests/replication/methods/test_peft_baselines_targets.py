"""Full names of the modules that a rival wraps."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, MPNetConfig, MPNetModel

from replication.errors import AdapterError
from replication.methods.peft_baselines import (
    ia3_modules,
    is_feedforward,
    modules_ending,
    name_pattern,
    whole_projections,
)


def empty(kind, config):
    with torch.device("meta"):
        return kind(config)


SIZES = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}


def test_roles_give_full_names_in_module_order():
    model = empty(BertModel, BertConfig(**SIZES))
    start = "encoder.layer.0.attention.self."
    assert whole_projections(model, ("value", "query"), "dora") == [start + "query", start + "value"]


def test_a_fused_projection_is_taken_whole_or_not_at_all():
    model = empty(GPT2Model, GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2))
    assert whole_projections(model, ("c_attn",), "dora") == ["h.0.attn.c_attn"]
    with pytest.raises(AdapterError, match=r"dora cannot wrap only value: h\.0\.attn\.c_attn"):
        whole_projections(model, ("c_fc", "value"), "dora")
    assert ia3_modules(model) == ["h.0.attn.c_attn", "h.0.mlp.c_proj"]


def test_the_feedforward_of_a_bert_is_not_the_output_of_its_attention():
    model = empty(BertModel, BertConfig(**SIZES))
    start = "encoder.layer.0."
    assert ia3_modules(model) == [f"{start}attention.self.key", f"{start}attention.self.value", f"{start}output.dense"]
    assert not is_feedforward(f"{start}attention.output.dense")
    assert not is_feedforward(f"{start}intermediate.dense")


def test_mpnet_is_known():
    model = empty(MPNetModel, MPNetConfig(**SIZES))
    start = "encoder.layer.0."
    assert ia3_modules(model) == [f"{start}attention.attn.k", f"{start}attention.attn.v", f"{start}output.dense"]


def test_a_model_without_a_feedforward_says_what_was_looked_for():
    model = torch.nn.ModuleDict({"key": torch.nn.Linear(2, 2), "value": torch.nn.Linear(2, 2)})
    with pytest.raises(AdapterError, match=r"no second projection .* \(looked for output\.dense, fc2"):
        ia3_modules(model)


def test_modules_are_found_by_the_end_of_their_name():
    model = empty(BertModel, BertConfig(**SIZES))
    norms = modules_ending(model, ("LayerNorm",))
    assert len(norms) == 3
    with pytest.raises(AdapterError, match=r"'encoder' matches no module .*LayerNorm"):
        modules_ending(model, ("encoder",))  # it has children: it is no layer


NAMES = st.lists(st.from_regex(r"[a-z0-9_]{1,4}(\.[a-z0-9_]{1,4}){0,3}", fullmatch=True), max_size=6)


@given(chosen=NAMES, others=NAMES)
def test_the_pattern_matches_the_names_and_nothing_else(chosen, others):
    pattern = name_pattern(chosen)
    for name in [*chosen, *others, "", "x" + ".".join(chosen)]:
        assert bool(re.fullmatch(pattern, name)) == (name in chosen)
