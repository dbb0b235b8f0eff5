"""Exponents, the made-up runs, and that each curve can be made; nothing is timed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.growth import SHAPE, curves, described, exponent, made_up_runs, measure_growth
from replication.errors import ConfigError


@given(
    power=st.floats(0, 3),
    factor=st.floats(0.01, 100),
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5, unique=True),
)
def test_the_exponent_of_a_power_is_that_power(power, factor, sizes):
    sizes = sorted(sizes)
    assert exponent(sizes, [factor * size**power for size in sizes]) == pytest.approx(power, abs=1e-6)


def test_a_curve_is_described_by_its_numbers():
    found = described("what", (1, 2, 4), (1.0, 2.0, 8.0), 1)
    assert (found["exponent"], found["sizes"], found["needs"]) == (2.0, [1, 2, 4], 1)


def test_the_step_at_the_smallest_size_runs():
    assert SHAPE["n_embd"] < 768
    assert curves()["rank"].make(4)() > 0


def test_made_up_runs_have_as_many_records_as_asked_for(tmp_path):
    runs = made_up_runs(tmp_path, 10)
    assert len(list(runs.glob("*/training/seed-*/record.json"))) == 10


def test_a_curve_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--only rnak: no such curve; curves: K; rank; depth;"):
        measure_growth(["rnak"], tmp_path)
    assert list(tmp_path.iterdir()) == []
