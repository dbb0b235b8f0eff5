"""The prefix cache against training without it, whose dropout is off in the same blocks."""

from __future__ import annotations

import random
import signal
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from replication.errors import ConfigError, Stopped
from replication.examples import Encoded
from replication.methods import attach, attached_config, method_config, method_names
from replication.training.checks import check_before_training
from replication.training.config import TrainingConfig
from replication.training.loop import train
from replication.training.losses import token_loss
from replication.training.prefix_cache import GIB, _Rows, frozen_prefix

VOCABULARY, BLOCKS, LAST = 31, 4, 2
CONFIG = TrainingConfig(
    steps=12, warmup_steps=2, learning_rate=0.01, batch_size=4, eval_every=6, log_every=1, threads=1
)


def rows(number: int, seed: int) -> list[Encoded]:
    """Texts of unlike lengths."""
    source = random.Random(seed)
    texts = [[source.randint(3, VOCABULARY - 1) for _ in range(source.randint(3, 12))] for _ in range(number)]
    return [Encoded(ids, [0, *([1] * (len(ids) - 1))]) for ids in texts]


TRAIN, DEV = rows(12, seed=0), rows(5, seed=1)


def gpt2(dropout: float) -> nn.Module:
    shape = {"vocab_size": VOCABULARY, "n_positions": 32, "n_embd": 16, "n_layer": BLOCKS, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**shape, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout))


def llama(dropout: float) -> nn.Module:
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": BLOCKS}
    return LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, attention_dropout=dropout))


def encoder(kind: type, config: type, dropout: float, **more: Any) -> nn.Module:
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": BLOCKS}
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return kind(config(**shape, **drops, **more, num_attention_heads=2, max_position_embeddings=32, num_labels=3))


def bert(dropout: float) -> nn.Module:
    return encoder(BertForSequenceClassification, BertConfig, dropout, classifier_dropout=0.0)


def deberta(dropout: float, **more: Any) -> nn.Module:
    """With the relative positions of DeBERTaV3."""
    positions = {"relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}
    positions |= {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0}
    kind = DebertaV2ForSequenceClassification
    return encoder(kind, DebertaV2Config, dropout, **positions, cls_dropout=0.0, **more)


def bart(dropout: float) -> nn.Module:
    shape = {"vocab_size": VOCABULARY, "d_model": 16, "encoder_layers": BLOCKS, "decoder_layers": 2}
    heads = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in HEADS.items()}
    config = BartConfig(**shape, **heads, max_position_embeddings=32, dropout=dropout, attention_dropout=dropout)
    return BartForConditionalGeneration(config)


HEADS = {"attention_heads": 2, "ffn_dim": 32}


def label_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The label is the first token modulo 3."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    loss = nn.functional.cross_entropy(logits, batch["input_ids"][:, 0] % 3, reduction="sum")
    return loss, logits.new_tensor(len(logits))


def copy_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The summary is the document."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=ids, use_cache=False).logits
    return nn.functional.cross_entropy(logits[mask.bool()], ids[mask.bool()], reduction="sum"), mask.sum()


Family = namedtuple("Family", "build loss target stack")
FAMILIES = {
    "gpt2": Family(gpt2, token_loss, f"h.{LAST}.mlp.c_fc", "transformer.h"),
    "llama": Family(llama, token_loss, f"layers.{LAST}.mlp.up_proj", "model.layers"),
    "bert": Family(bert, label_loss, f"layer.{LAST}.attention.self.value", "bert.encoder.layer"),
    "deberta": Family(deberta, label_loss, f"layer.{LAST}.attention.self.value_proj", "deberta.encoder.layer"),
    "bart": Family(bart, copy_loss, f"encoder.layers.{LAST}.self_attn.v_proj", "model.encoder.layers"),
}


def built(build: Callable[[float], nn.Module], method: Any, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return attach(build(dropout), method)


def trained(model: nn.Module, config: TrainingConfig, loss: Any, **more: Any) -> Any:
    callback = attached_config(model).training_callback(config)
    return train(model, TRAIN, DEV, config, seed=1, pad_id=0, loss_function=loss, callback=callback, **more)


def assert_close(one: nn.Module, other: nn.Module) -> None:
    ones, others = ({n: p for n, p in m.named_parameters() if p.requires_grad} for m in (one, other))
    assert ones.keys() == others.keys()
    for name, parameter in ones.items():
        torch.testing.assert_close(parameter, others[name], atol=2e-4, rtol=0, msg=name)


def losses(result: Any) -> list[float]:
    return [row["loss"] for row in result.curves if row["loss"] is not None]


# Equal to training without the cache


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_training_without_dropout_in_the_prefix(family: str) -> None:
    """Blocks from the trained one on keep their dropout, and draw the same numbers for it."""
    build, loss, target, stack = FAMILIES[family]
    lora = method_config("lora", rank=2, targets=(target,))
    with_cache, without = built(build, lora, 0.3), built(build, lora, 0.3)
    silent = [module for block in without.get_submodule(stack)[:LAST] for module in block.modules()]
    body = without.get_submodule(stack.rpartition(".")[0])
    silent += [m for name, m in without.named_modules() if "embed" in name or name == "transformer.drop"]
    for module in (*silent, *([body] if family == "bart" else [])):  # BART's blocks drop by a number of their own
        for name in ("p", "dropout", "attention_dropout", "activation_dropout", "drop_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    calls: list[int] = []
    first = with_cache.get_submodule(stack)[0]
    plain = first.forward.__func__
    counted = {"forward": lambda *args, **kwargs: calls.append(1) or plain(*args, **kwargs)}
    first.__class__ = type("Counted", (type(first),), counted)
    cached = trained(with_cache, replace(CONFIG, prefix_cache=0.01), loss)
    uncached = trained(without, CONFIG, loss)
    assert (cached.frozen_blocks, uncached.frozen_blocks) == (LAST, None)
    assert losses(cached) == pytest.approx(losses(uncached), abs=1e-4)
    assert cached.dev_loss == pytest.approx(uncached.dev_loss, abs=1e-4)
    assert_close(with_cache, without)
    assert len(calls) == 1 + 2 + 3  # the search for the first trained block, the dev rows, one epoch


SELECTION = {"rank": 2, "keep": 2, "selection_steps": 4, "dropout": 0.0}
SMALL = {
    "lora": {"rank": 2, "targets": ("value",)},
    "solo_connection": {"rank": 4, "skip_length": 2, "dropout": 0.0},
    "weight_lora": {"rank": 2, "keep": 2, "selection_steps": 4, "dropout": 0.0},
    "weight_lora_plus": {
        "rank": 2,
        "keep": 2,
        "selection_steps": 4,
        "expansions": 1,
        "expand_every": 2,
        "dropout": 0.0,
    },
    "random_lora": {"rank": 2, "keep": 2},
    "peft_baselines": {"name": "prompt_tuning", "settings": {"num_virtual_tokens": 2}},
}


@pytest.mark.parametrize("method", sorted(set(method_names()) - {"baseline"}))
def test_every_method_trains_the_same(method: str) -> None:
    """Whatever the method, with a dropout of 0 the cache changes rounding alone."""
    config = method_config(method, **SMALL.get(method, {}))
    one, other = (
        built(bert if method == "frozen" else gpt2, config),
        built(bert if method == "frozen" else gpt2, config),
    )
    loss = label_loss if method == "frozen" else token_loss
    cached = trained(one, replace(CONFIG, prefix_cache=0.01), loss)
    assert losses(cached) == pytest.approx(losses(trained(other, CONFIG, loss)), abs=1e-4)
    assert_close(one, other)
    if method in ("full", "peft_baselines"):  # the first thing that trains is the embeddings, or comes before them
        assert cached.frozen_blocks == 0
    if method == "frozen":  # a head on features
        assert cached.frozen_blocks == BLOCKS


def test_the_cache_begins_after_the_selection() -> None:
    model = built(gpt2, method_config("weight_lora", rank=2, keep=1, selection_steps=4, targets=("value",)))
    result = trained(model, replace(CONFIG, prefix_cache=0.01), token_loss)
    assert "forward" not in vars(model.transformer.h[0])
    [survivor] = [int(name.split(".")[2]) for name, p in model.named_parameters() if name.endswith("lora_A")]
    assert result.frozen_blocks == survivor


def test_a_convolution_after_the_first_block_is_no_place_to_begin() -> None:
    """DeBERTa-v2-xlarge: what enters the second block is not what the first returned."""
    lora = method_config("lora", rank=2, targets=("layer.1.attention.self.value_proj",))
    build = lambda dropout: deberta(dropout, conv_kernel_size=3, conv_act="gelu")  # noqa: E731
    one, other = built(build, lora), built(build, lora)
    cached = trained(one, replace(CONFIG, prefix_cache=0.01), label_loss)
    assert cached.frozen_blocks == 0
    assert losses(cached) == losses(trained(other, CONFIG, label_loss))


# The bound, the file, resuming


LORA_LAST = method_config("lora", rank=2, dropout=0.1, targets=(FAMILIES["gpt2"].target,))


def test_rows_beyond_the_bound_are_computed(tmp_path) -> None:
    results = []
    for bound in (0.0, 20 * 16 * 4 / GIB, 0.01):  # nothing, some 20 tokens, everything
        model = built(gpt2, LORA_LAST, 0.1)
        results.append(losses(trained(model, replace(CONFIG, prefix_cache=bound), token_loss)))
    assert results[0] == pytest.approx(results[1], abs=1e-4)
    assert results[0] == pytest.approx(results[2], abs=1e-4)


def test_a_resumed_run_ends_with_the_same_bits_and_leaves_no_file(tmp_path) -> None:
    config = replace(CONFIG, prefix_cache=0.01, checkpoint_every=5)
    method = method_config("weight_lora", rank=2, keep=1, selection_steps=3, targets=("value",))
    whole = built(gpt2, method, 0.1)
    expected = trained(whole, config, token_loss, checkpoint_directory=tmp_path / "whole")

    def killed_at_step_8(model: nn.Module) -> dict[str, float]:
        steps.append(1)
        if len(steps) == 9:
            raise KeyboardInterrupt
        return {}

    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        trained(
            built(gpt2, method, 0.1),
            config,
            token_loss,
            checkpoint_directory=tmp_path / "cut",
            report_state=killed_at_step_8,
        )
    assert list((tmp_path / "cut").glob("prefix-0/prefix-*/states.bin"))
    resumed = built(gpt2, method, 0.1)
    result = trained(resumed, config, token_loss, checkpoint_directory=tmp_path / "cut")
    assert result.resumed_from == 5
    assert result.frozen_blocks == expected.frozen_blocks
    assert result.curves == expected.curves
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert not list(tmp_path.glob("*/prefix-*"))


def test_a_run_resumed_after_its_last_step_reports_what_was_left_out(tmp_path) -> None:
    config = replace(CONFIG, prefix_cache=0.01, checkpoint_every=5)
    first, again = (trained(built(gpt2, LORA_LAST), config, token_loss, checkpoint_directory=tmp_path) for _ in "ab")
    assert again.resumed_from == config.steps
    assert again.frozen_blocks == first.frozen_blocks == LAST


def test_a_dropout_beside_the_body_draws_nothing_while_the_prefix_is_looked_for(tmp_path) -> None:
    """Solo Connection's is called between blocks and is no part of the body."""
    method = method_config("solo_connection", rank=4, skip_length=2, dropout=0.5)
    config = replace(CONFIG, prefix_cache=0.01, checkpoint_every=5)
    whole, resumed = built(gpt2, method), built(gpt2, method)
    expected = trained(whole, config, token_loss, checkpoint_directory=tmp_path / "whole")

    def stop() -> int:
        steps.append(1)
        return signal.SIGTERM if len(steps) == 7 else 0

    steps: list[int] = []
    with pytest.raises(Stopped):
        trained(resumed, config, token_loss, checkpoint_directory=tmp_path / "cut", stop=stop)
    result = trained(built(gpt2, method), config, token_loss, checkpoint_directory=tmp_path / "cut")
    assert result.resumed_from == 7
    assert result.curves == expected.curves


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stored_rows_come_back_up_to_the_first_that_is_not_whole(tmp_path, dtype) -> None:
    stored = _Rows(tmp_path, width=3, dtype=dtype, limit=10 * 3 * dtype.itemsize)
    rows = {name: torch.randn(length, 3).to(dtype) for name, length in (("a", 2), ("b", 5), ("c", 4), ("d", 3))}
    stored.add(rows)
    assert set(stored.places) == {"a", "b", "d"}  # 10 tokens have room
    again = _Rows(tmp_path, width=3, dtype=dtype, limit=10 * 3 * dtype.itemsize)
    assert again.places == stored.places
    assert all(torch.equal(again[name], rows[name]) for name in again.places)
    again.states[3] += 1
    assert set(_Rows(tmp_path, width=3, dtype=dtype, limit=10 * 3 * dtype.itemsize).places) == {"a"}


def test_rows_padded_in_another_way_are_not_stored() -> None:
    model = built(gpt2, LORA_LAST)
    ids, right = torch.arange(3, 13).reshape(2, 5), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    for mask, stored in ((right.flip(1), 1), (right, 2), (None, 2)):
        plain = model.eval()(input_ids=ids, attention_mask=mask).logits
        real = torch.ones_like(ids) if mask is None else mask
        with frozen_prefix(model, 0.01, None) as prefix, torch.no_grad():
            first, second = (model(input_ids=ids, attention_mask=mask).logits for _ in range(2))
            assert len(prefix.rows.places) == stored
        torch.testing.assert_close(first[real.bool()], plain[real.bool()])
        assert torch.equal(first, second)


def test_new_weights_of_the_prefix_start_the_cache_anew() -> None:
    model = built(gpt2, LORA_LAST).eval()
    ids = torch.arange(3, 13).reshape(2, 5)
    with torch.no_grad():
        with frozen_prefix(model, 0.01, None):
            before = model(input_ids=ids).logits
            model.transformer.h[0].mlp.c_fc.weight.mul_(3)
            changed = model(input_ids=ids).logits
        assert not torch.allclose(before, changed)
        torch.testing.assert_close(changed, model(input_ids=ids).logits)


# Refusals


def test_what_cannot_be_cached_is_refused_before_any_work(tmp_path, monkeypatch) -> None:
    on = replace(CONFIG, prefix_cache=0.01)
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )
    with pytest.raises(ConfigError, match=r"prefix_cache: how a model of type t5 .* it serves bart, bert, deberta-v2"):
        train(t5, TRAIN, DEV, on, seed=1, pad_id=0)
    model = built(gpt2, LORA_LAST)
    with pytest.raises(ConfigError, match="gradient_checkpointing"):
        train(model, TRAIN, DEV, replace(on, gradient_checkpointing=True), seed=1, pad_id=0)
    with pytest.raises(ConfigError, match=r"GiB are allowed, but .* GiB free; lower the setting"):
        train(model, TRAIN, DEV, replace(on, prefix_cache=1e9), seed=1, pad_id=0, checkpoint_directory=tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(ConfigError, match="not gathered by FSDP2"):
        check_before_training(model, TRAIN, DEV, on, 2, trains=True)
    monkeypatch.undo()
    model.config.output_hidden_states = True
    with pytest.raises(ConfigError, match="output_hidden_states"):
        train(model, TRAIN, DEV, on, seed=1, pad_id=0)
