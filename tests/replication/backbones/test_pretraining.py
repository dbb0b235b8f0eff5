from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from replication.backbones.pretraining import PretrainingConfig, pretrain
from replication.backbones.vocabularies import train_tokenizer
from replication.errors import ConfigError
from replication.training.config import TrainingConfig

SEPARATOR = "<|endoftext|>"
PASSAGES = [f"The Golden Pear is a pub by the riverside, number {number}." for number in range(24)]


def tiny_gpt2(**sizes):
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_positions=64, n_embd=16, n_layer=2, n_head=2, **sizes))


def config(**changes) -> PretrainingConfig:
    training = TrainingConfig(steps=3, batch_size=4, warmup_steps=1, learning_rate=1e-3, threads=1)
    return PretrainingConfig(**{"training": training, "vocabulary_size": 300, "dev_passages": 4, **changes})


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


@pytest.mark.parametrize(("task", "copies"), [("causal_lm", 1), ("masked_lm", 3)])
def test_no_passage_of_the_dev_loss_is_learnt_from(monkeypatch, task, copies):
    import replication.training.loop as loop

    given = {}
    monkeypatch.setattr(loop, "train", lambda model, learnt, dev, *_, **__: given.update(learnt=learnt, dev=dev))
    architecture = {"causal_lm": "gpt2", "masked_lm": "deberta-v2"}[task]
    settings = config(copies=copies, training=replace(config().training, label_smoothing=0.0))
    build = tiny_gpt2 if task == "causal_lm" else partial(tiny, "deberta-v2")
    for seed in (5, 6):
        pretrain(build, PASSAGES, settings, separator=SEPARATOR, seed=seed, architecture=architecture, task=task)
        learnt, dev = ([example.text for example in given[name]] for name in ("learnt", "dev"))
        assert sorted(learnt) == sorted(copies * list(set(PASSAGES) - set(dev)))
        assert len(dev) == len(set(dev)) == 4


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="vocabulary_size=12"):
        config(vocabulary_size=12)
    with pytest.raises(ConfigError, match="dev_passages=0"):
        config(dev_passages=0)
    with pytest.raises(ConfigError, match="24 passages"):
        pretrain(tiny_gpt2, PASSAGES, config(dev_passages=24), separator=SEPARATOR, seed=0)


def tiny(architecture, **sizes):
    """A model of one block with the configuration fields that pretraining sets."""
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        DebertaV2Config,
        DebertaV2ForMaskedLM,
        LlamaConfig,
        LlamaForCausalLM,
    )

    if architecture == "bart":
        layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        shape = {**layers, **heads, "d_model": 16, "max_position_embeddings": 64, "dropout": 0.0}
        return BartForConditionalGeneration(BartConfig(**shape, **sizes))
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape, **sizes))
    return DebertaV2ForMaskedLM(DebertaV2Config(**shape, relative_attention=True, **sizes))


@pytest.mark.parametrize(
    ("architecture", "task", "separator", "copies"),
    [
        ("deberta-v2", "masked_lm", "[SEP]", 2),
        ("bart", "seq2seq_lm", "</s>", 2),
        ("llama", "causal_lm", SEPARATOR, 1),
    ],
)
def test_every_architecture_repeats_bit_for_bit_and_learns(architecture, task, separator, copies):
    import torch

    training = TrainingConfig(
        steps=6, batch_size=4, warmup_steps=1, learning_rate=1e-2, label_smoothing=0.0, threads=1, eval_every=3
    )
    settings = config(training=training, copies=copies)
    outcomes = [
        pretrain(
            partial(tiny, architecture),
            PASSAGES,
            settings,
            separator=separator,
            seed=5,
            architecture=architecture,
            task=task,
        )
        for _ in range(2)
    ]
    (first, tokenizer, result), (second, _, again) = outcomes
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert [row["dev_loss"] for row in result.curves] == [row["dev_loss"] for row in again.curves]
    assert result.dev_loss < result.curves[0]["dev_loss"]
    assert first.config.vocab_size == len(tokenizer)
    assert first.config.pad_token_id == tokenizer.pad_token_id
    assert not first.training


def test_gpt2_pretrains_as_it_did_before_there_were_objectives():
    """Oracle: the loop called by hand on passages encoded one by one, as committed results were made."""
    import random

    import torch

    from replication.examples import encode_text
    from replication.training.determinism import seed_everything
    from replication.training.loop import train

    model, tokenizer, result = pretrain(tiny_gpt2, PASSAGES, config(), separator=SEPARATOR, seed=5)
    order = list(range(len(PASSAGES)))
    random.Random(5).shuffle(order)
    encoded = [encode_text(tokenizer, PASSAGES[index], 0, 96) for index in order]
    seed_everything(5)
    expected = tiny_gpt2(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0)
    curves = train(expected, encoded[4:], encoded[:4], config().training, seed=5, pad_id=0).curves
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    assert result.curves == curves
    assert model.config.to_dict() == expected.config.to_dict()


def test_settings_that_do_not_fit_the_objective():
    more = {"architecture": "deberta-v2", "task": "masked_lm"}
    with pytest.raises(ConfigError, match=r"label_smoothing=0\.1: the masked objective has none"):
        pretrain(tiny_gpt2, PASSAGES, config(), separator="[SEP]", seed=0, **more)
    with pytest.raises(ConfigError, match="copies=2: the causal objective corrupts nothing"):
        pretrain(tiny_gpt2, PASSAGES, config(copies=2), separator=SEPARATOR, seed=0)
    with pytest.raises(ConfigError, match=r"noise_share=0\.2: the causal objective corrupts nothing"):
        pretrain(tiny_gpt2, PASSAGES, config(noise_share=0.2), separator=SEPARATOR, seed=0)
    with pytest.raises(ConfigError, match="copies=0"):
        config(copies=0)
    with pytest.raises(ConfigError, match=r"noise_share=1\.5"):
        config(noise_share=1.5)
