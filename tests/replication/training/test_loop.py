"""The training loop: its recipe, its arithmetic, its refusals."""

import copy
import json
import math
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, get_linear_schedule_with_warmup

from replication.errors import ConfigError, DataError, TrainingError
from replication.examples import Encoded, collate, indices_of_step
from replication.methods import attach, method_config, trainable_parameters
from replication.methods.lora import LoraConfig
from replication.training.bfloat16 import narrow_weights
from replication.training.callbacks import Callback
from replication.training.config import TrainingConfig, learning_rate_at
from replication.training.loop import train
from replication.training.losses import evaluate_loss, to_device, token_loss

VOCABULARY = 31


CONFIG = TrainingConfig(steps=6, warmup_steps=2, learning_rate=0.01, batch_size=4, log_every=2, threads=1)


def tiny(dropout=0.1, seed=0):
    torch.manual_seed(seed)
    sizes = {"vocab_size": VOCABULARY, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    dropouts = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    return GPT2LMHeadModel(GPT2Config(**sizes, **dropouts, bos_token_id=0, eos_token_id=0)).eval()


def corpus(examples, seed=0):
    """Rows that count upwards after a context of random length, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    rows = []
    for _ in range(examples):
        start, given, learned = number(1, 30), number(1, 6), number(1, 9)
        ids = [1 + (start + i) % 30 for i in range(given + learned)]
        rows.append(Encoded(ids, [0] * given + [1] * learned, text=f"count from {ids[0]}"))
    return rows


TRAIN, DEV = corpus(21), corpus(9, seed=1)


LENGTHS = [len(row) for row in TRAIN]


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# --- the loss


class Fixed(torch.nn.Module):
    """A model with the same logits whatever it is given."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, **_):
        return self


# --- the loop


def by_hand(model, config, seed):
    """The recipe without this project's loop: plain torch and transformers' schedule."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = get_linear_schedule_with_warmup(optimizer, config.warmup_steps, config.steps)
    model.train()
    losses, norms = [], []
    window = config.batch_size * config.accumulation_steps
    for step in range(1, config.steps + 1):
        batch = collate([TRAIN[i] for i in indices_of_step(step, LENGTHS, window, seed, config.batching)], 0)
        labels = batch["input_ids"].masked_fill(batch["loss_mask"] == 0, -100)[:, 1:]
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        loss = F.cross_entropy(logits.transpose(1, 2), labels, label_smoothing=config.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])))
        if config.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses, norms


@contextmanager
def recorded_norms():
    """The norm of every gradient the loop makes: Adam would hide a wrong scale from the weights."""
    original, norms = torch.nn.utils.get_total_norm, []

    def record(gradients):
        norms.append(float(original(gradients)))
        return original(gradients)

    with mock.patch.object(torch.nn.utils, "get_total_norm", record):
        yield norms


@settings(max_examples=8)
@given(
    accumulation=st.sampled_from([1, 2, 4]),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    clip=st.sampled_from([None, 0.05]),
    warmup=st.integers(0, 6),
    batching=st.sampled_from(["random", "bucketed"]),
    seed=st.integers(0, 2**20),
)
def test_the_loop_is_the_recipe_however_the_batch_is_accumulated(accumulation, smoothing, clip, warmup, batching, seed):
    config = replace(
        CONFIG,
        batch_size=8 // accumulation,
        accumulation_steps=accumulation,
        label_smoothing=smoothing,
        max_grad_norm=clip,
        warmup_steps=warmup,
        batching=batching,
        log_every=1,
    )
    model, reference = tiny(dropout=0), tiny(dropout=0)
    with recorded_norms() as norms:
        result = train(model, TRAIN, [], config, seed=seed, pad_id=0)
    losses, expected_norms = by_hand(reference, config, seed)
    assert norms == pytest.approx(expected_norms, rel=1e-3)
    assert [row["loss"] for row in result.curves[1:]] == pytest.approx(losses, rel=1e-4)
    for name, tensor in reference.state_dict().items():
        # Adam divides by the root of tiny second moments, so the last bits of a gradient may show
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-3, atol=2e-4)


def test_accumulating_two_by_four_is_a_batch_of_eight():
    one, other = tiny(dropout=0), tiny(dropout=0)
    # the rows have very unequal numbers of target tokens: the mean of two means would be another loss
    first = train(one, TRAIN, DEV, replace(CONFIG, batch_size=8), seed=3, pad_id=0)
    second = train(other, TRAIN, DEV, replace(CONFIG, accumulation_steps=2), seed=3, pad_id=0)
    assert second.dev_loss == pytest.approx(first.dev_loss, rel=1e-4)
    assert second.final_loss == pytest.approx(first.final_loss, rel=1e-4)
    assert second.tokens_seen == first.tokens_seen


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    runs = []
    for seed in (5, 5, 6):
        torch.rand(7)  # what was drawn before does not matter
        model = tiny()
        runs.append((train(model, TRAIN, DEV, CONFIG, seed=seed, pad_id=0), weights(model)))
    assert runs[0][0].curves == runs[1][0].curves
    assert_same(runs[0][1], runs[1][1])
    assert runs[0][0].curves != runs[2][0].curves


def test_dropout_follows_the_seed_apart_from_the_order_of_the_rows():
    alike = TRAIN[:1] * 8  # in whatever order

    def trained(seed):
        model = tiny()
        train(model, alike, [], CONFIG, seed=seed, pad_id=0)
        return weights(model)

    one, again, other = trained(1), trained(1), trained(2)
    assert_same(one, again)
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


def test_training_learns_and_leaves_the_model_ready_to_use():
    model = tiny()
    config = replace(CONFIG, steps=120, warmup_steps=5, eval_every=60)
    result = train(model, TRAIN, DEV, config, seed=1, pad_id=0)
    dev = [row["dev_loss"] for row in result.curves if row["dev_loss"] is not None]
    assert len(dev) == 3
    assert dev[-1] < dev[0] - 1
    assert result.dev_loss == dev[-1] == pytest.approx(evaluate_loss(model, DEV, batch_size=4, pad_id=0), rel=1e-6)
    assert not model.training
    assert "_is_accelerate_prepared" not in vars(model)
    assert torch.equal(copy.deepcopy(model)(torch.tensor([[1, 2]])).logits, model(torch.tensor([[1, 2]])).logits)
    assert (result.steps, result.resumed_from) == (120, 0)
    assert result.tokens_per_second > 0
    assert result.peak_memory_bytes > 10 * 2**20


def test_dropout_acts_in_training_and_not_in_evaluation():
    modes = []

    def loss_function(model, batch):
        modes.append((torch.is_grad_enabled(), model.training))
        return token_loss(model, batch)

    train(tiny(), TRAIN, DEV, replace(CONFIG, eval_every=2), seed=1, pad_id=0, loss_function=loss_function)
    assert set(modes) == {(True, True), (False, False)}


@settings(max_examples=6)
@given(trained=st.sets(st.sampled_from(["wte", "h.0.attn", "h.1.mlp", "ln_f", "h.0.ln_1"]), min_size=1))
def test_only_what_requires_gradients_changes(trained):
    model = tiny()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(part in name for part in trained)
    before = weights(model)
    wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    train(model, TRAIN, DEV, CONFIG, seed=1, pad_id=0)
    assert {name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)} == wanted
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == wanted


def test_a_frozen_model_is_evaluated_and_nothing_else(tmp_path):
    model = tiny().requires_grad_(False)
    before = weights(model)
    result = train(model, [], DEV, CONFIG, seed=1, pad_id=0, checkpoint_directory=tmp_path / "run")
    assert (result.steps, result.tokens_seen, result.final_loss) == (0, 0, None)
    assert result.dev_loss == evaluate_loss(model, DEV, batch_size=4, pad_id=0)
    assert [row["step"] for row in result.curves] == [0]
    assert_same(before, weights(model))
    assert not (tmp_path / "run").exists()


def test_the_curves_hold_each_tenth_step_the_evaluations_and_the_end():
    config = replace(CONFIG, steps=11, log_every=4, eval_every=3)
    result = train(
        tiny(),
        TRAIN,
        DEV,
        config,
        seed=1,
        pad_id=0,
        report_state=lambda model: {"norm": float(model.training)},
    )
    assert [row["step"] for row in result.curves] == [0, 3, 4, 6, 8, 9, 11]
    evaluated = [row["step"] for row in result.curves if row["dev_loss"] is not None]
    assert evaluated == [0, 3, 6, 9, 11]
    assert result.curves[0]["loss"] is None
    assert [*result.curves[0]] == ["step", "loss", "dev_loss", "learning_rate", "norm"]
    for row in result.curves[1:]:
        assert row["learning_rate"] == learning_rate_at(row["step"], config)


def test_a_row_of_the_curves_averages_over_the_tokens_since_the_row_before():
    every = train(tiny(), TRAIN, [], replace(CONFIG, log_every=1), seed=1, pad_id=0)
    whole = train(tiny(), TRAIN, [], replace(CONFIG, log_every=6), seed=1, pad_id=0)
    tokens = [sum(sum(TRAIN[i].loss_mask[1:]) for i in indices_of_step(step, LENGTHS, 4, 1)) for step in range(1, 7)]
    mean = sum(row["loss"] * n for row, n in zip(every.curves[1:], tokens, strict=True)) / sum(tokens)
    assert whole.final_loss == pytest.approx(mean, rel=1e-6)


def test_gradient_checkpointing_gives_the_same_weights():
    plain, recomputed = tiny(), tiny()
    seen = {}

    def loss_function(model, batch):
        if model.training:
            seen.setdefault(id(model), []).append(model.is_activation_checkpointing)
        return token_loss(model, batch)

    checkpointing = replace(CONFIG, gradient_checkpointing=True)
    for model, config in ((plain, CONFIG), (recomputed, checkpointing)):
        train(model, TRAIN, DEV, config, seed=1, pad_id=0, loss_function=loss_function)
    assert seen == {id(plain): [False] * CONFIG.steps, id(recomputed): [True] * CONFIG.steps}
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(recomputed.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert not recomputed.is_activation_checkpointing
    assert not recomputed.get_input_embeddings()._forward_hooks


@pytest.mark.parametrize(
    ("method", "changes", "tolerance"),
    [
        pytest.param("lora", {"compile": "eager"}, 0, marks=pytest.mark.slow),
        pytest.param("weight_lora", {"compile": "eager"}, 0, marks=pytest.mark.slow),
        ("weight_lora", {"fused_adamw": True}, 1e-6),
        ("weight_lora", {"pin_memory": True}, 0),
    ],
)
def test_settings_for_speed_leave_the_weights_as_they_are(method, changes, tolerance):
    """On a CPU, through a selection that removes adapters on the way; the model that is left is not compiled."""
    models = []
    for config in (CONFIG, replace(CONFIG, **changes)):
        more = {"keep": 1, "selection_steps": 4} if method == "weight_lora" else {}
        settings = method_config(method, rank=2, targets=("c_attn",), **more)
        model = attach(tiny(), settings)
        train(model, TRAIN, DEV, config, seed=1, pad_id=0, callback=settings.training_callback(config))
        models.append(model)
    plain, other = (weights(model) for model in models)
    assert plain.keys() == other.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=tolerance)
    assert type(models[1]) is GPT2LMHeadModel


@pytest.mark.parametrize("method", ["lora", "weight_lora"])
def test_a_fused_optimizer_is_fused(method):
    more = {"keep": 1, "selection_steps": 4} if method == "weight_lora" else {}
    settings = method_config(method, rank=2, targets=("c_attn",), **more)
    model = attach(tiny(), settings)
    for fused in (True, False):
        config = replace(CONFIG, fused_adamw=fused)
        callback = settings.training_callback(config) or Callback()
        optimizer = callback.build_optimizer(trainable_parameters(model), config)
        assert {bool(group["fused"]) for group in optimizer.param_groups} == {fused}


def test_what_is_compiled_is_what_runs():
    calls = []

    def compiled(model, backend):
        return lambda **inputs: calls.append(backend) or model(**inputs)

    with mock.patch("torch.compile", compiled):
        train(tiny(), TRAIN, [], replace(CONFIG, compile="eager"), seed=1, pad_id=0)
    assert calls == ["eager"] * CONFIG.steps


@pytest.mark.parametrize("pinned", [True, False])
def test_training_asks_for_pinned_batches_where_the_setting_does(pinned):
    with mock.patch("replication.training.loop.to_device", wraps=to_device) as moved:
        train(tiny(), TRAIN, [], replace(CONFIG, pin_memory=pinned), seed=1, pad_id=0)
    assert [call.kwargs["pin"] for call in moved.call_args_list] == [pinned] * CONFIG.steps


def test_batches_are_pinned_only_on_their_way_to_a_gpu():
    tensor = mock.Mock()
    to_device({"input_ids": tensor}, torch.device("cuda"), pin=True)
    tensor.pin_memory.return_value.to.assert_called_once_with(torch.device("cuda"), non_blocking=True)
    for device, pin in (("cuda", False), ("cpu", True)):
        tensor = mock.Mock()
        to_device({"input_ids": tensor}, torch.device(device), pin=pin)
        tensor.pin_memory.assert_not_called()
        tensor.to.assert_called_once_with(torch.device(device))


def test_bf16_computes_in_bfloat16_and_keeps_float32_weights():
    seen = []

    def loss_function(model, batch):
        seen.append(model(input_ids=batch["input_ids"]).logits.dtype)
        return token_loss(model, batch)

    model = tiny(dropout=0)
    config = replace(CONFIG, mixed_precision="bf16")
    result = train(model, TRAIN, DEV, config, seed=1, pad_id=0, loss_function=loss_function)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    reference = train(tiny(dropout=0), TRAIN, DEV, replace(CONFIG, label_smoothing=0.0), seed=1, pad_id=0)
    assert result.dev_loss == pytest.approx(reference.dev_loss, rel=0.02)
    # and a float32 run afterwards in the same process is a float32 run
    assert train(tiny(), TRAIN, DEV, CONFIG, seed=1, pad_id=0).steps == CONFIG.steps


def test_bfloat16_weights_give_nearly_the_losses_of_bfloat16_over_float32_weights():
    losses = {}
    for precision in ("bf16", "bf16_weights"):
        model = tiny(dropout=0)
        attach(narrow_weights(model) if precision == "bf16_weights" else model, LoraConfig(rank=2, dropout=0.0))
        config = replace(CONFIG, mixed_precision=precision)
        losses[precision] = train(model, TRAIN, DEV, config, seed=1, pad_id=0).dev_loss
        assert {p.dtype for p in trainable_parameters(model).values()} == {torch.float32}
    assert losses["bf16_weights"] == pytest.approx(losses["bf16"], rel=0.02)
    assert losses["bf16_weights"] != losses["bf16"]


# --- refusals


def test_a_loss_that_is_not_a_number_names_step_and_batch_and_spares_the_checkpoint(tmp_path):
    batch = indices_of_step(4, LENGTHS, 4, seed=1)
    rows = [replace_first(row, i) for i, row in enumerate(TRAIN)]
    folder = tmp_path / "run"
    config = replace(CONFIG, checkpoint_every=1)
    with pytest.raises(TrainingError) as error:
        train(
            tiny(),
            rows,
            DEV,
            config,
            seed=1,
            pad_id=0,
            checkpoint_directory=folder,
            loss_function=poison(batch[2]),
        )
    text = str(error.value)
    assert "step 4: the loss is nan" in text
    assert ", ".join(map(str, batch)) in text
    assert repr(rows[batch[0]].text) in text
    assert [path.name for path in folder.iterdir()] == ["step-00000003"]


def replace_first(row, number):
    """The same row, with its own number as its first token, so that a batch shows which rows it holds."""
    return Encoded([number, *row.input_ids[1:]], row.loss_mask, row.text)


def poison(number, value=math.nan):
    def loss_function(model, batch):
        loss, weight = token_loss(model, batch)
        here = model.training and number in batch["input_ids"][:, 0].tolist()
        return loss * (value if here else 1.0), weight

    return loss_function


class Exploding(torch.autograd.Function):
    """Identity with an infinite gradient: the loss looks well, the update would not be."""

    @staticmethod
    def forward(context, loss):
        return loss.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * math.inf


def test_a_gradient_that_is_not_finite_stops_before_the_update():
    def loss_function(model, batch):
        loss, weight = token_loss(model, batch)
        return Exploding.apply(loss), weight

    model = tiny()
    before = weights(model)
    with pytest.raises(TrainingError, match=r"step 1: the gradient norm is (nan|inf)"):
        train(model, TRAIN, [], CONFIG, seed=1, pad_id=0, loss_function=loss_function)
    assert_same(before, weights(model))


def test_a_batch_without_targets_and_a_dev_loss_that_is_no_number_stop_the_run():
    silent = [Encoded(row.input_ids, [0] * len(row)) for row in TRAIN]
    with pytest.raises(TrainingError, match="number of target tokens is 0"):
        train(tiny(), silent, [], CONFIG, seed=1, pad_id=0)
    with pytest.raises(TrainingError, match="step 0: the dev loss is nan"):
        train(tiny(), TRAIN, silent, CONFIG, seed=1, pad_id=0)


def test_what_cannot_be_trained_is_refused_before_any_work():
    model = tiny()
    before = weights(model)
    long = [Encoded([1] * 40, [1] * 40)]
    for rows, dev, config, error, text in (
        ([], DEV, CONFIG, DataError, "no training examples"),
        (TRAIN[:3], DEV, CONFIG, ConfigError, "3 training examples"),
        (TRAIN + long, DEV, CONFIG, DataError, "training example 21 .* has 40 tokens.* 32 positions"),
        (TRAIN, DEV + long, CONFIG, DataError, "dev example 9 "),
        (TRAIN, DEV, replace(CONFIG, max_length=5), DataError, "max_length is 5"),
        (TRAIN, DEV, replace(CONFIG, attention="eager"), ConfigError, "attention='eager': the model has 'sdpa'"),
        (TRAIN, DEV, replace(CONFIG, compile="fast"), ConfigError, "compile='fast': not a backend.*inductor"),
    ):
        with pytest.raises(error, match=text):
            train(model, rows, dev, config, seed=1, pad_id=0)
    with pytest.raises(ConfigError, match="seed"):
        train(model, TRAIN, DEV, CONFIG, seed=-1, pad_id=0)
    with pytest.raises(ConfigError, match="Fixed cannot do gradient_checkpointing"):
        train(Fixed(torch.zeros(1)), TRAIN, DEV, replace(CONFIG, gradient_checkpointing=True), seed=1, pad_id=0)
    assert_same(before, weights(model))


# --- callbacks for methods that change during training


def test_a_callback_sees_the_start_and_every_step():
    calls = []

    class Spy(Callback):
        def on_start(self, model):
            calls.append(sum(p.requires_grad for p in model.parameters()))

        def on_step_end(self, run):
            calls.append((run.step, run.optimizer.param_groups[0]["lr"]))

    model = tiny()
    train(model, TRAIN, [], CONFIG, seed=1, pad_id=0, callback=Spy())
    trained = len(list(model.parameters()))
    assert calls == [trained, *((step, learning_rate_at(step, CONFIG)) for step in range(1, 7))]


# --- several processes


@pytest.mark.slow
def test_two_processes_train_as_one():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "1",
    }
    both = [
        subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    figures = [json.loads(process.communicate()[0].splitlines()[-1]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    alone = shared_run()
    for ours in figures:
        assert ours["norms"] == pytest.approx(alone["norms"], rel=1e-3)
        assert ours["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert ours["dev_loss"] == pytest.approx(alone["dev_loss"], rel=1e-4)
        assert ours["tokens"] == alone["tokens"]


def shared_run():
    with recorded_norms() as norms:
        config = replace(CONFIG, accumulation_steps=2)
        result = train(tiny(dropout=0), TRAIN, DEV, config, seed=3, pad_id=0)
    return {
        "norms": norms,
        "loss": result.final_loss,
        "dev_loss": result.dev_loss,
        "tokens": result.tokens_seen,
    }


if __name__ == "__main__":
    print(json.dumps(shared_run()), flush=True)
    torch.distributed.destroy_process_group()
