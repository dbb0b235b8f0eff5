"""The harness with fake clocks and made-up contenders: what it keeps, divides and writes. Nothing is timed."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import __main__ as command
from benchmarks import harness
from benchmarks.harness import Benchmark, in_turn, measure, paired_ratios, spread, table


class Clock:
    """Time that passes only when someone works."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def work(self, name, seconds):
        def call():
            self.order.append(name)
            self.now += seconds

        return call


SECONDS = st.integers(1, 1000)


@given(a=SECONDS, b=SECONDS, rounds=st.integers(1, 6), warmup=st.integers(0, 3))
def test_contenders_take_turns_and_warm_up_is_not_kept(a, b, rounds, warmup):
    clock = Clock()
    works = {"a": clock.work("a", a), "b": clock.work("b", b)}
    taken = in_turn(works, rounds, warmup, {"fake": clock}, lambda line: None)
    assert clock.order == ["a", "b"] * (rounds + warmup)
    assert taken == {"fake": {"a": [a] * rounds, "b": [b] * rounds}}


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=9))
def test_ratios_are_taken_within_a_round(pairs):
    own, base = (list(map(float, side)) for side in zip(*pairs, strict=True))
    found = paired_ratios({"own": own, "base": base}, "base")
    assert found["base"] == {"median": 1.0, "q1": 1.0, "q3": 1.0}
    expected = np.percentile(np.array(own) / np.array(base), [25, 50, 75])
    assert [found["own"][key] for key in ("q1", "median", "q3")] == pytest.approx(list(expected), rel=1e-3)


@given(st.lists(SECONDS, min_size=1, max_size=9), st.floats(0.1, 10))
def test_a_machine_that_slows_down_does_not_change_a_ratio(base, factor):
    own = [factor * value for value in base]
    assert paired_ratios({"own": own, "base": base}, "base")["own"]["median"] == pytest.approx(factor, rel=1e-3)


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=20))
def test_the_spread_is_ordered(values):
    found = spread(values)
    assert found["q1"] <= found["median"] <= found["q3"]


@pytest.fixture
def made_up(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(harness, "CLOCKS", {"processor": clock})
    monkeypatch.setattr(harness, "peak_of", lambda benchmark, contender: {"a": 100, "b": 50}[contender])
    works = {"a": clock.work("a", 4), "b": clock.work("b", 3)}
    contenders = {name: lambda work=work: work for name, work in works.items()}
    sizes = {id(works["a"]): 10, id(works["b"]): 5}
    return Benchmark(
        "made up", "a", contenders, rounds=3, memory=True, count=lambda work: {"saved_bytes": sizes[id(work)]}
    )


def test_a_result_holds_ratios_counts_machine_and_versions(made_up, tmp_path):
    result = measure("toy", made_up, output=tmp_path)
    assert result["ratios"]["processor"]["b"] == {"median": 0.75, "q1": 0.75, "q3": 0.75}
    assert result["counts"] == {"saved_bytes": {"a": 10, "b": 5}, "peak_memory_bytes": {"a": 100, "b": 50}}
    assert {"cpu", "cores", "threads", "load_before", "date", "torch", "transformers", "peft"} <= set(result["machine"])
    assert (tmp_path / "toy.json").is_file()
    assert "0.750 (0.750-0.750)" in table("toy", result)


def test_a_run_that_is_stopped_leaves_the_rounds_it_has(made_up, tmp_path, monkeypatch):
    def stop(line):
        if line == "  round 3 of 3":
            raise KeyboardInterrupt

    monkeypatch.setattr(harness, "say", lambda line: stop(line.replace("round 5 of 9", "round 3 of 3")))
    with pytest.raises(KeyboardInterrupt):
        measure("toy", made_up, rounds=9, output=tmp_path)
    assert json.loads((tmp_path / "toy.json").read_text())["rounds"] == 4


def test_results_that_differ_are_an_error(made_up, tmp_path):
    works = {"a": lambda: lambda: "text", "b": lambda: lambda: "another"}
    with pytest.raises(AssertionError, match="b does not return what the other contenders return"):
        measure("toy", Benchmark("", "a", works, same_results=True), output=tmp_path)


def test_every_benchmark_builds_with_its_base_among_its_contenders():
    for name in command.BENCHMARKS:
        benchmark = command.build(name)
        assert benchmark.base in benchmark.contenders
