"""Resampling of test items as sums of their statistics (`Metric.item_statistics`). Pure functions over arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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


def seed_replicates(rows: npt.ArrayLike, statistic: Statistic, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Scores of `resamples` draws of n_items items with replacement, shape (resamples, n_seeds).

    The draws depend only on n_items, `resamples` and `seed`: systems on the same items get the same draws.
    Sums of whole numbers below 2**53 are exact, whatever the order in which the machine adds them.
    """
    stack = stacked(rows)
    if resamples < 1:
        raise ValueError(f"resamples={resamples}; at least 1 is needed")
    seeds, items, width = stack.shape
    flat = np.ascontiguousarray(stack.transpose(1, 0, 2)).reshape(items, seeds * width)
    scores = [
        scores_of((counts @ flat).reshape(len(counts), seeds, width), statistic)
        for counts in _draws(items, resamples, seed)
    ]
    return np.concatenate(scores)


def percentile_ends(replicates: npt.ArrayLike, confidence: float) -> tuple[float, float]:
    """Ends of the percentile interval of replicates, shape (resamples,)."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.asarray(replicates, dtype=np.float64), [tail, 100 - tail])
    return float(low), float(high)


def stacked(rows: npt.ArrayLike) -> Floats:
    """Statistics as (n_seeds, n_items, n_statistics); ValueError for another shape."""
    array = np.asarray(rows, dtype=np.float64)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] == 0 or array.shape[1] == 0:
        raise ValueError(f"rows has shape {array.shape}; expected ([n_seeds,] n_items, n_statistics), none empty")
    return array


def _draws(items: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each item is drawn, (portion, n_items); in portions, to bound memory."""
    rng = np.random.default_rng(seed)
    portion = max(1, DRAWS_AT_ONCE // items)
    for start in range(0, resamples, portion):
        size = min(portion, resamples - start)
        drawn = rng.integers(items, size=(size, items)) + items * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * items).reshape(size, items).astype(np.float64)


def scores_of(sums: Floats, statistic: Statistic) -> Floats:
    """Scores of sums, shape (..., n_statistics) to (...)."""
    if isinstance(statistic, Rowwise):
        return np.asarray(statistic.score(sums), dtype=np.float64)
    flat = sums.reshape(-1, sums.shape[-1])
    return np.array([statistic(row) for row in flat], dtype=np.float64).reshape(sums.shape[:-1])
