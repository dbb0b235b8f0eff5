"""Marks of the best score: laws on made-up differences, and the cases that runs bring."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from analysis.judge.best import best, distinguishable, unbeaten_baselines
from analysis.judge.decision import Difference
from analysis.judge.study import Study
from analysis.load.runs import load_profile
from analysis.stats.mean_test import Noise
from analysis.stats.seeds import SeedSummary

SEEDS = (18, 52, 1917)


class FakeStudy:
    """Runs with these means; every difference of two of them has the same noise, over items and over seeds."""

    def __init__(self, means, noise, steps=None, methods=None):
        self.noise, self.runs = noise, {}
        steps, methods = steps or {}, methods or {}
        self.rows = []
        for index, mean in enumerate(means):
            name = f"run-{index}"
            corpus = SimpleNamespace(sha256={}, train_examples=1, metric=None)
            record = SimpleNamespace(corpus=corpus, training={"steps": steps.get(index, 100)})
            self.runs[name] = SimpleNamespace(
                name=name, record=record, form="classification", directory=Path("/nowhere"), mean=mean
            )
            self.rows.append(
                SimpleNamespace(
                    experiment=name, setting=("b", "t"), method=methods.get(index, "lora"), status="complete",
                    form="classification", protocol=None, scores={"accuracy": SeedSummary(mean, 0.1, 3)},
                )
            )  # fmt: skip

    def named(self, name):
        return self.runs[name]

    def difference(self, first, second, metric=None):
        effect = first.mean - second.mean
        by_seed = tuple(float(value) for value in effect + self.noise * np.array([-0.4, 0.0, 0.4]))
        return Difference(metric, SEEDS, by_seed, None, (Noise((self.noise / 2) ** 2, 600),))


means = st.lists(st.integers(1, 12).map(lambda value: value / 10), min_size=1, max_size=6)
noises = st.floats(0.01, 0.9)


def marked(study, rows=None):
    return best(study, study.rows if rows is None else rows, "accuracy")


@given(means, noises)
def test_at_most_one_row_is_marked_and_it_has_the_best_mean(values, noise):
    study = FakeStudy(values, noise)
    found = marked(study)
    assert len(found) <= 1
    for name in found:
        assert study.runs[name].mean == max(values)


@given(means, noises)
def test_a_tie_of_the_two_best_leaves_the_column_without_a_mark(values, noise):
    assert marked(FakeStudy([*values, max(values)], noise)) == frozenset()


@given(means, noises, st.randoms())
def test_the_order_of_rows_changes_nothing(values, noise, random):
    study = FakeStudy(values, noise)
    shuffled = list(study.rows)
    random.shuffle(shuffled)
    assert marked(study, shuffled) == marked(study)


@given(means, noises)
def test_a_marked_row_is_told_from_the_next_and_an_unmarked_one_is_not(values, noise):
    assume(len(values) > 1 and sorted(values)[-1] > sorted(values)[-2])
    study = FakeStudy(values, noise)
    ordered = sorted(study.runs.values(), key=lambda run: -run.mean)
    following = [run for run in ordered if run.mean == ordered[1].mean]
    told = all(distinguishable(study, ordered[0], run, "accuracy") for run in following)
    assert bool(marked(study)) == told


@given(means, noises)
def test_less_noise_never_takes_a_mark_away(values, noise):
    assert marked(FakeStudy(values, noise)) <= marked(FakeStudy(values, noise / 4))


@given(means, st.floats(0.001, 0.02))
def test_a_baseline_that_no_trained_row_exceeds_is_seen_and_leaves_no_mark(values, noise):
    methods = {0: "baseline_majority"}
    study = FakeStudy(values, noise, methods=methods)
    above = len(values) > 1 and values[0] >= max(values[1:])
    assert unbeaten_baselines(study.rows, "accuracy") == (frozenset({"run-0"}) if above else frozenset())
    assert "run-0" not in marked(study)
    assert not (above and marked(study))


def test_a_row_of_another_budget_is_no_rival():
    assert marked(FakeStudy([0.9, 0.89, 0.2], 0.05)) == frozenset()
    assert marked(FakeStudy([0.9, 0.89, 0.2], 0.05, steps={1: 50})) == {"run-0"}
    assert marked(FakeStudy([0.9, 0.2], 0.05, steps={1: 50})) == frozenset()


@pytest.mark.parametrize("part", ["items", "by_seed"])
def test_the_noise_of_items_and_of_seeds_each_take_a_mark_away(part):
    class Noisy(FakeStudy):
        def difference(self, *arguments):
            found = super().difference(*arguments)
            more = {"items": (Noise(1.0, 600),), "by_seed": (-1.0, 0.2, 1.0)}
            return dataclasses.replace(found, **{part: more[part]})

    assert marked(FakeStudy([0.9, 0.2], 0.05)) == {"run-0"}
    assert marked(Noisy([0.9, 0.2], 0.05)) == frozenset()


def test_what_the_rule_cannot_decide_is_not_marked(write_task_runs, tmp_path):
    """One seed has no interval over seeds, however far apart two methods lie."""
    share = {"my-cola-lora": 0.95, "my-cola-frozen": 0.5}
    one, three = (
        Study.of(load_profile(write_task_runs(tmp_path / name, tasks=("cola",), methods=("frozen", "lora"),
                                              seeds=seeds, quality=share)))
        for name, seeds in (("one", (18,)), ("three", SEEDS))
    )  # fmt: skip
    assert best(one, one.rows, "matthews_correlation") == frozenset()
    assert best(three, three.rows, "matthews_correlation") == {"my-cola-lora"}


def test_each_backbone_and_task_has_a_mark_of_its_own(write_task_runs, tmp_path):
    share = {"my-cola-lora": 0.95, "my-cola-frozen": 0.5, "my-rte-lora": 0.5, "my-rte-frozen": 0.95}
    runs = write_task_runs(tmp_path, tasks=("cola", "rte"), methods=("frozen", "lora"), quality=share)
    study = Study.of(load_profile(runs))
    assert best(study, study.rows, "matthews_correlation") == {"my-cola-lora"}
    assert best(study, study.rows, "accuracy") == {"my-rte-frozen"}


@pytest.mark.parametrize(("p", "found"), [(0.01, {"run-0"}), (0.2, set()), (None, set())])
def test_the_p_value_of_the_rule_decides(p, found):
    class Decided(Difference):
        def p_value(self, null=0.0):
            return p

    class WithP(FakeStudy):
        def difference(self, *arguments):
            difference = super().difference(*arguments)
            return Decided(**{field.name: getattr(difference, field.name) for field in dataclasses.fields(difference)})

    assert marked(WithP([0.9, 0.2], 0.05)) == found


def test_a_lead_that_turns_on_the_shared_seeds_is_no_lead():
    """Means are over each row's own seeds; the difference is over the shared ones."""

    class Turned(FakeStudy):
        def difference(self, first, second, metric=None):
            return super().difference(second, first, metric)

    assert marked(Turned([0.9, 0.2], 0.05)) == frozenset()


def test_only_complete_rows_are_compared():
    study = FakeStudy([0.9, 0.2, 0.1], 0.05)
    study.rows[0].status = "incomplete"
    assert marked(study) == {"run-1"}
    study.rows[1].scores["accuracy"] = None
    assert marked(study) == frozenset()


class Given(FakeStudy):
    """Differences of named pairs of runs, where the shared seeds say something else than the means."""

    given: dict[tuple[str, str], float]

    def difference(self, first, second, metric=None):
        effect = self.given.get((first.name, second.name))
        if effect is None:
            effect = -self.given[second.name, first.name]
        return super().difference(SimpleNamespace(mean=effect), SimpleNamespace(mean=0.0), metric)


def test_equal_means_are_a_tie_whatever_the_shared_seeds_say():
    study = Given([0.9, 0.9], 0.05)
    study.given = {("run-0", "run-1"): 0.5}
    assert marked(study) == frozenset()


def test_every_row_in_the_second_place_is_to_be_distinguished():
    study = Given([0.9, 0.5, 0.5], 0.05)
    study.given = {("run-0", "run-1"): 0.4, ("run-0", "run-2"): 0.01}
    assert marked(study) == frozenset()
    study.given = {("run-0", "run-1"): 0.4, ("run-0", "run-2"): 0.4}
    assert marked(study) == {"run-0"}
