import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.stats.seeds import (
    deviation_factors,
    holm,
    interquartile_mean,
    largest_rise,
    smooth,
    stratified_bootstrap,
    summarise_seeds,
    t_interval,
)

scores = st.floats(-10, 10, allow_nan=False).map(lambda value: round(value, 6))


samples = st.lists(scores, min_size=2, max_size=30)


chances = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(samples)
def test_summary_agrees_with_numpy(values):
    summary = summarise_seeds(values)
    assert summary.mean == pytest.approx(np.mean(values), abs=1e-12)
    assert summary.standard_deviation == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert summary.seeds == len(values)


def test_one_seed_has_no_spread_and_no_interval():
    assert summarise_seeds([0.5]).standard_deviation is None
    assert t_interval([0.5]) is None


@pytest.mark.parametrize("values", [[], [float("nan")], [0.1, float("inf")]])
def test_scores_that_are_none_or_not_finite_are_refused(values):
    with pytest.raises(ValueError, match="finite score"):
        summarise_seeds(values)


@given(samples.filter(lambda values: np.std(values) > 1e-6), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_t_interval_agrees_with_scipy(values, confidence):
    expected = stats.t.interval(confidence, len(values) - 1, np.mean(values), stats.sem(values))
    interval = t_interval(values, confidence)
    assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.lists(scores, min_size=1, max_size=40), st.integers(1, 10))
def test_smoothing_stays_between_the_extremes_and_never_looks_ahead(values, window):
    smoothed = smooth(values, window)
    assert len(smoothed) == len(values)
    assert smoothed[0] == values[0]
    assert min(values) - 1e-9 <= smoothed.min()
    assert smoothed.max() <= max(values) + 1e-9
    cut = len(values) // 2 + 1
    assert np.array_equal(smooth(values[:cut], window), smoothed[:cut])


@given(st.lists(scores, min_size=1, max_size=40))
def test_a_rise_is_zero_exactly_for_a_falling_curve(values):
    assert largest_rise(sorted(values, reverse=True)) == 0
    assert largest_rise(values) >= 0
    assert (largest_rise(values) == 0) == (values == sorted(values, reverse=True))


def test_largest_rise_counts_from_the_lowest_value_so_far():
    assert largest_rise([5, 3, 4, 2, 2.5, 1]) == 1
    assert largest_rise([]) == 0


@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 1000))
def test_interquartile_mean_is_scipys_trimmed_mean(seeds, tasks, seed):
    """rliable's definition: scipy.stats.trim_mean(scores, 0.25, axis=None)."""
    values = np.random.default_rng(seed).normal(size=(seeds, tasks))
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25, axis=None))
    many = np.stack([values, values + 1])
    one = float(interquartile_mean(values))
    assert interquartile_mean(many) == pytest.approx(np.array([one, one + 1]))


@pytest.mark.parametrize(
    ("values", "mean", "low", "high"),
    [
        (np.random.default_rng(7).gamma(2.0, size=(5, 8)).round(3), 1.46005, 1.21145, 1.77585),
        (np.random.default_rng(8).normal(size=(3, 4)).round(3), -0.3535, -1.023, 0.52833),
    ],
    ids=["5x8", "3x4"],
)
def test_stratified_bootstrap_gives_rliables_interval(values, mean, low, high):
    """Golden: rliable 1.2.0 with arch 7.2.0 and pandas 2.3.3, get_interval_estimates, 50,000 repetitions, seed 0.

    rliable 1.2.0 wants arch below 8, which does not import with the pandas pinned here, so it was run apart.
    """
    found = stratified_bootstrap(values, resamples=20_000)
    assert found.estimate == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)


def test_strata_are_kept_apart():
    """Every task has one value, so drawing seeds within a task changes nothing; across tasks it would."""
    found = stratified_bootstrap(np.tile([0.0, 1.0, 2.0, 10.0], (3, 1)), resamples=50)
    assert (found.low, found.estimate, found.high) == (1.5, 1.5, 1.5)


def test_stratified_replicates_have_the_written_out_distribution():
    """Two seeds, two tasks: all 16 draws, by hand."""
    values = np.array([[0.0, 10.0], [1.0, 30.0]])
    every = [
        np.mean([values[a, 0], values[b, 0], values[c, 1], values[d, 1]])
        for a, b, c, d in itertools.product((0, 1), repeat=4)
    ]
    found = stratified_bootstrap(values, lambda scores: scores.mean(axis=(-2, -1)), resamples=5000, confidence=0.4)
    assert (found.low, found.high) == (np.quantile(every, 0.3), np.quantile(every, 0.7)) == (10.0, 10.5)


@pytest.mark.parametrize(
    "values", [np.zeros((0, 3)), np.zeros(3), np.full((2, 2), np.nan)], ids=["none", "flat", "nan"]
)
def test_aggregates_refuse_other_shapes(values):
    with pytest.raises(ValueError, match="n_seeds, n_tasks"):
        stratified_bootstrap(values)
    if not np.isnan(values).any():
        with pytest.raises(ValueError, match="n_seeds, n_tasks"):
            interquartile_mean(values)


@pytest.mark.parametrize("seeds", [3, 8])
def test_the_true_deviation_lies_between_the_factors_as_often_as_said(seeds):
    low, high = deviation_factors(seeds, 0.9)
    found = np.random.default_rng(seeds).normal(size=(20_000, seeds)).std(axis=1, ddof=1)
    assert ((low * found <= 1) & (high * found >= 1)).mean() == pytest.approx(0.9, abs=0.01)
    assert (high * found < 1).mean() == pytest.approx(0.05, abs=0.01)


def test_holm_by_hand():
    """Holm 1979: 0.01 x 4, 0.02 x 3, then 0.03 x 2 = 0.06 and 0.04 x 1 lifted to 0.06."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([0.02]).tolist() == [0.02]
    assert holm([]).tolist() == []


@given(chances)
def test_holm_follows_its_step_down_definition(values):
    """Rejecting at level a: go up the ordered p-values while p(i) <= a / (m - i), stop at the first that is not."""
    adjusted = holm(values)
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, index in enumerate(np.argsort(values, kind="stable")):
            if values[index] * (len(values) - rank) > level:
                break
            rejected.add(int(index))
        assert {index for index, p in enumerate(adjusted) if p <= level} == rejected


@given(chances, st.randoms())
def test_holm_lies_between_the_raw_and_bonferronis_and_knows_no_order(values, random):
    adjusted = holm(values)
    assert (adjusted >= np.array(values)).all()
    assert (adjusted <= np.minimum(1, len(values) * np.array(values)) + 1e-12).all()
    order = list(range(len(values)))
    random.shuffle(order)
    assert np.array_equal(holm([values[index] for index in order]), adjusted[order])


@pytest.mark.parametrize("values", [[1.2], [-0.1], [float("nan")], [[0.1]]], ids=str)
def test_holm_refuses_what_is_no_p_value(values):
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        holm(values)


def test_smoothing_is_a_trailing_mean():
    assert smooth([1, 3, 2, 1], 2).tolist() == [1, 2, 2.5, 1.5]
    with pytest.raises(ValueError, match="window=0"):
        smooth([1.0], 0)


@pytest.mark.parametrize(
    "function", [t_interval, lambda values, confidence: stratified_bootstrap([values], confidence=confidence)]
)
def test_a_confidence_in_per_cent_is_refused(function):
    with pytest.raises(ValueError, match="confidence=95"):
        function([1.0, 2.0], 95)
