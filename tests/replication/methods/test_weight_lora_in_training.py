"""WeightLoRA in training: its optimizer, thresholding, removal, and going on after a kill."""

import dataclasses
import gc
import json
import shutil
import warnings
import weakref
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from replication.counting import parameter_counts
from replication.errors import ReplicationWarning, TrainingError
from replication.examples import Encoded, collate
from replication.methods import attach, load, method_config, save, trainable_parameters
from replication.methods import weight_lora as module
from replication.methods.lora import lora_layers
from replication.methods.selection import hard_threshold, present_updates
from replication.methods.shared.base import IMPORTANCE_NAME
from replication.methods.weight_lora import WeightLoraConfig
from replication.training.callbacks import Callback
from replication.training.config import TrainingConfig, learning_rate_at
from replication.training.loop import train

TRAINING = TrainingConfig(
    steps=14, warmup_steps=2, learning_rate=0.01, batch_size=4, log_every=3, eval_every=7, threads=1
)


def corpus(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 12, (count,), generator=generator).tolist()
    return [Encoded(torch.randint(1, 31, (n,), generator=generator).tolist(), [0] + [1] * (n - 1)) for n in lengths]


TRAIN, DEV = corpus(13), corpus(4, 1)


def tiny(config, dropout=0.1):
    """GPT-2 of two blocks with `config` attached: six adapters on q, k and v."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    rates = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **rates, bos_token_id=0, eos_token_id=0)).eval()
    return attach(model, config)


class Watch(Callback):
    """Passes everything on, and calls `look(run)` at the end of each step."""

    def __init__(self, inner, look):
        self.inner, self.look = inner, look

    def __getattribute__(self, name):
        if name in ("inner", "look", "on_step_end"):
            return object.__getattribute__(self, name)
        return getattr(self.inner, name)

    def on_step_end(self, run):
        self.inner.on_step_end(run)
        self.look(run)


def fit(config, training=TRAINING, model=None, look=None, folder=None, dropout=0.1):
    model = model or tiny(config, dropout)
    callback = config.training_callback(training)
    watched = Watch(callback, look) if look else callback
    result = train(model, TRAIN, DEV, training, seed=3, pad_id=0, checkpoint_directory=folder, callback=watched)
    return model, result, callback.summary()


def values(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 9)[None]).logits


# --- the optimizer -------------------------------------------------------------------


def test_the_weights_have_a_group_of_their_own_without_decay_at_their_own_rate():
    rates = []

    def look(run):
        others, weights = run.optimizer.param_groups
        assert weights["weight_decay"] == 0
        assert others["weight_decay"] == TRAINING.weight_decay
        assert all(parameter.shape == (1,) for parameter in weights["params"])
        assert len(weights["params"]) == 6
        assert set(run.optimizer.state) == set(others["params"])  # none for the weights
        assert others["lr"] == learning_rate_at(run.step, TRAINING)
        rates.append((weights["lr"], learning_rate_at(run.step, TRAINING) / TRAINING.learning_rate * 7.0))

    fit(WeightLoraConfig(rank=2, keep=3, selection_steps=None, weight_learning_rate=7.0), look=look)
    assert len(rates) == 14
    for measured, expected in rates:
        assert measured == pytest.approx(expected, rel=1e-12)


def test_a_head_is_trained_by_adam_beside_the_pairs():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    model = BertForSequenceClassification(BertConfig(vocab_size=31, max_position_embeddings=16, **sizes)).eval()
    config = WeightLoraConfig(rank=2, keep=2, selection_steps=5)
    attach(model, config)
    start = parameter_counts(model)
    assert start.adapter == config.closed_form_parameters(16, 2)
    assert start.importance == 6
    assert start.head > 0

    def loss(model, batch):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return nn.functional.cross_entropy(logits, batch["input_ids"][:, 0] % 2, reduction="sum"), torch.tensor(
            len(logits)
        )

    before, callback = values(model), config.training_callback(TRAINING)
    train(model, TRAIN, DEV, TRAINING, seed=3, pad_id=0, callback=callback, loss_function=loss)
    counts = parameter_counts(model)
    assert counts.adapter == config.closed_form_parameters(16, 2, "final") == 2 * 2 * 2 * 16
    assert (counts.importance, counts.head) == (0, start.head)
    assert not torch.equal(model.classifier.weight, before["classifier.weight"])
    assert len(callback.summary()["survivors"]) == 2


# --- the trajectory by hand ----------------------------------------------------------


@dataclass(frozen=True)
class Point:
    x: list[float]
    y: list[float]

    def __len__(self):
        return 1


class TwoAdapters(nn.Module):
    """y = q(x) + v(x): a regression with two adapters on plain matrices."""

    def __init__(self, generator):
        super().__init__()
        self.q_proj, self.v_proj = nn.Linear(3, 2, bias=False).double(), nn.Linear(3, 2, bias=False).double()
        for parameter in self.parameters():
            parameter.data = torch.randn(2, 3, generator=generator, dtype=torch.float64)

    def forward(self, x):
        return self.q_proj(x) + self.v_proj(x)


def squared_error(model, batch):
    return 0.5 * (model(batch["x"]) - batch["y"]).square().sum(), batch["attention_mask"].sum()


def stack(points, pad_id):
    columns = {name: torch.tensor([getattr(p, name) for p in points], dtype=torch.float64) for name in ("x", "y")}
    return {**columns, "attention_mask": torch.ones(len(points), 1)}


def numpy_trajectory(W, A, X, Y, training, scale, weight_rate, epsilon):
    """Preset code_2025_02 at K=1 with plain arithmetic: AdamW on A and B, SGD on w, then the larger w stays."""
    A, B, w = [a.copy() for a in A], [np.zeros((2, 1)), np.zeros((2, 1))], np.ones(2)
    m = {(part, i): 0.0 for part in "AB" for i in (0, 1)}
    v, moves, trace = dict(m), 0, []
    for step in range(1, training.steps + 1):
        done = step - 1
        if done < training.warmup_steps:
            shape = done / training.warmup_steps
        else:
            shape = (training.steps - done) / (training.steps - training.warmup_steps)
        error = sum(X @ W[i].T + scale * w[i] * (X @ A[i].T) @ B[i].T for i in (0, 1)) - Y
        G = error / len(X)
        gradient = {}
        for i in (0, 1):
            gradient["A", i] = scale * w[i] * (G @ B[i]).T @ X
            gradient["B", i] = scale * w[i] * G.T @ (X @ A[i].T)
        w_gradient = np.array([scale * np.sum(G * ((X @ A[i].T) @ B[i].T)) for i in (0, 1)])
        for (part, i), g in gradient.items():
            target = A if part == "A" else B
            m[part, i] = 0.9 * m[part, i] + 0.1 * g
            v[part, i] = 0.999 * v[part, i] + 0.001 * g**2
            rate = training.learning_rate * shape
            direction = (m[part, i] / (1 - 0.9**step)) / (np.sqrt(v[part, i] / (1 - 0.999**step)) + epsilon)
            target[i] = target[i] * (1 - rate * training.weight_decay) - rate * direction
        w = w - weight_rate * shape * w_gradient
        if np.abs(w_gradient).max() > 1e-10:
            moves += 1
            w[0 if w[1] > w[0] else 1] = 0.0
        trace.append(w.copy())
    return A, B, np.array(trace), moves


@given(
    seed=st.integers(0, 2**31),
    warmup=st.integers(0, 2),
    decay=st.sampled_from([0.0, 0.01, 0.2]),
    rate=st.sampled_from([0.01, 0.1]),
)
def test_the_earliest_code_follows_the_trajectory_computed_by_hand(seed, warmup, decay, rate):
    generator = torch.Generator().manual_seed(seed)
    model = TwoAdapters(generator)
    config = WeightLoraConfig(
        preset="code_2025_02", rank=1, alpha=2, keep=1, targets=("query", "value"), init_seed=seed % 7, dropout=0.3
    )
    attach(model, config)
    W = [model.q_proj.weight.numpy().copy(), model.v_proj.weight.numpy().copy()]
    pairs = list(present_updates(model).values())
    A = [pair.lora_A.detach().numpy().copy() for pair in pairs]
    x, y = (torch.randn(4, n, generator=generator, dtype=torch.float64).tolist() for n in (3, 2))
    points = [Point(*row) for row in zip(x, y, strict=True)]
    training = TrainingConfig(
        steps=5, warmup_steps=warmup, learning_rate=rate, weight_decay=decay, batch_size=4, log_every=5, threads=1
    )
    callback = config.training_callback(training)
    train(
        model, points, [], training, seed=0, pad_id=0, callback=callback,
        loss_function=squared_error, collate_function=stack,
    )  # fmt: skip
    expected_A, expected_B, trace, moves = numpy_trajectory(
        W, A, np.array(x), np.array(y), training, scale=2.0, weight_rate=10.0, epsilon=1e-6
    )
    summary = callback.summary()
    np.testing.assert_allclose(summary["trace"]["weights"], trace, atol=1e-6)
    assert summary["projections"] == list(range(6 - moves, 6))
    assert moves == (4 if warmup == 0 else 3)
    for pair, a, b in zip(pairs, expected_A, expected_B, strict=True):
        np.testing.assert_allclose(pair.lora_A.detach().numpy(), a, atol=1e-9)
        np.testing.assert_allclose(pair.lora_B.detach().numpy(), b, atol=1e-9)
    assert len(present_updates(model)) == 2  # nothing is disconnected
    assert summary["removed_at"] is None


# --- thresholding --------------------------------------------------------------------


@settings(max_examples=8)
@given(
    keep=st.integers(1, 6),
    rank_by=st.sampled_from(["signed", "magnitude"]),
    warmup=st.integers(0, 2),
    every=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_after_every_projection_at_most_k_weights_are_left(keep, rank_by, warmup, every, seed):
    training = dataclasses.replace(TRAINING, warmup_steps=warmup, steps=9, eval_every=None)
    config = WeightLoraConfig(
        rank=2, keep=keep, rank_by=rank_by, project_every=every, selection_steps=7, weight_learning_rate=300.0,
        init_seed=seed,
    )  # fmt: skip
    model, _, summary = fit(config, training)
    first = 3 if warmup else 2
    assert summary["projections"] == [s for s in range(first, 8) if s % every == 0 or s == 7]
    assert summary["trace"]["steps"] == list(range(1, 8))
    for step, weights in zip(summary["trace"]["steps"], summary["trace"]["weights"], strict=True):
        if step in summary["projections"]:
            assert sum(weight != 0 for weight in weights) <= keep
        elif step < first:
            assert weights == [1.0] * 6
    final = [weight != 0 for weight in summary["trace"]["weights"][-1]]
    assert summary["survivors"] == [index for index in range(6) if final[index]] == list(present_updates(model))


def test_a_projection_is_the_hard_threshold_of_the_weights_after_their_step():
    seen = []
    original = module.WeightLoraCallback._project

    def spy(self, weights, keep, step):
        before = torch.cat([weight.detach().clone() for weight in weights.values()])
        original(self, weights, keep, step)
        after = torch.cat([weight.detach().clone() for weight in weights.values()])
        seen.append(torch.equal(after, hard_threshold(before, keep, "magnitude")))
        assert (before < 0).any()

    with mock.patch.object(module.WeightLoraCallback, "_project", spy):
        fit(WeightLoraConfig(rank=2, keep=2, rank_by="magnitude", selection_steps=6, weight_learning_rate=5000.0))
    assert seen == [True] * 4


def test_a_choice_that_module_order_makes_is_said_once():
    still = WeightLoraConfig(rank=2, keep=2, selection_steps=6, weight_learning_rate=1e-9)
    with pytest.warns(ReplicationWarning) as told:
        fit(still)
    ties = [str(one.message) for one in told if "module order decides" in str(one.message)]
    assert len(ties) == 1
    assert ties[0].startswith("step 3: 2 of the 2 adapters kept")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReplicationWarning)
        fit(dataclasses.replace(still, weight_learning_rate=300.0))


def test_accumulated_batches_count_as_one_update():
    config = WeightLoraConfig(rank=2, keep=2, selection_steps=6, weight_learning_rate=50.0, dropout=0.0)
    whole = fit(config, dropout=0)[2]
    split = fit(config, dataclasses.replace(TRAINING, batch_size=1, accumulation_steps=4), dropout=0)[2]
    assert split["projections"] == whole["projections"] == [3, 4, 5, 6]
    assert split["survivors"] == whole["survivors"]
    np.testing.assert_allclose(split["trace"]["weights"], whole["trace"]["weights"], atol=1e-3)


# --- removal -------------------------------------------------------------------------


@settings(max_examples=6)
@given(keep=st.integers(1, 5), seed=st.integers(0, 9), rank_by=st.sampled_from(["signed", "magnitude"]))
def test_removal_changes_no_logit_and_leaves_nothing_behind(keep, seed, rank_by):
    config = WeightLoraConfig(
        rank=2, keep=keep, selection_steps=5, init_seed=seed, rank_by=rank_by, weight_learning_rate=300.0
    )
    candidates, gone = {}, []

    class Look(module.WeightLoraCallback):
        def on_step_end(self, run):
            run.model.eval()
            before = logits_of(run.model)
            if run.step == 1:
                candidates.update((n, weakref.ref(p)) for n, p in run.model.named_parameters() if p.requires_grad)
            super().on_step_end(run)
            assert torch.equal(logits_of(run.model), before)
            run.model.train()
            if run.step == 5:
                left = dict(run.model.named_parameters())
                gone.extend(name for name in candidates if name not in left)
                assert all(candidates[name]().grad is None for name in gone)
            if run.step >= 5:
                trained = list(trainable_parameters(run.model).values())
                held = [p for group in run.optimizer.param_groups for p in group["params"]]
                assert [id(p) for p in held] == [id(p) for p in trained]
                assert set(run.optimizer.state) == set(trained)
                assert not any(name.endswith(IMPORTANCE_NAME) for name in trainable_parameters(run.model))
                assert len(run.optimizer.param_groups) == 1

    model = tiny(config)
    callback = Look(config, TRAINING)
    train(model, TRAIN, DEV, TRAINING, seed=3, pad_id=0, callback=callback)
    survivors = callback.summary()["survivors"]
    assert 1 <= len(survivors) <= keep
    assert len(gone) == 3 * (6 - len(survivors))
    gc.collect()
    assert all(candidates[name]() is None for name in gone)  # nothing holds them any more
    assert callback.removed_at == 5
    assert parameter_counts(model).adapter == len(survivors) * 2 * 2 * 16
    if len(survivors) == keep:
        assert parameter_counts(model).adapter == config.closed_form_parameters(16, 2, "final")
    fixed = [update.importance_weight for update in present_updates(model).values()]
    assert [round(weight.item(), 6) for weight in fixed] == [w for w in callback.trace["weights"][-1] if w]


def test_the_backward_pass_ends_at_the_first_adapter_that_is_left():
    config = WeightLoraConfig(rank=2, keep=3, selection_steps=5)
    flows = {}

    def force(self, weights, keep, step):  # the last block's adapters win
        with torch.no_grad():
            for index in (0, 1, 2):
                weights[index].zero_()

    def loss(model, batch):
        output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True)
        if model.training:
            flows[len(flows) + 1] = [state.requires_grad for state in output.hidden_states]
        return output.logits[:, -1].square().sum(), batch["attention_mask"].sum()

    model = tiny(config)
    with mock.patch.object(module.WeightLoraCallback, "_project", force):
        train(
            model, TRAIN, [], TRAINING, seed=3, pad_id=0,
            callback=config.training_callback(TRAINING), loss_function=loss,
        )  # fmt: skip
    assert list(lora_layers(model)) == ["transformer.h.1.attn.c_attn"]
    assert flows[5] == [False, True, True]  # embeddings, block 0, block 1
    assert flows[6] == [False, False, True]


def test_losers_that_stay_are_fixed_at_zero_and_still_decay():
    """August 2025: thresholding ends, every weight is fixed, and nothing is disconnected."""
    config = WeightLoraConfig(preset="code_2025_08", rank=2, keep=2, selection_steps=5, weight_learning_rate=50.0)
    at_five = {}

    def look(run):
        if run.step == 5:
            at_five.update(values(run.model))

    model, _, summary = fit(config, look=look)
    assert len(present_updates(model)) == 6
    assert len(summary["survivors"]) == 2
    assert summary["trace"]["steps"] == [1, 2, 3, 4, 5]
    for index, update in present_updates(model).items():
        name = next(n for n, m in model.named_modules() if m is update)
        assert not update.importance_weight.requires_grad
        assert torch.equal(update.importance_weight, at_five[f"{name}.{IMPORTANCE_NAME}"])
        assert (update.importance_weight.item() == 0) == (index not in summary["survivors"])
        assert not torch.equal(update.lora_A, at_five[f"{name}.lora_A"])
    assert parameter_counts(model).adapter == config.closed_form_parameters(16, 2, "final") == 6 * 2 * 2 * 16


def test_november_starts_the_pairs_anew_and_freezes_the_losers():
    config = WeightLoraConfig(preset="code_2025_11", rank=2, keep=2, selection_steps=5, weight_learning_rate=50.0)
    seen = {}

    def look(run):
        if run.step in (4, 5, 6):
            seen[run.step] = values(run.model)
            seen[run.step, "state"] = [int(state["step"]) for state in run.optimizer.state.values()]

    model, _, summary = fit(config, look=look)
    survivors = summary["survivors"]
    for index, update in present_updates(model).items():
        name = next(n for n, m in model.named_modules() if m is update)
        A, B = f"{name}.lora_A", f"{name}.lora_B"
        if index in survivors:
            assert (seen[5][B] == 0).all()
            assert not torch.equal(seen[5][A], seen[4][A])
            assert seen[5][A].abs().max() <= 1 / 2**0.5
            assert not torch.equal(update.lora_B, seen[5][B])
        else:
            assert (seen[5][B] != 0).any()
            assert torch.equal(update.lora_A, seen[5][A])  # not even decay
            assert not update.lora_A.requires_grad
    assert seen[5, "state"] == []
    assert seen[6, "state"] == [1] * 4
    assert parameter_counts(model).adapter == config.closed_form_parameters(16, 2, "final") == 2 * 2 * 2 * 16


def test_weights_may_be_fixed_before_or_after_the_selection():
    early = WeightLoraConfig(rank=2, keep=2, selection_steps=8, freeze_weights_after=4, weight_learning_rate=50.0)
    model, _, summary = fit(early)
    assert summary["projections"] == [3, 4, 8]
    assert summary["trace"]["steps"] == [1, 2, 3, 4, 8]
    assert summary["trace"]["weights"][-1] == summary["trace"]["weights"][-2]
    assert (len(present_updates(model)), summary["removed_at"]) == (2, 8)
    late = WeightLoraConfig(rank=2, keep=2, selection_steps=5, freeze_weights_after=9, weight_learning_rate=50.0)
    model, _, summary = fit(late)
    assert (summary["projections"], summary["removed_at"]) == ([3, 4, 5], 5)
    assert summary["trace"]["steps"] == list(range(1, 10))
    after = [row for step, row in zip(summary["trace"]["steps"], summary["trace"]["weights"], strict=True) if step > 5]
    assert len({tuple(row) for row in after}) == 4
    assert all(
        [weight != 0 for weight in row] == [index in summary["survivors"] for index in range(6)] for row in after
    )
    reset = WeightLoraConfig(rank=2, keep=2, selection_steps=5, reset_adapters_after=7)
    steps = {}
    fit(reset, look=lambda run: steps.update({run.step: len(run.optimizer.state)}))
    assert (steps[6], steps[7], steps[8]) == (4, 0, 4)


def test_with_every_adapter_kept_nothing_is_removed():
    model, _, summary = fit(WeightLoraConfig(rank=2, keep=6, selection_steps=5))
    assert (summary["removed_at"], summary["survivors"]) == (None, list(range(6)))
    assert parameter_counts(model).importance == 0
    assert len(present_updates(model)) == 6


def test_the_second_repository_projects_now_and_then():
    config = WeightLoraConfig(preset="code_2025_02_second", rank=2, keep=2, targets=("query", "key", "value"))
    summary = fit(config)[2]
    assert summary["projections"] == [10]
    assert summary["survivors"] == list(range(6))  # between projections every adapter is at work again


# --- refusals ------------------------------------------------------------------------


def test_a_selection_without_any_gradient_is_refused():
    config = WeightLoraConfig(rank=2, keep=2, selection_steps=5)

    def loss(model, batch):
        logits = model(input_ids=batch["input_ids"]).logits
        return (logits * 0).sum(), batch["attention_mask"].sum()

    with pytest.raises(TrainingError, match="step 5: no importance weight has had a gradient"):
        train(
            tiny(config), TRAIN, [], TRAINING, seed=3, pad_id=0,
            callback=config.training_callback(TRAINING), loss_function=loss,
        )  # fmt: skip


def test_a_selection_that_leaves_nothing_is_refused():
    config = WeightLoraConfig(rank=2, keep=2, selection_steps=5)

    def clear(self, weights, keep, step):
        with torch.no_grad():
            for weight in weights.values():
                weight.zero_()

    with (
        mock.patch.object(module.WeightLoraCallback, "_project", clear),
        pytest.raises(TrainingError, match="step 5: every importance weight is zero"),
    ):
        fit(config)


# --- a selected model goes on --------------------------------------------------------


@pytest.mark.parametrize("name", ["paper", "code_2025_11"])
def test_a_loaded_selection_is_trained_and_not_selected_again(tmp_path, name):
    config = WeightLoraConfig(preset=name, rank=2, keep=2, selection_steps=5)
    model, _, summary = fit(config)
    save(model, tmp_path)
    loaded = load(tiny_base(), tmp_path)
    before = values(loaded)
    _, _, second = fit(config, model=loaded)
    assert second["survivors"] == summary["survivors"]
    assert (second["projections"], second["trace"]["steps"]) == ([], [])
    assert str(loaded) == str(model)
    moved = {key for key, value in loaded.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == set(trainable_parameters(model))
    assert len(moved) == 4
    assert all((update.lora_B != 0).any() for update in present_updates(loaded).values())


def tiny_base():
    from replication.methods import detach

    return detach(tiny(WeightLoraConfig(rank=2, keep=1)))


# --- killed and resumed --------------------------------------------------------------


class KilledError(Exception):
    pass


CASES = {
    "paper": WeightLoraConfig(rank=2, keep=3, selection_steps=6, weight_learning_rate=50.0),
    "august": WeightLoraConfig(preset="code_2025_08", rank=2, keep=3, selection_steps=6),
    "november": WeightLoraConfig(preset="code_2025_11", rank=2, keep=3, selection_steps=6),
    "fixed early": WeightLoraConfig(rank=2, keep=3, selection_steps=8, freeze_weights_after=4),
    "earliest": WeightLoraConfig(preset="code_2025_02", rank=2, keep=3),
    "plus": method_config(
        "weight_lora_plus", rank=2, keep=4, selection_steps=4, expand_every=4, expansions=2, weight_learning_rate=50.0
    ),
    "plus, code": method_config(
        "weight_lora_plus", preset="code_2025_02_second", rank=1, targets=("query", "key", "value"), expand_every=5
    ),
    "random": method_config("random_lora", rank=2, keep=3),
}  # fmt: skip


def assert_same_end(config, training, folder, stop, reference, expected, summary):
    assert [path.name for path in Path(folder).iterdir()] == [f"step-{stop:08d}"]
    model = tiny(config)
    _, result, again = fit(config, training, model=model, folder=folder)
    assert result.resumed_from == stop
    assert result.curves == expected.curves
    assert again == summary
    assert list(trainable_parameters(model)) == list(trainable_parameters(reference))
    assert model.state_dict().keys() == reference.state_dict().keys()
    for name, tensor in reference.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), (stop, name)


@pytest.mark.parametrize("case", CASES)
def test_a_run_cut_short_in_either_phase_ends_with_the_same_bits(case, tmp_path):
    """Its folder as a kill after these updates would leave it: in phase 1, at a removal, after an expansion."""
    config, training = CASES[case], dataclasses.replace(TRAINING, checkpoint_every=1, max_grad_norm=1.0)
    stops = {"plus": (3, 4, 8, 13), "plus, code": (4, 5, 10)}.get(case, (4, 6, 9))

    def look(run):
        if run.step - 1 in stops:
            shutil.copytree(tmp_path / "run", tmp_path / str(run.step - 1))

    whole = fit(config, training, folder=tmp_path / "run", look=look)
    for stop in stops:
        assert_same_end(config, training, tmp_path / str(stop), stop, *whole)


@pytest.mark.parametrize("stop", [2, 5, 9])
def test_a_run_that_dies_ends_with_the_same_bits(stop, tmp_path):
    config, training = CASES["plus"], dataclasses.replace(TRAINING, checkpoint_every=1)
    calls = []

    def dying(rows, pad_id):
        calls.append(1)
        if len(calls) > stop:
            raise KilledError
        return collate(rows, pad_id)

    with pytest.raises(KilledError):
        train(
            tiny(config), TRAIN, [], dataclasses.replace(training, eval_every=None), seed=3, pad_id=0,
            checkpoint_directory=tmp_path, callback=config.training_callback(training), collate_function=dying,
        )  # fmt: skip
    with mock.patch(f"{__name__}.DEV", []):
        training = dataclasses.replace(training, eval_every=None)
        assert_same_end(config, training, tmp_path, stop, *fit(config, training))


def test_the_kill_tests_pass_through_every_phase():
    """Each case above is killed before and after what it changes; otherwise the test would show little."""
    for case, removed, grown in (("paper", 6, []), ("plus", 4, [8, 12]), ("plus, code", None, [5, 10])):
        summary = fit(CASES[case])[2]
        assert (summary["removed_at"], [round_["step"] for round_ in summary["expansions"]]) == (removed, grown)


def test_the_summary_is_json_in_the_promised_form():
    summary = fit(CASES["plus"])[2]
    assert json.loads(json.dumps(summary)) == summary
    assert list(summary) == [
        "method", "keep", "selection_steps", "adapters", "trace", "projections", "removed_at", "survivors",
        "final_ranks", "expansions",
    ]  # fmt: skip
    assert [sorted(adapter) for adapter in summary["adapters"]] == [["block", "index", "label", "module", "role"]] * 6
    assert len(summary["trace"]["steps"]) == len(summary["trace"]["weights"]) == 12
    assert all(len(row) == 6 for row in summary["trace"]["weights"])
    assert set(summary["final_ranks"]) == set(map(str, summary["survivors"]))
