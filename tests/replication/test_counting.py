"""Counts of the papers' shapes, on the meta device, and what each number covers."""

import copy

import pytest
import torch
from torch import nn

from replication.counting import Counts, parameter_counts, print_trainable_parameters
from replication.errors import AdapterError
from replication.methods import attach
from replication.methods.frozen import FrozenConfig
from replication.methods.full import FullConfig
from replication.methods.lora import LoraConfig
from replication.methods.shared.base import AdapterModule
from replication.methods.solo_connection import SoloConnectionConfig

GPT2_MEDIUM, GPT2_LARGE = (1024, 24, 16), (1280, 36, 20)
FULL = {GPT2_MEDIUM: 354_823_168, GPT2_LARGE: 774_030_080}


def gpt2(width, blocks, heads):
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):
        return GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=blocks, n_head=heads))


@pytest.mark.parametrize(
    ("shape", "config", "expected"),
    [
        (GPT2_MEDIUM, LoraConfig(), 393_216),
        (GPT2_MEDIUM, SoloConnectionConfig(), 259_499),
        (GPT2_MEDIUM, SoloConnectionConfig(skip_length=6), 250_339),
        (GPT2_MEDIUM, SoloConnectionConfig(rank=300, sparsity=0.6), 261_659),
        (GPT2_LARGE, LoraConfig(), 737_280),
        (GPT2_LARGE, SoloConnectionConfig(), 332_417),
        (GPT2_LARGE, SoloConnectionConfig(skip_length=6), 315_605),
        (GPT2_LARGE, SoloConnectionConfig(rank=300, sparsity=0.6, skip_length=6), 316_685),
    ],
)
def test_the_papers_shapes(shape, config, expected):
    counts = parameter_counts(attach(gpt2(*shape), config))
    assert counts == Counts(expected, 0, 0, expected, FULL[shape] + expected)
    assert config.closed_form_parameters(*shape[:2]) == expected


@pytest.mark.parametrize("shape", [GPT2_MEDIUM, GPT2_LARGE])
def test_full_and_frozen(shape):
    full = FULL[shape]
    assert parameter_counts(attach(gpt2(*shape), FullConfig())) == Counts(full, 0, 0, full, full)
    assert FullConfig().closed_form_parameters(*shape[:2], 50_257, 1024) == full
    assert parameter_counts(attach(gpt2(*shape), FrozenConfig())) == Counts(0, 0, 0, 0, full)


def test_a_fixed_autoencoder_counts_in_the_total_only():
    free = parameter_counts(attach(gpt2(*GPT2_MEDIUM), SoloConnectionConfig()))
    fixed = parameter_counts(attach(gpt2(*GPT2_MEDIUM), SoloConnectionConfig(train_autoencoder=False)))
    assert fixed.adapter == fixed.trainable == 11 * (1024 + 120 + 1)
    assert fixed.total == free.total


@pytest.mark.parametrize(
    "config", [LoraConfig(rank=8, targets=("query", "key", "value")), FullConfig(), FrozenConfig()]
)
def test_the_head_of_deberta_is_counted_apart(config):
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    settings = {
        "vocab_size": 128_100,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    }
    with torch.device("meta"):
        model = DebertaV2ForSequenceClassification(DebertaV2Config(**settings))
    base = sum(parameter.numel() for parameter in model.parameters())
    counts = parameter_counts(attach(model, config))
    adapter = {"lora": 442_368, "full": base - 592_130, "frozen": 0}[config.method]
    added = adapter if config.method == "lora" else 0
    assert counts == Counts(adapter, 0, 592_130, adapter + 592_130, base + added)


def test_importance_weights_are_counted_apart(tiny_gpt2):
    """As the method that has them will register them."""
    attach(tiny_gpt2, FrozenConfig())
    tiny_gpt2.extra = AdapterModule()
    tiny_gpt2.extra.importance_weight = nn.Parameter(torch.ones(5))
    tiny_gpt2.extra.lora_A = nn.Parameter(torch.ones(3))
    counts = parameter_counts(tiny_gpt2)
    assert (counts.adapter, counts.importance, counts.head, counts.trainable) == (3, 5, 0, 8)


def test_counts_as_a_dict_and_without_a_method(tiny_gpt2):
    assert list(Counts(1, 2, 3, 6, 9).to_dict()) == ["adapter", "importance", "head", "trainable", "total"]
    with pytest.raises(AdapterError, match="attach"):
        parameter_counts(tiny_gpt2)


def test_counting_follows_what_the_user_froze(tiny_gpt2):
    attach(tiny_gpt2, SoloConnectionConfig(rank=4))
    before = parameter_counts(tiny_gpt2)
    tiny_gpt2.solo_connection.encoder.bias.requires_grad_(False)
    after = parameter_counts(tiny_gpt2)
    assert before.adapter - after.adapter == 4
    assert before.total == after.total


def test_what_is_printed_is_what_peft_prints(tiny_llama, capsys):
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    get_peft_model(
        copy.deepcopy(tiny_llama), PeftLoraConfig(r=2, target_modules="all-linear")
    ).print_trainable_parameters()
    targets = ("query", "key", "value", "output", "gate_proj", "up_proj", "down_proj")
    print_trainable_parameters(attach(tiny_llama, LoraConfig(rank=2, targets=targets)))
    theirs, ours = capsys.readouterr().out.splitlines()
    assert ours == theirs
    assert ours.startswith("trainable params: ")


def test_nothing_is_printed_without_a_method(tiny_llama):
    with pytest.raises(AdapterError, match="attach"):
        print_trainable_parameters(tiny_llama)
