"""Teacher-forced loss on references: the training loss of the same pairs, whatever the batches."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from replication.errors import ConfigError, DataError, TrainingError
from replication.examples import TextPair, encode_pair
from replication.metrics import find
from replication.metrics.programs import Programs
from replication.tasks.reference_losses import encode_references, reference_losses
from replication.tasks.text_generation import GenerationOptions
from replication.training.losses import evaluate_loss

SEPARATOR = "<|endoftext|>"
ROWS = [
    {"context": "w1 w2 w3", "references": ["w4 w5", "w6 w7 w8 w9 w10 w11", "w12"]},
    {"context": "w5", "references": ["w1"]},
    {"context": "w9 w9 w9 w9 w9 w9", "references": ["w2 w3 w4 w5 w6 w7 w8", "w9 w10"]},
]


@pytest.fixture
def tokenizer():
    words = {SEPARATOR: 0} | {f"w{number}": number for number in range(1, 97)}
    core = Tokenizer(models.WordLevel(words, unk_token=SEPARATOR))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=SEPARATOR)


def losses_of(model, tokenizer, count, batch_size=2, rows=ROWS, progress=None):
    references = encode_references(model, tokenizer, rows, count, separator=SEPARATOR)
    return reference_losses(model, references, batch_size, progress)


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_it_is_the_dev_loss_of_the_same_pairs(request, tokenizer, family, count):
    model = request.getfixturevalue(family)
    pairs = [TextPair(row["context"], text) for row in ROWS for text in row["references"][:count]]
    examples = [encode_pair(tokenizer, pair, 0, 64) for pair in pairs]
    expected = evaluate_loss(model, examples, batch_size=3, pad_id=0)
    found = losses_of(model, tokenizer, count)
    assert find("reference_loss").official(found, Programs()) == pytest.approx(expected, rel=1e-5)
    assert sum(row["reference_tokens"] for row in found) == sum(sum(example.loss_mask) for example in examples)
    for row, loss in zip(ROWS, found, strict=True):
        own = [encode_pair(tokenizer, TextPair(row["context"], text), 0, 64) for text in row["references"][:count]]
        assert loss["reference_tokens"] == sum(len(text.split()) + 1 for text in row["references"][:count])
        nats = evaluate_loss(model, own, batch_size=9, pad_id=0) * loss["reference_tokens"]
        assert loss["reference_nll"] == pytest.approx(nats, rel=1e-5)


def test_batches_change_nothing_and_every_item_is_told_once(tiny_gpt2, tokenizer):
    told: list[int] = []
    one = losses_of(tiny_gpt2, tokenizer, 2, batch_size=1, progress=told.append)
    assert sum(told) == len(ROWS)
    many = losses_of(tiny_gpt2, tokenizer, 2, batch_size=16)
    for first, second in zip(one, many, strict=True):
        assert first["reference_nll"] == pytest.approx(second["reference_nll"], rel=1e-5)
        assert first["reference_tokens"] == second["reference_tokens"]


def test_dropout_is_off_and_the_models_mode_is_kept(tiny_gpt2, tokenizer):
    expected = losses_of(tiny_gpt2, tokenizer, 1)
    tiny_gpt2.train()
    assert losses_of(tiny_gpt2, tokenizer, 1) == expected
    assert tiny_gpt2.training


def test_what_cannot_be_scored_is_named(tiny_gpt2, tokenizer):
    with pytest.raises(DataError, match="'w1' has no reference to score; set references_scored to 0"):
        losses_of(tiny_gpt2, tokenizer, 1, rows=[{"context": "w1", "references": []}])
    with pytest.raises(DataError, match="more than max_length=64"):
        losses_of(tiny_gpt2, tokenizer, 1, rows=[{"context": "w1", "references": ["w2 " * 64]}])
    with torch.no_grad():
        tiny_gpt2.transformer.ln_f.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="'item 1': the model returns nan"):
        losses_of(tiny_gpt2, tokenizer, 1)


@pytest.mark.parametrize("wrong", [-1, 1.0, True, "2", None])
def test_the_number_of_references_is_a_whole_number(wrong):
    with pytest.raises(ConfigError, match=r"references_scored=.*; valid is a whole number of at least 0"):
        GenerationOptions(references_scored=wrong)


def test_the_metric_weighs_every_token_alike_and_needs_every_row():
    rows = [{"reference_nll": 1.0, "reference_tokens": 1}, {"reference_nll": 1.0, "reference_tokens": 3}]
    assert find("reference_loss").official(rows, Programs()) == 0.5
    assert find("reference_loss").measured(rows)
    assert not find("reference_loss").measured([*rows, {"prediction": "x"}])
    assert not find("reference_loss").measured([])
