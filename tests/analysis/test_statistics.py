import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics import (
    bca_ends,
    bootstrap_interval,
    bootstrap_replicates,
    jackknife,
    largest_rise,
    paired_bootstrap,
    percentile_ends,
    smooth,
    summarise_seeds,
    t_interval,
)
from replication.metrics.bleu import bleu, bleu_from_statistics, segment_statistics

scores = st.floats(-10, 10, allow_nan=False).map(lambda value: round(value, 6))
samples = st.lists(scores, min_size=2, max_size=30)


def ratio(sums):
    """A corpus score of shape (2,) sums that, like BLEU, is not a mean over items."""
    return float(sums[0] / max(sums[1], 1.0))


def rows_of(seed, items=25):
    rng = np.random.default_rng(seed)
    tried = rng.integers(5, 15, items)
    return np.stack([rng.binomial(tried, 0.6), tried], axis=1)


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


@pytest.mark.parametrize("method", ["percentile", "BCa"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bootstrap_agrees_with_scipy_on_the_same_resamples(method, seed):
    """scipy builds its interval from our replicates, so only the interval's construction is compared: exactly."""
    values = np.random.default_rng(seed).gamma(1.5, size=30)
    replicates = bootstrap_replicates(values[:, None], lambda sums: sums[0] / 30, resamples=999, seed=seed)

    class Ours:
        bootstrap_distribution = replicates

    expected = stats.bootstrap((values,), np.mean, n_resamples=0, method=method, bootstrap_result=Ours())
    interval = bootstrap_interval(
        values[:, None], lambda sums: sums[0] / 30, method=method.lower(), resamples=999, seed=seed
    )
    assert interval.estimate == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval), rel=1e-9)


def test_bootstrap_of_a_mean_has_scipys_width():
    values = np.random.default_rng(5).normal(size=60)
    ours = bootstrap_interval(values[:, None], lambda sums: sums[0] / 60, resamples=4000, seed=1)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert ours.half_width == pytest.approx((theirs.high - theirs.low) / 2, rel=0.08)


def test_bleu_replicates_are_bleu_of_resampled_texts():
    """The sufficient statistics give what scoring the drawn items again would give."""
    predictions = ["a red house stands here", "the dog barks", "we eat fish and chips", "blue sky over the sea"]
    references = [["a red house is here"], ["the dog barks loudly", "a dog barks"], ["we eat fish"], ["blue sky"]]
    rows = segment_statistics(predictions, references)
    replicates = bootstrap_replicates(rows, bleu_from_statistics, resamples=20, seed=3)
    draws = np.random.default_rng(3).multinomial(4, [0.25] * 4, size=20)
    for weights, replicate in zip(draws, replicates, strict=True):
        chosen = [index for index, count in enumerate(weights) for _ in range(count)]
        expected = bleu([predictions[i] for i in chosen], [references[i] for i in chosen])
        assert replicate == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 1000))
def test_order_of_items_does_not_change_an_estimate(seed):
    rows = rows_of(seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    first = bootstrap_interval(rows, ratio, resamples=50)
    second = bootstrap_interval(rows[order], ratio, resamples=50)
    assert first.estimate == second.estimate


@given(st.integers(0, 1000), st.sampled_from(["percentile", "bca"]))
def test_intervals_are_ordered_and_repeat(seed, method):
    rows = rows_of(seed)
    first = bootstrap_interval(rows, ratio, method=method, resamples=200)
    assert first == bootstrap_interval(rows, ratio, method=method, resamples=200)
    assert first.low <= first.high
    assert first.low >= 0
    assert first.high <= 1


@given(st.integers(0, 1000))
def test_more_confidence_is_wider(seed):
    rows = rows_of(seed)
    narrow, wide = (bootstrap_interval(rows, ratio, confidence=level, resamples=300) for level in (0.5, 0.95))
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@given(st.integers(0, 1000))
def test_seeds_of_the_same_items_are_averaged(seed):
    first, second = rows_of(seed), rows_of(seed + 5000)
    both = bootstrap_interval(np.stack([first, second]), ratio, resamples=20)
    alone = [bootstrap_replicates(rows, ratio, resamples=20, seed=0) for rows in (first, second)]
    assert both.estimate == pytest.approx((ratio(first.sum(axis=0)) + ratio(second.sum(axis=0))) / 2)
    assert (both.low, both.high) == pytest.approx(percentile_ends(np.mean(alone, axis=0), 0.95))


@given(st.integers(0, 1000))
def test_a_method_does_not_differ_from_itself(seed):
    rows = rows_of(seed)
    difference = paired_bootstrap(rows, rows, ratio, resamples=50)
    assert (difference.estimate, difference.low, difference.high, difference.share_above_zero) == (0, 0, 0, 0)


@given(st.integers(0, 1000))
def test_swapping_the_methods_turns_the_difference_round(seed):
    first, second = rows_of(seed), rows_of(seed + 5000)
    there = paired_bootstrap(first, second, ratio, resamples=100)
    back = paired_bootstrap(second, first, ratio, resamples=100)
    assert back.estimate == -there.estimate
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


def test_pairing_is_narrower_than_two_separate_intervals():
    rng = np.random.default_rng(0)
    difficulty = rng.integers(1, 15, 80)
    first = np.stack([difficulty, np.full(80, 15)], axis=1)
    second = np.stack([np.maximum(difficulty - rng.integers(0, 2, 80), 0), np.full(80, 15)], axis=1)
    paired = paired_bootstrap(first, second, ratio)
    assert paired.low > 0
    assert paired.half_width < bootstrap_interval(first, ratio).half_width / 2


def test_a_comparison_on_different_items_is_refused():
    with pytest.raises(ValueError, match="first has 25 items, second 24"):
        paired_bootstrap(rows_of(0), rows_of(1, items=24), ratio)


def test_jackknife_leaves_out_each_item_once():
    rows = rows_of(4, items=6)
    expected = [ratio(np.delete(rows, item, axis=0).sum(axis=0)) for item in range(6)]
    assert jackknife(rows, ratio) == pytest.approx(expected)


def test_bca_falls_back_where_it_is_undefined():
    replicates = np.linspace(0, 1, 101)
    assert bca_ends(replicates, 0.5, np.full(10, 0.5), 0.9) == percentile_ends(replicates, 0.9)
    assert bca_ends(replicates, 2.0, np.arange(10), 0.9) == percentile_ends(replicates, 0.9)


@pytest.mark.parametrize(
    "change", [{"confidence": 1.0}, {"confidence": 0}, {"method": "normal"}, {"resamples": 0}], ids=str
)
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        bootstrap_interval(rows_of(0), ratio, **change)


@pytest.mark.parametrize("shape", [(0, 2), (3,), (0, 3, 2)])
def test_rows_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        bootstrap_interval(np.zeros(shape), ratio)


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
