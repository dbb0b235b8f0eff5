"""Power of the rule against simulation, and what it would take to find a difference."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.stats.power import Spread, items_needed, power, seeds_needed, smallest_detectable

SPREADS = st.builds(Spread, st.floats(0.001, 0.05), st.floats(0.0, 0.02), st.floats(0.0, 0.02), st.just(600))


@pytest.mark.parametrize(("seeds", "wanted"), [(3, 0.18), (8, 0.65), (12, 0.83)])
def test_the_stated_power_of_one_comparison(seeds, wanted):
    """Effect 0.02, seed spread 0.02, item error 0.003."""
    assert power(0.02, Spread(0.02, 0.003), seeds, 0.05) == pytest.approx(wanted, abs=0.006)


@pytest.mark.parametrize(
    "spread", [Spread(0.02, 0.003), Spread(0.01, 0.01, 0.01), Spread(0.002, 0.01), Spread(0.0, 0.005, 0.01)], ids=str
)
@pytest.mark.parametrize(("seeds", "alpha"), [(3, 0.05), (8, 0.05), (8, 0.01)])
def test_power_is_what_simulation_finds(spread, seeds, alpha):
    """200,000 draws; standard error at most 0.0011."""
    rng, draws, effect = np.random.default_rng(0), 200_000, 0.02
    values = effect + spread.common * rng.normal(size=(draws, 1))
    values = values + spread.seed_deviation() * rng.normal(size=(draws, seeds))
    mean, of_seeds = values.mean(axis=1), values.var(axis=1, ddof=1) / seeds
    of_items = spread.item_error(seeds) ** 2
    degrees = (seeds - 1) * (of_seeds + of_items) ** 2 / of_seeds**2
    thresholds = np.maximum(
        stats.t.ppf(1 - alpha / 2, seeds - 1) * np.sqrt(of_seeds),
        stats.t.ppf(1 - alpha / 2, degrees) * np.sqrt(of_seeds + of_items),
    )
    assert power(effect, spread, seeds, alpha) == pytest.approx(float((mean > thresholds).mean()), abs=0.005)


@given(SPREADS, st.integers(3, 12), st.floats(1, 5))
@settings(max_examples=30)
def test_the_detectable_difference_is_found_and_has_a_unit(spread, seeds, unit):
    least = smallest_detectable(spread, seeds, 0.05, 0.8)
    assert power(least, spread, seeds, 0.05) == pytest.approx(0.8, abs=1e-3)
    scaled = Spread(unit * spread.training, unit * spread.common, unit * spread.own, spread.items)
    assert smallest_detectable(scaled, seeds, 0.05, 0.8) == pytest.approx(unit * least, rel=1e-3)
    assert smallest_detectable(spread, seeds + 1, 0.05, 0.8) <= least * 1.001
    assert smallest_detectable(spread, seeds, 0.01, 0.8) >= least


@given(SPREADS, st.floats(0.005, 0.05))
@settings(max_examples=30)
def test_the_needed_seeds_are_the_fewest(spread, effect):
    needed = seeds_needed(effect, spread, 0.05, 0.8, 3)
    if needed is None:
        assert power(effect, spread, 100_000, 0.05) < 0.8
        return
    assert power(effect, spread, needed, 0.05) >= 0.8
    assert needed == 3 or power(effect, spread, needed - 1, 0.05) < 0.8


@given(SPREADS, st.floats(0.005, 0.05))
@settings(max_examples=30)
def test_the_needed_items_are_the_fewest(spread, effect):
    needed = items_needed(effect, spread, 8, 0.05, 0.8)
    if needed is not None and needed > 2:
        assert power(effect, spread.with_items(needed), 8, 0.05) >= 0.8
        assert power(effect, spread.with_items(needed - 1), 8, 0.05) < 0.8


def test_no_number_of_seeds_removes_the_noise_of_the_items():
    spread = Spread(0.02, 0.01, 0.0, 600)
    assert seeds_needed(0.01, spread, 0.05, 0.8) is None
    assert items_needed(0.02, Spread(0.05, 0.01, 0.0, 600), 3, 0.05, 0.8) is None, "nor of items that of the seeds"
    with pytest.raises(ValueError, match="items is not known"):
        items_needed(0.02, Spread(0.02, 0.01), 8, 0.05, 0.8)


@given(st.floats(0, 0.05), st.floats(0, 0.02), st.floats(0, 0.05), st.integers(2, 12))
def test_what_is_measured_is_taken_apart_and_put_together(training, common, own, seeds):
    deviation, error = math.hypot(training, own), math.hypot(common, own / math.sqrt(seeds))
    found = Spread.measured(deviation, error, seeds, overlap=own**2 / seeds, items=600)
    assert found.seed_deviation() == pytest.approx(deviation, abs=1e-9)
    assert found.item_error(seeds) == pytest.approx(error, abs=1e-9)
    assert (found.training, found.common, found.own) == pytest.approx((training, common, own), abs=1e-7)
    more = found.with_items(2400)
    assert (more.training, more.common, more.own) == pytest.approx((training, common / 2, own / 2), abs=1e-7)


def test_without_noise_everything_is_detectable():
    assert smallest_detectable(Spread(0.0), 3, 0.05, 0.8) == 0.0
    assert power(0.1, Spread(0.0), 3, 0.05) == 1.0
    with pytest.raises(ValueError, match="seeds=1"):
        power(0.1, Spread(0.1), 1, 0.05)


def test_the_common_noise_is_never_more_than_what_was_measured():
    found = Spread.measured(0.01, 0.001, 3, overlap=1.0)
    assert (found.seed_deviation(), found.item_error(3)) == pytest.approx((0.01, 0.001))
    assert Spread.measured(0.01, 0.001, 3, overlap=-1.0).own == 0.0
