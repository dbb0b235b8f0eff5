"""Pure statistics: spread over seeds and uncertainty over test items, kept apart. No files, no plotting.

Seeds answer "would another training run have a similar score?", items the same for other items (`bootstrap.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.stats.bootstrap import (
    RESAMPLES,
    Floats,
    Interval,
    check_confidence,
    percentile_ends,
)


@dataclass(frozen=True)
class SeedSummary:
    """Mean and sample standard deviation over seeds; with one seed there is no spread."""

    mean: float
    standard_deviation: float | None
    seeds: int


def summarise_seeds(values: Sequence[float]) -> SeedSummary:
    """Summary of scores of shape (n_seeds,); ValueError if empty or not finite."""
    array = _vector(values)
    spread = float(array.std(ddof=1)) if array.size > 1 else None
    return SeedSummary(mean=float(array.mean()), standard_deviation=spread, seeds=array.size)


def deviation_factors(seeds: int, confidence: float = 0.95) -> tuple[float, float]:
    """Ends of the interval of a standard deviation, as multiples of the sample's over so many normal values."""
    degrees, tail = seeds - 1, (1 - confidence) / 2
    low, high = (float(math.sqrt(degrees / stats.chi2.ppf(at, degrees))) for at in (1 - tail, tail))
    return low, high


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Student's interval for the mean of (n_seeds,) scores, n - 1 degrees of freedom; None with one seed."""
    array = _vector(values)
    check_confidence(confidence)
    if array.size < 2:
        return None
    mean = float(array.mean())
    reach = float(stats.t.ppf(0.5 + confidence / 2, array.size - 1)) * float(array.std(ddof=1))
    reach /= math.sqrt(array.size)
    return Interval(mean, mean - reach, mean + reach)


def interquartile_mean(scores: npt.ArrayLike) -> Floats:
    """Mean of the middle half of all scores together: (..., n_seeds, n_tasks) to (...).

    Of N scores the lowest and the highest int(N / 4) are left out (Agarwal et al. 2021, rliable's definition).
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(f"scores has shape {array.shape}; expected (..., n_seeds, n_tasks), none empty")
    ordered = np.sort(array.reshape(*array.shape[:-2], -1), axis=-1)
    cut = ordered.shape[-1] // 4
    return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1))


def stratified_bootstrap(
    scores: npt.ArrayLike,
    statistic: Callable[[Floats], Floats] = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile interval of an aggregate over tasks: scores (n_seeds, n_tasks), seeds redrawn within every task.

    `statistic` maps (..., n_seeds, n_tasks) to (...). With three seeds such intervals are too narrow (Agarwal et al.
    2021, section 4.2): it describes, no verdict rests on it.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
        raise ValueError(f"scores has shape {array.shape}; expected (n_seeds, n_tasks), finite, none empty")
    check_confidence(confidence)
    drawn = np.random.default_rng(seed).integers(len(array), size=(resamples, *array.shape))
    replicates = np.asarray(statistic(np.take_along_axis(array[None], drawn, axis=1)))
    return Interval(float(statistic(array)), *percentile_ends(replicates, confidence))


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's adjusted p-values, shape (m,) to (m,), in the order given (Holm 1979).

    An adjusted p at or below 0.05 is a rejection that keeps the chance of any false rejection in the family at 5 %.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p_values {p_values!r}; expected (m,) numbers from 0 to 1")
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def holm_multipliers(p_values: npt.ArrayLike) -> Floats:
    """What Holm multiplies each p-value by, shape (m,) to (m,): from 1 to m, before its cut at 1."""
    values = np.asarray(p_values, dtype=np.float64)
    order, steps = np.argsort(values, kind="stable"), np.arange(values.size, 0, -1.0)
    carried = np.maximum.accumulate(values[order] * steps)
    multipliers = np.empty_like(values)
    multipliers[order] = np.divide(carried, values[order], out=steps.copy(), where=values[order] > 0)
    return multipliers


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


def _vector(values: Sequence[float]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"expected at least one finite score, one per seed; got {values!r}")
    return array
