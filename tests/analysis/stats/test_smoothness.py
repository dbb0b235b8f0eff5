import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.load.judgement import load_judgement
from analysis.stats.smoothness import (
    EARLIER_WINDOW,
    MEASURES,
    WINDOWS,
    distance_from_descent,
    excess_variation,
    smoothed_rise,
    sum_of_rises,
)

CURVES = st.lists(st.floats(0, 10), min_size=16, max_size=60)


def test_the_measures_are_those_that_were_fixed_and_the_first_decides():
    assert list(load_judgement().smoothness.measures) == list(MEASURES)
    assert EARLIER_WINDOW in WINDOWS


def least_squares_descent(values):
    """The best non-increasing fit: min over starts a <= i of the max over ends b >= i of mean(a..b)."""
    size = len(values)
    return [
        min(max(np.mean(values[a : b + 1]) for b in range(i, size)) for a in range(i + 1)) for i in range(size)
    ]  # fmt: skip


@given(st.lists(st.floats(0, 10), min_size=2, max_size=12))
def test_the_distance_is_that_of_the_minimax_formula(values):
    fitted = np.array(least_squares_descent(values))
    assert distance_from_descent(values) == pytest.approx(np.sqrt(np.mean((np.array(values) - fitted) ** 2)), abs=1e-9)


@given(CURVES)
def test_a_curve_that_only_falls_is_perfectly_smooth(values):
    falling = np.sort(values)[::-1]
    assert distance_from_descent(falling) == pytest.approx(0, abs=1e-9)
    assert sum_of_rises(falling) == 0
    assert smoothed_rise(falling, 3) == pytest.approx(0, abs=1e-9)
    if falling[0] - falling[-1] > 1e-6:
        assert excess_variation(falling) == pytest.approx(0, abs=1e-6)


@given(CURVES, st.floats(0.1, 5), st.floats(-3, 3))
def test_rises_make_every_measure_larger_and_a_shift_changes_none(values, rise, shift):
    falling = np.sort(values)[::-1] - np.arange(len(values))
    bumped = falling.copy()
    bumped[8] = bumped[7] + rise
    for measure in (distance_from_descent, excess_variation, sum_of_rises):
        assert measure(bumped) > measure(falling)
        assert measure(bumped + shift) == pytest.approx(measure(bumped), abs=1e-6)


def test_the_variation_of_a_curve_that_does_not_fall_is_undefined():
    assert math.isnan(excess_variation([1.0, 2.0, 1.5]))
    assert excess_variation([2.0, 1.0, 1.5, 1.0]) == pytest.approx(1.0)
    assert sum_of_rises([2.0, 1.0, 1.5, 1.0, 1.25]) == pytest.approx(0.75)
    assert smoothed_rise([3.0, 2.0, 2.5, 2.0], 1) == 0.5


def test_the_smoothed_rise_begins_where_the_window_is_full():
    """Of [1, 2, 2.5, 1.5]: the first value is no mean of two, and from the second on the largest rise is 0.5."""
    assert smoothed_rise([1.0, 3.0, 2.0, 1.0], 2) == 0.5
