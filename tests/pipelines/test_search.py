from __future__ import annotations

import math
import signal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipelines.shared.fitting as fitting
from pipelines.search import best_rate, hold_out, mean_loss, next_trial, search_learning_rate, source_of, two_best
from pipelines.shared.experiment import resolve_search
from pipelines.shared.settings import Search, load_settings
from replication.errors import ConfigError, Stopped, TrainingError
from replication.fileio import write_jsonl, write_text

search = Search(learning_rates=(0.1, 0.2), steps=5, held_out_examples=4, seeds=(3,))


@given(
    sizes=st.lists(st.integers(1, 4), min_size=6, max_size=12),
    seed=st.integers(0, 99),
    field=st.sampled_from(["context", "passage", "text", "question", "document"]),
)
def test_no_source_is_on_both_sides_and_no_row_is_lost(sizes, seed, field):
    rows = [{field: f"source {i}", "label": j} for i, size in enumerate(sizes) for j in range(size)]
    train, held_out = hold_out(rows, search.model_copy(update={"seeds": (seed,)}))
    assert not {row[field] for row in train} & {row[field] for row in held_out}
    assert sorted(map(repr, train + held_out)) == sorted(map(repr, rows))
    assert 4 <= len(held_out) < 4 + max(sizes)


def test_a_passage_keeps_its_questions_together():
    rows = [{"question": f"{i} {j}?", "passage": f"passage {i}"} for i in range(6) for j in range(3)]
    train, held_out = hold_out(rows, search)
    assert not {row["passage"] for row in train} & {row["passage"] for row in held_out}


def test_holding_out_everything_is_refused():
    with pytest.raises(ConfigError, match="held_out_examples"):
        hold_out([{"text": "one"}, {"text": "two"}], search)


RATES = (0.001, 0.01, 0.1)
LOSS = st.floats(0, 9) | st.none()


def run(loss_of, **changes):
    """Every trial of a search in order, and the best rate."""
    plan = search.model_copy(update={"learning_rates": RATES, "seeds": (1, 2), "extensions": 6, **changes})
    losses, trials = {}, []
    while (trial := next_trial(losses, plan)) is not None:
        trials.append(trial)
        losses.setdefault(trial[0], {})[trial[1]] = loss_of(*trial)
    return trials, losses, best_rate(losses, plan)


@given(table=st.fixed_dictionaries({(rate, seed): LOSS for rate in RATES for seed in (1, 2)}))
def test_the_two_best_meet_every_seed_and_the_lower_mean_wins(table):
    if all(table[rate, 1] is None for rate in RATES) or any(table[rate, 2] is None for rate in RATES):
        return
    trials, losses, best = run(lambda rate, seed: table.get((rate, seed)), extensions=0)
    finalists = two_best(losses, 1)
    assert trials[:3] == [(rate, 1) for rate in RATES]
    assert trials[3:] == [(rate, 2) for rate in finalists]
    assert best in finalists
    assert mean_loss(losses[best]) == min(mean_loss(losses[rate]) for rate in finalists)


@given(middle=st.floats(-6, 2))
def test_the_range_is_extended_until_the_best_has_a_worse_rate_on_both_sides(middle):
    trials, losses, best = run(lambda rate, seed: (math.log10(rate) - middle) ** 2, seeds=(1,))
    rates = sorted(losses)
    assert rates[0] < best < rates[-1] or len(rates) == len(RATES) + 6
    assert abs(math.log10(best) - middle) <= 0.51 or len(rates) == len(RATES) + 6
    assert {seed for _, seed in trials} == {1}


def test_a_rate_beyond_an_edge_that_wins_meets_the_other_seeds_too():
    trials, losses, best = run(lambda rate, seed: (math.log10(rate) - 0.0) ** 2 + 0.01 * seed)
    assert best == 1.0
    assert set(losses[1.0]) == {1, 2}
    assert (10.0, 1) in trials


def test_extensions_are_limited_and_divergence_counts_as_worse():
    _, losses, best = run(lambda rate, seed: None if rate > 0.1 else -rate, seeds=(1,))
    assert best == 0.1
    assert max(losses) == 1.0
    _, losses, best = run(lambda rate, seed: -rate, seeds=(1,), extensions=2)
    assert best == max(losses) == 10.0


def test_nothing_but_divergence_is_an_error():
    with pytest.raises(TrainingError, match="diverged"):
        run(lambda rate, seed: None)


@pytest.fixture
def plan(project_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text("params.yaml", (project_root / "params.yaml").read_text())
    plan = resolve_search(load_settings("params.yaml"), "lora")
    write_text(plan.weights / "model.safetensors", "no weights")
    for split in ("train", "dev", "test"):
        rows = [{"context": f"{split} {n // 2}", "completion": f"text {n}"} for n in range(400)]
        write_jsonl(plan.prepared / f"{split}.jsonl", rows)
    return plan


def test_no_trial_learns_from_what_its_loss_is_measured_on(plan, monkeypatch):
    trials = []

    def fit(experiment, train_rows, dev_rows, *, seed, **_):
        trials.append((experiment.training.learning_rate, seed))
        learnt, measured = ({source_of(row) for row in rows} for rows in (train_rows, dev_rows))
        assert not learnt & measured, "a rate is chosen by a loss on rows that were learnt"
        assert {name.split()[0] for name in learnt | measured} == {"train"}, "dev and reported rows choose no rate"
        assert len(train_rows) + len(dev_rows) == 400
        assert plan.search.held_out_examples <= len(dev_rows) <= plan.search.held_out_examples + 1
        return SimpleNamespace(
            result=SimpleNamespace(dev_loss=abs(math.log(experiment.training.learning_rate / 0.003)))
        )

    monkeypatch.setattr(fitting, "fit", fit)
    found = search_learning_rate(plan, plan.search)
    assert len(trials) == len(set(trials)) >= len(plan.search.learning_rates)
    assert found["best"] in {rate for rate, _ in trials}


def test_a_search_that_was_stopped_goes_on_and_one_of_other_code_starts_anew(plan, monkeypatch, capsys):
    trials, asked = [], []

    def fit(experiment, *_, seed, checkpoint_directory, **__):
        asked.append(checkpoint_directory)
        if len(asked) == 3:
            write_text(checkpoint_directory / "step-1", "")
            raise Stopped(signal.SIGTERM)
        trials.append((experiment.training.learning_rate, seed))
        return SimpleNamespace(
            result=SimpleNamespace(dev_loss=abs(math.log(experiment.training.learning_rate / 0.003)))
        )

    monkeypatch.setattr(fitting, "fit", fit)
    with pytest.raises(Stopped):
        search_learning_rate(plan, plan.search)
    search_learning_rate(plan, plan.search)
    assert len(trials) == len(set(trials)), "a trial that had ended was run again"
    assert asked[2] == asked[3], "the trial that was stopped has its checkpoint"
    assert not asked[2].exists()
    assert len(set(asked)) == len(asked) - 1
    assert "discarded" not in capsys.readouterr().out
    before = len(trials)
    monkeypatch.setattr("pipelines.shared.experiment.made_by", lambda *_: "f" * 64)
    search_learning_rate(plan, plan.search)
    assert "discarded: made with other settings, data, code or versions" in capsys.readouterr().out
    assert trials[before:] == trials[:before]


def test_of_equal_losses_the_smaller_rate_wins():
    assert best_rate({0.2: {3: 1.0}, 0.1: {3: 1.0}}, search.model_copy(update={"seeds": (3,)})) == 0.1
