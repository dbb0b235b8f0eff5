"""Resampling of test items. Pure functions over arrays: no files, no plotting.

Corpus scores such as BLEU are not means over items, so items are resampled as sums of sufficient statistics: a resample
is a vector of counts, its sums are one matrix product, and a `Rowwise` statistic scores all sums together. Nothing is
tokenised or matched again."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import stats

from replication.metrics.resampling import (
    RESAMPLES,
    Floats,
    Rowwise,
    Statistic,
    percentile_ends,
    scores_of,
    seed_replicates,
    stacked,
)

__all__ = [
    "RESAMPLES",
    "Floats",
    "Interval",
    "PairedDifference",
    "Rowwise",
    "Statistic",
    "bca_ends",
    "bootstrap_interval",
    "bootstrap_replicates",
    "check_confidence",
    "jackknife",
    "paired_bootstrap",
    "paired_from_replicates",
    "percentile_ends",
    "seed_replicates",
]


@dataclass(frozen=True)
class Interval:
    """An estimate with a two-sided interval."""

    estimate: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the distance between the ends."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class PairedDifference(Interval):
    """first minus second on the same items.

    `replicates`, shape (resamples,), are the differences of the seeds' means. `overlap` is the part of their variance
    that the spread over seeds shows as well: items answered otherwise by every seed (see `paired_from_replicates`).
    """

    replicates: Floats = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    overlap: float = 0.0

    @property
    def standard_error(self) -> float:
        """Standard deviation of the replicates."""
        return float(self.replicates.std(ddof=1)) if self.replicates.size > 1 else float("nan")


def bootstrap_interval(
    rows: npt.ArrayLike,
    statistic: Statistic,
    *,
    method: str = "percentile",
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval over items of a corpus score.

    `rows` has shape (n_items, n_statistics), or (n_seeds, n_items, n_statistics) for the mean score of
    several seeds on the same items; `statistic` maps a sum of rows, shape (n_statistics,), to a score.
    `method` is "percentile" or "bca" (Efron 1987: bias-corrected and accelerated, with the jackknife).
    """
    stack = stacked(rows)
    check_confidence(confidence)
    estimate = _estimate(stack, statistic)
    replicates = bootstrap_replicates(stack, statistic, resamples=resamples, seed=seed)
    if method == "percentile":
        low, high = percentile_ends(replicates, confidence)
    elif method == "bca":
        low, high = bca_ends(replicates, estimate, jackknife(stack, statistic), confidence)
    else:
        raise ValueError(f"method={method!r}; choose 'percentile' or 'bca'")
    return Interval(estimate, low, high)


def paired_bootstrap(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    statistic: Statistic,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Percentile interval of score(first) - score(second) when both are scored on the same resampled items.

    Shapes as in `bootstrap_interval`; the item axes must be equally long and in the same order. The numbers
    of seeds may differ: each side is the mean over its own.
    """
    a, b = stacked(first), stacked(second)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"first has {a.shape[1]} items, second {b.shape[1]}; a paired comparison needs the same items")
    replicates = [seed_replicates(stack, statistic, resamples=resamples, seed=seed) for stack in (a, b)]
    return paired_from_replicates(_estimate(a, statistic) - _estimate(b, statistic), *replicates, confidence=confidence)


def paired_from_replicates(
    estimate: float, first: Floats, second: Floats, *, confidence: float = 0.95
) -> PairedDifference:
    """`paired_bootstrap` from `seed_replicates` of both sides, shapes (resamples, n_seeds), on the same draws.

    With as many seeds on both sides (taken as pairs) `overlap` is the variance that seeds put on items at random:
    one seed's difference has the variance b + e over items, the mean of S seeds b + e / S, and the overlap is e / S.
    """
    check_confidence(confidence)
    differences = first.mean(axis=1) - second.mean(axis=1)
    low, high = percentile_ends(differences, confidence)
    seeds, overlap = first.shape[1], 0.0
    if seeds == second.shape[1] and seeds > 1:
        together = float(differences.var(ddof=1))
        apart = float((first - second).var(axis=0, ddof=1).mean())
        overlap = min(together, max(0.0, (apart - together) / (seeds - 1)))
    return PairedDifference(estimate, low, high, differences, overlap)


def bootstrap_replicates(
    rows: npt.ArrayLike, statistic: Statistic, *, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """Scores of `resamples` draws of n_items items with replacement, mean over the seeds, shape (resamples,)."""
    return seed_replicates(rows, statistic, resamples=resamples, seed=seed).mean(axis=1)


def jackknife(rows: npt.ArrayLike, statistic: Statistic) -> Floats:
    """Scores with one item left out, shape (n_items,)."""
    stack = stacked(rows)
    left = stack.sum(axis=1)[:, None] - stack
    return scores_of(left, statistic).mean(axis=0)


def bca_ends(
    replicates: npt.ArrayLike, estimate: float, left_out: npt.ArrayLike, confidence: float
) -> tuple[float, float]:
    """Ends of the BCa interval from replicates (resamples,) and jackknife scores (n_items,).

    Falls back on the percentile ends where the correction is undefined: all replicates on one side of the
    estimate, or all jackknife scores equal.
    """
    values = np.asarray(replicates, dtype=np.float64)
    below = (float((values < estimate).mean()) + float((values <= estimate).mean())) / 2
    deviations = np.asarray(left_out, dtype=np.float64).mean() - np.asarray(left_out, dtype=np.float64)
    spread = float((deviations**2).sum())
    if not 0 < below < 1 or spread == 0:
        return percentile_ends(values, confidence)
    bias = float(stats.norm.ppf(below))
    acceleration = float((deviations**3).sum()) / (6 * spread**1.5)
    tail = (1 - confidence) / 2
    levels = [
        stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        for z in (stats.norm.ppf(tail), stats.norm.ppf(1 - tail))
    ]
    low, high = np.percentile(values, [100 * float(level) for level in levels])
    return float(low), float(high)


def check_confidence(confidence: float) -> None:
    """ValueError unless it lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}; expected a number between 0 and 1, such as 0.95")


def _estimate(stack: Floats, statistic: Statistic) -> float:
    """Mean over seeds of the score of all items."""
    return float(scores_of(stack.sum(axis=1), statistic).mean())
