from __future__ import annotations

import pytest

from replication.errors import ConfigError
from replication.pretraining import PretrainingConfig, pretrain, train_tokenizer
from replication.training_config import TrainingConfig

SEPARATOR = "<|endoftext|>"
PASSAGES = [f"The Golden Pear is a pub by the riverside, number {number}." for number in range(24)]


def tiny_gpt2(**sizes):
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_positions=64, n_embd=16, n_layer=2, n_head=2, **sizes))


def config(**changes) -> PretrainingConfig:
    training = TrainingConfig(steps=3, batch_size=4, warmup_steps=1, learning_rate=1e-3, threads=1)
    return PretrainingConfig(training=training, **{"vocabulary_size": 300, "dev_passages": 4, **changes})


def test_the_same_texts_give_the_same_tokenizer():
    first, second = (train_tokenizer(PASSAGES, 300, SEPARATOR) for _ in range(2))
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
    assert len(first) <= 300
    assert first.decode(first(PASSAGES[3])["input_ids"]) == PASSAGES[3]
    assert first("café £20 | 漢")["input_ids"], "a byte-level vocabulary knows every text"
    assert len(first.encode(SEPARATOR)) == 1


def test_pretraining_repeats_bit_for_bit_and_learns():
    import torch

    outcomes = [pretrain(tiny_gpt2, PASSAGES, config(), separator=SEPARATOR, seed=5) for _ in range(2)]
    (first, tokenizer, result), (second, _, _) = outcomes
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.config.vocab_size == len(tokenizer)
    assert result.curves[-1]["dev_loss"] < result.curves[0]["dev_loss"]
    assert not first.training


def test_what_only_the_tokenizer_sees_changes_no_training_text():
    more = ["name : X | Type : pub"] * 20
    _, with_more, _ = pretrain(tiny_gpt2, PASSAGES, config(), separator=SEPARATOR, seed=5, more_text=more)
    _, without, _ = pretrain(tiny_gpt2, PASSAGES, config(), separator=SEPARATOR, seed=5)
    assert len(with_more(more[0])["input_ids"]) < len(without(more[0])["input_ids"])


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="vocabulary_size=12"):
        config(vocabulary_size=12)
    with pytest.raises(ConfigError, match="dev_passages=0"):
        config(dev_passages=0)
    with pytest.raises(ConfigError, match="24 passages"):
        pretrain(tiny_gpt2, PASSAGES, config(dev_passages=24), separator=SEPARATOR, seed=0)
