import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.stats.bootstrap import (
    Rowwise,
    bca_ends,
    bootstrap_interval,
    bootstrap_replicates,
    jackknife,
    paired_bootstrap,
    paired_from_replicates,
    percentile_ends,
    seed_replicates,
)
from replication.metrics.bleu import bleu, bleu_from_statistics, segment_statistics


def ratio(sums):
    """A corpus score of shape (2,) sums that, like BLEU, is not a mean over items."""
    return float(sums[0] / max(sums[1], 1.0))


RATIO = Rowwise(lambda sums: sums[..., 0] / np.maximum(sums[..., 1], 1.0))


def rows_of(seed, items=25):
    rng = np.random.default_rng(seed)
    tried = rng.integers(5, 15, items)
    return np.stack([rng.binomial(tried, 0.6), tried], axis=1)


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
    draws = np.random.default_rng(3).integers(4, size=(20, 4))
    for chosen, replicate in zip(draws, replicates, strict=True):
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
    assert (difference.estimate, difference.low, difference.high) == (0, 0, 0)


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


@given(st.integers(0, 1000))
def test_a_rowwise_statistic_scores_what_the_loop_scores(seed):
    """Replicates, jackknife and estimate: every path, with several seeds."""
    stack = np.stack([rows_of(seed), rows_of(seed + 5000)])
    assert np.array_equal(seed_replicates(stack, RATIO, resamples=30), seed_replicates(stack, ratio, resamples=30))
    assert np.array_equal(jackknife(stack, RATIO), jackknife(stack, ratio))
    assert RATIO([3, 4]) == 0.75


def test_overlap_is_the_seeds_own_variance_on_items():
    """Items times seeds: the items' share is common, the rest differs by seed and is what the overlap estimates."""
    rng = np.random.default_rng(1)
    seeds, items, own = 4, 2000, 0.5
    values = rng.normal(size=items)[None] + own * rng.normal(size=(seeds, items))
    stack = np.stack([values, np.ones_like(values)], axis=2)
    zero = np.stack([np.zeros_like(values), np.ones_like(values)], axis=2)
    found = paired_bootstrap(stack, zero, RATIO, resamples=4000)
    assert found.overlap == pytest.approx(own**2 / (seeds * items), rel=0.15)
    assert found.standard_error**2 == pytest.approx((1 + own**2 / seeds) / items, rel=0.1)
    assert paired_bootstrap(stack[:1], zero[:1], RATIO, resamples=50).overlap == 0
    assert paired_bootstrap(stack, zero[:1], RATIO, resamples=50).overlap == 0


def test_a_paired_difference_from_kept_replicates_is_the_same():
    first, second = rows_of(1), rows_of(2)
    whole = paired_bootstrap(first, second, RATIO, resamples=300)
    kept = [seed_replicates(rows, RATIO, resamples=300) for rows in (first, second)]
    assert paired_from_replicates(whole.estimate, *kept) == whole


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_a_paired_interval_agrees_with_scipys_paired_bootstrap(method):
    """Differences of means on shared items: scipy resamples pairs; ends within Monte Carlo error of each other."""
    rng = np.random.default_rng(4)
    first = rng.gamma(2, size=80)
    second = first + rng.normal(0.1, 0.4, size=80)
    expected = stats.bootstrap(
        (first, second), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis), paired=True, n_resamples=9999,
        method=method, rng=5,
    ).confidence_interval  # fmt: skip
    mean = Rowwise(lambda sums: sums[..., 0] / 80)
    if method == "percentile":
        found = paired_bootstrap(first[:, None], second[:, None], mean)
    else:
        found = bootstrap_interval((first - second)[:, None], mean, method="bca")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.006)


def test_real_predictions_give_the_same_replicates_by_both_forms():
    """The committed predictions of the cpu profile: BLEU by the vectorised form and by the plain function."""
    from analysis.stats.items import statistic_of

    path = Path(__file__).parents[3] / "runs" / "cpu" / "e2e-solo-k6" / "predictions" / "seed-18.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = segment_statistics([row["prediction"] for row in rows], [row["references"] for row in rows])
    fast = bootstrap_replicates(found, statistic_of("BLEU", "generation"), resamples=50)
    assert fast == pytest.approx(bootstrap_replicates(found, bleu_from_statistics, resamples=50), rel=1e-12)
