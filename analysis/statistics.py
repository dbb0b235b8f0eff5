"""Pure statistics: spread over seeds and uncertainty over test items, kept apart. No files, no plotting.

Seeds answer "would another training run score alike?", items answer "would other test items score alike?".
Corpus scores such as BLEU are not means over items, so items are resampled as sums of sufficient statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], float]
DRAWS_AT_ONCE = 4_000_000  # resamples x items held in memory together


@dataclass(frozen=True)
class SeedSummary:
    """Mean and sample standard deviation over seeds; with one seed there is no spread."""

    mean: float
    standard_deviation: float | None
    seeds: int


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
    """first minus second on the same items; `share_above_zero`: of the resamples, where first is better."""

    share_above_zero: float


def summarise_seeds(values: Sequence[float]) -> SeedSummary:
    """Summary of scores of shape (n_seeds,); ValueError when empty or not finite."""
    array = _vector(values)
    spread = float(array.std(ddof=1)) if array.size > 1 else None
    return SeedSummary(mean=float(array.mean()), standard_deviation=spread, seeds=array.size)


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Student's interval for the mean of (n_seeds,) scores, n - 1 degrees of freedom; None with one seed."""
    array = _vector(values)
    _check_confidence(confidence)
    if array.size < 2:
        return None
    mean = float(array.mean())
    reach = float(stats.t.ppf(0.5 + confidence / 2, array.size - 1)) * float(array.std(ddof=1))
    reach /= math.sqrt(array.size)
    return Interval(mean, mean - reach, mean + reach)


def bootstrap_interval(
    rows: npt.ArrayLike,
    statistic: Statistic,
    *,
    method: str = "percentile",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval over items of a corpus score.

    `rows` has shape (n_items, n_statistics), or (n_seeds, n_items, n_statistics) for the mean score of
    several seeds on the same items; `statistic` maps a sum of rows, shape (n_statistics,), to a score.
    `method` is "percentile" or "bca" (Efron 1987: bias-corrected and accelerated, with the jackknife).
    """
    stack = _stack(rows)
    _check_confidence(confidence)
    estimate = _score(stack.sum(axis=1), statistic)
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
    resamples: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Percentile interval of score(first) - score(second) when both are scored on the same resampled items.

    Shapes as in `bootstrap_interval`; the item axes must be equally long and in the same order. The numbers
    of seeds may differ: each side is the mean over its own.
    """
    a, b = _stack(first), _stack(second)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"first has {a.shape[1]} items, second {b.shape[1]}; a paired comparison needs the same items")
    _check_confidence(confidence)
    estimate = _score(a.sum(axis=1), statistic) - _score(b.sum(axis=1), statistic)
    differences = bootstrap_replicates(a, statistic, resamples=resamples, seed=seed) - bootstrap_replicates(
        b, statistic, resamples=resamples, seed=seed
    )
    low, high = percentile_ends(differences, confidence)
    return PairedDifference(estimate, low, high, float((differences > 0).mean()))


def bootstrap_replicates(rows: npt.ArrayLike, statistic: Statistic, *, resamples: int, seed: int) -> Floats:
    """Scores of `resamples` draws of n_items items with replacement, shape (resamples,).

    The draws depend on n_items, `resamples` and `seed` alone: systems on the same items meet the same draws.
    Sums of whole numbers below 2**53 are exact, whatever the order in which the machine adds them.
    """
    stack = _stack(rows)
    if resamples < 1:
        raise ValueError(f"resamples={resamples}; at least 1 is needed")
    items = stack.shape[1]
    rng, chances = np.random.default_rng(seed), np.full(items, 1 / items)
    portion = max(1, DRAWS_AT_ONCE // items)  # in portions, or the weights of a large test set would fill the memory
    scores = []
    for start in range(0, resamples, portion):
        weights = rng.multinomial(items, chances, size=min(portion, resamples - start))
        sums = np.einsum("ri,sik->rsk", weights.astype(np.float64), stack, optimize=True)
        scores += [_score(draw, statistic) for draw in sums]
    return np.array(scores)


def jackknife(rows: npt.ArrayLike, statistic: Statistic) -> Floats:
    """Scores with one item left out, shape (n_items,)."""
    stack = _stack(rows)
    total = stack.sum(axis=1)
    return np.array([_score(total - stack[:, item], statistic) for item in range(stack.shape[1])])


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


def smooth(values: npt.ArrayLike, window: int) -> Floats:
    """Trailing mean over at most `window` values, shape (n,) to (n,): no value looks ahead."""
    array = np.asarray(values, dtype=np.float64)
    if window < 1:
        raise ValueError(f"window={window}; at least 1 is needed")
    return np.array([array[max(0, end - window) : end].mean() for end in range(1, array.size + 1)])


def largest_rise(values: npt.ArrayLike) -> float:
    """How far a curve of shape (n,) ever climbs above its lowest value so far: 0 for one that only falls."""
    array = np.asarray(values, dtype=np.float64)
    return float((array - np.minimum.accumulate(array)).max()) if array.size else 0.0


def _score(sums: Floats, statistic: Statistic) -> float:
    """Mean over seeds of the score of summed rows, shape (n_seeds, n_statistics)."""
    return math.fsum(statistic(row) for row in sums) / len(sums)


def _stack(rows: npt.ArrayLike) -> Floats:
    array = np.asarray(rows, dtype=np.float64)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] == 0 or array.shape[1] == 0:
        raise ValueError(f"rows has shape {array.shape}; expected ([n_seeds,] n_items, n_statistics), none empty")
    return array


def _vector(values: Sequence[float]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"expected at least one finite score, one per seed; got {values!r}")
    return array


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}; expected a number between 0 and 1, such as 0.95")
