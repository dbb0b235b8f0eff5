"""The test of a mean difference over seeds and items: against scipy, its laws, and its errors without an effect."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.stats.mean_test import MeanTest, Noise, welch
from analysis.stats.seeds import holm, t_interval

VALUES = st.lists(st.floats(-1, 1), min_size=3, max_size=12).filter(lambda values: np.std(values) > 1e-3)
NULLS, ERRORS = st.floats(-0.5, 0.5), st.floats(0.001, 0.3)


@given(VALUES, NULLS)
def test_without_items_it_is_the_paired_t_test(values, null):
    found = MeanTest.of(values)
    assert found.p_value(null) == pytest.approx(stats.ttest_1samp(values, null).pvalue, abs=1e-12)
    here, there = found.interval(0.9), t_interval(values, 0.9)
    assert (here.low, here.high) == pytest.approx((there.low, there.high))


@given(st.floats(0.01, 1), st.integers(2, 40), st.floats(0.01, 1), st.integers(2, 40))
def test_two_noises_are_welchs_test(first, n_first, second, n_second):
    """Two samples with these variances: scipy's Welch test has this error and these degrees of freedom."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=n_first)
    b = rng.normal(size=n_second)
    a, b = first * (a - a.mean()) / a.std(ddof=1), second * (b - b.mean()) / b.std(ddof=1)
    found = stats.ttest_ind(a + 1, b, equal_var=False)
    noises = [Noise(first**2 / n_first, n_first - 1), Noise(second**2 / n_second, n_second - 1)]
    error, degrees = welch(noises)
    assert (1 / error, degrees) == pytest.approx((found.statistic, found.df))


@given(VALUES, ERRORS, NULLS)
def test_the_p_is_the_larger_and_never_below_either(values, error, null):
    items = (Noise(error**2, 500),)
    both, seeds, joint = (MeanTest.of(values, items, t).p_value(null) for t in ("both", "seeds", "seeds and items"))
    assert both >= seeds - 1e-12
    spread = Noise(float(np.var(values, ddof=1)) / len(values), len(values) - 1)
    total, degrees = welch((spread, *items))
    with_items = 2 * stats.t.sf(abs(np.mean(values) - null) / total, degrees)
    assert both == pytest.approx(max(seeds, with_items), abs=1e-12)
    assert joint == pytest.approx(with_items, abs=1e-12)


@given(VALUES, ERRORS, st.floats(0.5, 0.999), NULLS)
def test_the_interval_excludes_what_the_p_rejects(values, error, confidence, null):
    found = MeanTest.of(values, (Noise(error**2, 500),))
    interval, p = found.interval(confidence), found.p_value(null)
    if abs(p - (1 - confidence)) > 1e-9:
        assert (null < interval.low or null > interval.high) == (p < 1 - confidence)


@given(VALUES, ERRORS, NULLS, st.floats(0.1, 10))
def test_units_do_not_matter(values, error, null, unit):
    here = MeanTest.of(values, (Noise(error**2, 300),)).p_value(null)
    there = MeanTest.of([unit * v for v in values], (Noise((unit * error) ** 2, 300),)).p_value(unit * null)
    assert there == pytest.approx(here, abs=1e-9)


def test_no_noise_at_all():
    exact = MeanTest(0.1, Noise(0.0, 2), ())
    assert (exact.p_value(0.0), exact.p_value(0.1)) == (0.0, 1.0)
    assert welch(()) == (0.0, math.inf)
    with pytest.raises(ValueError, match="at least two"):
        MeanTest.of([0.1])


# Standard deviations of a seed's training (the same for no two comparisons), of the items (shared by all seeds) and of
# one seed's own answers on these items: from seeds alone to items alone.
MIXES = [(0.02, 0.003, 0.0), (0.02, 0.003, 0.01), (0.01, 0.01, 0.01), (0.003, 0.01, 0.01), (0.0, 0.01, 0.01)]


def family_error(mix, seeds, comparisons, families=4000, alpha=0.05, test="both"):
    """Share of families without a true effect in which Holm rejects anything."""
    training, common, own = mix
    rng = np.random.default_rng(1)
    shape = (families, comparisons)
    values = common * rng.normal(size=(*shape, 1)) + math.hypot(training, own) * rng.normal(size=(*shape, seeds))
    mean, of_seeds = values.mean(axis=2), values.var(axis=2, ddof=1) / seeds
    of_items = common**2 + own**2 / seeds
    p_seeds = 2 * stats.t.sf(np.abs(mean) / np.sqrt(of_seeds), seeds - 1)
    degrees = (seeds - 1) * (of_seeds + of_items) ** 2 / of_seeds**2
    p_both = 2 * stats.t.sf(np.abs(mean) / np.sqrt(of_seeds + of_items), degrees)
    p_items = 2 * stats.norm.sf(np.abs(mean) / math.sqrt(of_items))
    chosen = {"both": np.maximum(p_seeds, p_both), "old": np.maximum(p_seeds, p_items), "items": p_items}[test]
    return float((comparisons * chosen.min(axis=1) <= alpha).mean())  # Holm rejects something where Bonferroni does


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_the_family_error_stays_near_five_per_cent(mix):
    """1 to 20 comparisons, 3 to 12 seeds: at most 7 %, three standard errors of the simulation above the stated 6."""
    found = [family_error(mix, seeds, m) for seeds in (3, 5, 8, 12) for m in (1, 2, 7, 20)]
    assert max(found) <= 0.06 + 3 * math.sqrt(0.06 * 0.94 / 4000)
    assert min(found) >= 0.004 - 3 * math.sqrt(0.004 * 0.996 / 4000)


def test_it_is_not_so_strict_that_nothing_can_be_decided():
    """At least 1 % false positives in every mix at one comparison, and near 5 % where one noise dominates."""
    alone = {mix: [family_error(mix, seeds, 1) for seeds in (3, 8, 12)] for mix in MIXES}
    assert min(min(found) for found in alone.values()) > 0.01
    assert all(0.03 < error < 0.06 for error in alone[MIXES[0]])


def test_the_larger_of_item_and_seed_p_errs_with_many_seeds():
    """What was tried before: right with three seeds, wrong twice as often as stated with eight or twelve."""
    mix = (0.02, 0.01, 0.0)
    assert family_error(mix, 3, 1, test="old") < 0.07
    assert min(family_error(mix, seeds, 1, test="old") for seeds in (8, 12)) > 0.08
    assert max(family_error(mix, seeds, 1) for seeds in (8, 12)) < 0.065


def kept(effect, seeds, runs=20_000, margin=0.012, noise=(0.0214, 0.0029, 0.0084)):
    """Shares of "supported" and "contradicted" of a question with a margin, at the noise of WeightLoRA's claim 1."""
    (training, common, own), rng = noise, np.random.default_rng(3)
    values = effect + common * rng.normal(size=(runs, 1)) + math.hypot(training, own) * rng.normal(size=(runs, seeds))
    mean, of_seeds, of_items = values.mean(axis=1), values.var(axis=1, ddof=1) / seeds, common**2 + own**2 / seeds

    def p_value(null):
        p_seeds = stats.t.sf(np.abs(mean - null) / np.sqrt(of_seeds), seeds - 1)
        degrees = (seeds - 1) * (of_seeds + of_items) ** 2 / of_seeds**2
        return 2 * np.maximum(p_seeds, stats.t.sf(np.abs(mean - null) / np.sqrt(of_seeds + of_items), degrees))

    supported = (mean > -margin) & (p_value(-margin) <= 0.05)
    return supported.mean(), ((mean < 0) & (p_value(0.0) <= 0.05) & ~supported).mean()


@pytest.mark.parametrize(
    ("effect", "seeds", "shares"),
    [(0.0, 8, (0.22, 0.02)), (0.0, 40, (0.70, 0.02)), (-0.006, 8, (0.08, 0.08)), (-0.006, 40, (0.22, 0.22)),
     (-0.0115, 8, (0.03, 0.20)), (-0.0115, 40, (0.03, 0.66))],
)  # fmt: skip
def test_a_loss_within_the_margin_is_found_to_be_one_the_more_often_the_more_seeds(effect, seeds, shares):
    """The shares that docs/decision_rule.md states."""
    assert kept(effect, seeds) == pytest.approx(shares, abs=0.01)


def test_holm_over_item_p_values_alone_errs_most():
    """Seed spread 0.02, item error 0.003, no effect, 7 comparisons: nearly always something is found."""
    assert family_error((0.02, 0.003, 0.0), 3, 7, test="items") > 0.9


@pytest.mark.parametrize(("comparisons", "wanted"), [(7, 0.30), (20, 0.63)])
def test_the_earlier_rule_erred_as_often_as_the_documents_say(comparisons, wanted):
    """Holm over the items' p-values, and beside it each seed interval at 5 %: three seeds, no effect."""
    rng, families, seeds, of_items = np.random.default_rng(1), 5000, 3, 0.003
    values = of_items * rng.normal(size=(families, comparisons, 1))
    values = values + 0.02 * rng.normal(size=(families, comparisons, seeds))
    mean, of_seeds = values.mean(axis=2), values.std(axis=2, ddof=1) / math.sqrt(seeds)
    p_items, p_seeds = 2 * stats.norm.sf(np.abs(mean) / of_items), 2 * stats.t.sf(np.abs(mean) / of_seeds, seeds - 1)
    adjusted = np.array([holm(row) for row in p_items])
    found = ((adjusted <= 0.05) & (p_seeds <= 0.05)).any(axis=1).mean()
    assert found == pytest.approx(wanted, abs=3 * math.sqrt(0.25 / families))


def test_the_simulation_rejects_what_the_rule_rejects():
    """The vectorised p of the simulation is MeanTest's, and Bonferroni's first step is Holm's."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        values, error = rng.normal(0.01, 0.02, size=5), 0.004
        found = MeanTest.of(values, (Noise(error**2),))
        of_seeds = values.var(ddof=1) / 5
        p_seeds = 2 * stats.t.sf(abs(values.mean()) / math.sqrt(of_seeds), 4)
        degrees = 4 * (of_seeds + error**2) ** 2 / of_seeds**2
        p_both = 2 * stats.t.sf(abs(values.mean()) / math.sqrt(of_seeds + error**2), degrees)
        assert found.p_value() == pytest.approx(max(p_seeds, p_both), abs=1e-12)
        p_values = rng.uniform(0, 0.2, size=6)
        assert (holm(p_values).min() <= 0.05) == (6 * p_values.min() <= 0.05)
