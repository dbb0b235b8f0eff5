"""How smooth a descending curve is, without a smoothing window; and the earlier measure, with one. Lower is smoother.

All of a curve of shape (n,), nats per token; the measures are those of paper_results/judgement.yaml, `smoothness`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from analysis.stats.seeds import largest_rise, smooth


def distance_from_descent(values: npt.ArrayLike) -> float:
    """Root mean square distance from the best non-increasing fit (isotonic regression): 0 if it only falls."""
    array = np.asarray(values, dtype=np.float64)
    fitted = isotonic_regression(array, increasing=False).x
    return float(np.sqrt(np.mean((array - fitted) ** 2)))


def excess_variation(values: npt.ArrayLike) -> float:
    """(sum of |changes| - net descent) / net descent: 0 if it only falls, nan if it does not fall on the whole."""
    array = np.asarray(values, dtype=np.float64)
    descent = float(array[0] - array[-1])
    if descent <= 0:
        return float("nan")
    return (float(np.abs(np.diff(array)).sum()) - descent) / descent


def sum_of_rises(values: npt.ArrayLike) -> float:
    """Sum of the rises from one value to the next."""
    return float(np.maximum(np.diff(np.asarray(values, dtype=np.float64)), 0).sum())


def smoothed_rise(values: npt.ArrayLike, window: int) -> float:
    """Largest rise above its lowest value so far of the curve smoothed over `window` values: the earlier measure."""
    return largest_rise(smooth(values, window)[window - 1 :])


MEASURES: dict[str, tuple[str, Callable[[npt.ArrayLike], float]]] = {
    "distance_from_descent": ("loss", distance_from_descent),
    "excess_variation": ("loss", excess_variation),
    "rises_of_dev_loss": ("dev_loss", sum_of_rises),
}
"""Measure -> column of curves.csv, function."""
WINDOWS = (3, 5, 8, 10, 12, 15)  # logged values
EARLIER_WINDOW = 10
