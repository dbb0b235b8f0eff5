"""Power of the test in `mean_test.py`: the chance to find a true difference, the smallest one found, what it takes.

Pure functions of spreads, seeds, items and levels; the levels are those of `judge.decision`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
MOST = 1_000_000  # seeds or items searched


@dataclass(frozen=True)
class Spread:
    """The noise of one seed's difference on `items` test items, as standard deviations.

    `training`: another seed, on infinitely many items. `common`: other items, answered alike by every seed. `own`: the
    answers of one seed alone on these items. The variance over seeds shows training^2 + own^2, the item bootstrap of a
    mean over n seeds common^2 + own^2 / n.
    """

    training: float
    common: float = 0.0
    own: float = 0.0
    items: int | None = None

    @staticmethod
    def measured(
        seed_deviation: float, item_error: float, seeds: int, *, overlap: float = 0.0, items: int | None = None
    ) -> Spread:
        """From what a comparison shows: the seeds' standard deviation, the bootstrap's standard error of their mean,
        and the variance that both contain (`PairedDifference.overlap`)."""
        shared = min(max(overlap, 0.0), item_error**2, seed_deviation**2 / seeds)
        own = shared * seeds
        training = math.sqrt(max(0.0, seed_deviation**2 - own))
        return Spread(training, math.sqrt(max(0.0, item_error**2 - shared)), math.sqrt(own), items)

    def with_items(self, items: int) -> Spread:
        """The same noise on another number of items of the same kind."""
        if self.items is None:
            raise ValueError("items is not known; the noise of items cannot be carried over to another number")
        factor = math.sqrt(self.items / items)
        return Spread(self.training, self.common * factor, self.own * factor, items)

    def seed_deviation(self) -> float:
        """Standard deviation of the seeds' differences."""
        return math.hypot(self.training, self.own)

    def item_error(self, seeds: int) -> float:
        """The item bootstrap's standard error of the mean over `seeds`."""
        return math.hypot(self.common, self.own / math.sqrt(seeds))

    def error(self, seeds: int) -> float:
        """True standard deviation of the mean over `seeds`: each noise once."""
        return math.hypot(self.common, self.seed_deviation() / math.sqrt(seeds))


def power(effect: float, spread: Spread, seeds: int, alpha: float) -> float:
    """Probability that the test finds a true difference of `effect` > 0 at two-sided `alpha`, in the right direction.

    The mean is normal about `effect`; the seeds' variance is chi-squared with seeds - 1 degrees of freedom and
    independent of it; the items' standard error is taken as known. One integral, no simulation.
    """
    if seeds < 2:
        raise ValueError(f"seeds={seeds}; a spread over seeds needs two at least")
    truth = spread.error(seeds)
    if truth == 0:
        return float(effect > 0)
    # At the nodes of the chi-squared distribution, by its quantiles: what s^2 / n may come out as.
    quantiles = (_NODES + 1) / 2
    of_seeds = spread.seed_deviation() ** 2 / seeds * stats.chi2.ppf(quantiles, seeds - 1) / (seeds - 1)
    of_items = np.full_like(of_seeds, spread.item_error(seeds) ** 2)
    total = of_seeds + of_items
    degrees = (seeds - 1) * np.divide(total, of_seeds, out=np.full_like(total, 1e9), where=of_seeds > 1e-9 * total) ** 2
    thresholds = np.maximum(
        stats.t.ppf(1 - alpha / 2, seeds - 1) * np.sqrt(of_seeds), stats.t.ppf(1 - alpha / 2, degrees) * np.sqrt(total)
    )
    return float((stats.norm.sf((thresholds - effect) / truth) * _WEIGHTS).sum() / 2)


def smallest_detectable(spread: Spread, seeds: int, alpha: float, wanted: float) -> float:
    """The smallest true difference that the test finds with probability `wanted`."""
    high = spread.error(seeds)
    if high == 0:
        return 0.0
    while power(high, spread, seeds, alpha) < wanted:
        high *= 2
    return float(
        optimize.brentq(lambda effect: power(effect, spread, seeds, alpha) - wanted, 0, high, xtol=high * 1e-6)
    )


def seeds_needed(effect: float, spread: Spread, alpha: float, wanted: float, least: int = 2) -> int | None:
    """The fewest seeds, `least` or more, with which `effect` > 0 is found; None if none suffices on these items."""
    return _fewest(lambda seeds: power(effect, spread, seeds, alpha) >= wanted, max(2, least))


def items_needed(effect: float, spread: Spread, seeds: int, alpha: float, wanted: float) -> int | None:
    """The fewest test items with which `effect` > 0 is found by so many seeds; None if no number suffices."""
    return _fewest(lambda items: power(effect, spread.with_items(items), seeds, alpha) >= wanted, 2)


def _fewest(enough: Callable[[int], bool], least: int) -> int | None:
    """The smallest whole number that is enough, by doubling and halving; power grows with seeds and with items."""
    high = least
    while not enough(high):
        if high >= MOST:
            return None
        high = min(MOST, high * 2)
    low = max(least - 1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
