"""Resampling of test items. Pure functions over arrays: no files, no plotting.

Corpus scores such as BLEU are not means over items, so items are resampled as sums of sufficient statistics: a resample
is a vector of counts, its sums are one matrix product, and a `Rowwise` statistic scores all sums together. Nothing is
tokenised or matched again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
RESAMPLES = 10_000
DRAWS_AT_ONCE = 4_000_000  # resamples x items held in memory together


@dataclass(frozen=True)
class Rowwise:
    """A corpus score of many sums at once: `score` maps (..., n_statistics) to (...)."""

    score: Callable[[Floats], Floats]

    def __call__(self, sums: npt.ArrayLike) -> Any:
        """Score of one sum, shape (n_statistics,), or of many."""
        return np.asarray(self.score(np.asarray(sums, dtype=np.float64)))[()]


# A plain function scores one sum, shape (n_statistics,), and is called in a loop: right, but slow.
Statistic = Rowwise | Callable[[Floats], float]


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
    stack = _stack(rows)
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
    a, b = _stack(first), _stack(second)
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


def seed_replicates(rows: npt.ArrayLike, statistic: Statistic, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Scores of `resamples` draws of n_items items with replacement, shape (resamples, n_seeds).

    The draws depend only on n_items, `resamples` and `seed`: systems on the same items get the same draws.
    Sums of whole numbers below 2**53 are exact, whatever the order in which the machine adds them.
    """
    stack = _stack(rows)
    if resamples < 1:
        raise ValueError(f"resamples={resamples}; at least 1 is needed")
    seeds, items, width = stack.shape
    flat = np.ascontiguousarray(stack.transpose(1, 0, 2)).reshape(items, seeds * width)
    scores = [
        _scores((counts @ flat).reshape(len(counts), seeds, width), statistic)
        for counts in _draws(items, resamples, seed)
    ]
    return np.concatenate(scores)


def jackknife(rows: npt.ArrayLike, statistic: Statistic) -> Floats:
    """Scores with one item left out, shape (n_items,)."""
    stack = _stack(rows)
    left = stack.sum(axis=1)[:, None] - stack
    return _scores(left, statistic).mean(axis=0)


def percentile_ends(replicates: npt.ArrayLike, confidence: float) -> tuple[float, float]:
    """Ends of the percentile interval of replicates, shape (resamples,)."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.asarray(replicates, dtype=np.float64), [tail, 100 - tail])
    return float(low), float(high)


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


def _draws(items: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each item is drawn, (portion, n_items); in portions, to bound memory."""
    rng = np.random.default_rng(seed)
    portion = max(1, DRAWS_AT_ONCE // items)
    for start in range(0, resamples, portion):
        size = min(portion, resamples - start)
        drawn = rng.integers(items, size=(size, items)) + items * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * items).reshape(size, items).astype(np.float64)


def _scores(sums: Floats, statistic: Statistic) -> Floats:
    """Scores of sums, shape (..., n_statistics) to (...)."""
    if isinstance(statistic, Rowwise):
        return np.asarray(statistic.score(sums), dtype=np.float64)
    flat = sums.reshape(-1, sums.shape[-1])
    return np.array([statistic(row) for row in flat], dtype=np.float64).reshape(sums.shape[:-1])


def _estimate(stack: Floats, statistic: Statistic) -> float:
    """Mean over seeds of the score of all items."""
    return float(_scores(stack.sum(axis=1), statistic).mean())


def _stack(rows: npt.ArrayLike) -> Floats:
    array = np.asarray(rows, dtype=np.float64)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] == 0 or array.shape[1] == 0:
        raise ValueError(f"rows has shape {array.shape}; expected ([n_seeds,] n_items, n_statistics), none empty")
    return array
