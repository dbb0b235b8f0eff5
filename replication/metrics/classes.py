"""Accuracy, F1, Matthews and the two correlations from their definitions; numpy alone.

Each takes predictions and labels of equal length, at least one. Where a definition divides by zero the answer is 0.0,
as the official GLUE scripts' library has it for F1 and Matthews; for Pearson and Spearman, which have no value when one
side is constant (scipy: nan), 0.0 is our choice: a constant prediction says nothing about the label, and a score is
always a number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replication.errors import DataError


def accuracy(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Share of equal entries."""
    predicted, wanted = _same_length(predictions, labels)
    return float(np.mean(predicted == wanted))


def f1(predictions: Sequence[int], labels: Sequence[int], positive: int = 1) -> float:
    """2 TP / (2 TP + FP + FN) of the class `positive`; 0.0 when there is nothing to divide by."""
    predicted, wanted = _same_length(predictions, labels)
    hits = int(np.sum((predicted == positive) & (wanted == positive)))
    claims = int(np.sum(predicted == positive)) + int(np.sum(wanted == positive))
    return 2 * hits / claims if claims else 0.0


def matthews(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Matthews correlation, from -1 to 1; over more than two classes the generalisation R_K (Gorodkin 2004).

    With two classes it is the Pearson correlation of the two indicator vectors. Computed in whole numbers up to the
    last division; 0.0 when predictions or labels are constant.
    """
    predicted, wanted = _same_length(predictions, labels)
    classes = np.unique(np.concatenate([predicted, wanted]))
    claimed = [int(np.sum(predicted == label)) for label in classes]
    actual = [int(np.sum(wanted == label)) for label in classes]
    total, hits = len(wanted), int(np.sum(predicted == wanted))
    covariance = hits * total - sum(c * a for c, a in zip(claimed, actual, strict=True))
    spread = (total**2 - sum(c**2 for c in claimed)) * (total**2 - sum(a**2 for a in actual))
    return covariance / spread**0.5 if spread else 0.0


def pearson(predictions: Sequence[float], labels: Sequence[float]) -> float:
    """Pearson's correlation in float64, from -1 to 1; 0.0 when either side is constant."""
    predicted, wanted = _same_length(predictions, labels)
    if np.ptp(predicted) == 0 or np.ptp(wanted) == 0:
        return 0.0
    x, y = (_unit(values.astype(np.float64)) for values in (predicted, wanted))
    return float(np.clip(x @ y, -1.0, 1.0))


def spearman(predictions: Sequence[float], labels: Sequence[float]) -> float:
    """Pearson's correlation of the ranks, equal values sharing the mean of theirs; 0.0 when either side is constant."""
    predicted, wanted = _same_length(predictions, labels)
    return pearson(_ranks(predicted).tolist(), _ranks(wanted).tolist())


def _unit(values: np.ndarray) -> np.ndarray:
    """Centred and of length 1; scaled first, so that no square overflows or vanishes."""
    centred = values - values.mean()
    centred /= np.abs(centred).max()
    return centred / np.linalg.norm(centred)


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[inverse]


def _same_length(predictions: Sequence[float], labels: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(predictions) != len(labels):
        raise DataError(f"{len(predictions)} predictions but {len(labels)} labels; give one label per prediction")
    if not len(predictions):
        raise DataError("no predictions; there is nothing to score")
    return np.asarray(predictions), np.asarray(labels)
