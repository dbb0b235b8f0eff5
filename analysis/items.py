"""Test items as sums: what a task's metric needs of each item, so that items can be resampled.

Every metric is a function of a sum over items, as `statistics.paired_bootstrap` wants it: accuracy of (right, counted),
F1 of (true positive, false positive, false negative), Matthews of the confusion matrix, Pearson of moments. Spearman
is Pearson of ranks, and the ranks stay those of the whole test set while items are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.statistics import Floats, Statistic

Row = Mapping[str, Any]
ItemScorer = Callable[[str, list[Row]], Mapping[str, float]]


def item_statistics(metric: str, form: str, rows: Sequence[Row], corpus_metric: str | None = None) -> Floats | None:
    """Sufficient statistics, shape (n_items, k), of one metric; None for a metric that is no function of such a sum.

    `corpus_metric` (squad_v1, squad_v2, rouge) names the official scorer of question answering and summarisation.
    """
    if form in ("question_answering", "summarisation"):
        return _mean_of_items(metric, rows, corpus_metric)
    if not rows:
        return None
    predicted = np.array([row["prediction"] for row in rows], dtype=np.float64)
    true = np.array([row["label"] for row in rows], dtype=np.float64)
    if metric == "pearson":
        return _moments(predicted, true)
    if metric == "spearman":
        return _moments(stats.rankdata(predicted), stats.rankdata(true))
    if metric == "accuracy":
        return np.stack([predicted == true, np.ones_like(true)], axis=1).astype(np.float64)
    if metric.startswith("accuracy_"):
        counted = np.array([row.get("subset") == metric.removeprefix("accuracy_") for row in rows])
        return np.stack([(predicted == true) & counted, counted], axis=1).astype(np.float64)
    if metric == "f1":
        positive, said = true == 1, predicted == 1
        return np.stack([positive & said, ~positive & said, positive & ~said], axis=1).astype(np.float64)
    if metric == "matthews_correlation":
        seen = int(max(predicted.max(), true.max())) + 1
        classes = max(2, seen, *(len(row.get("logits", ())) for row in rows))
        return _confusion(predicted.astype(int), true.astype(int), classes)
    return None


def statistic_of(metric: str, form: str) -> Statistic:
    """The function from a sum of `item_statistics` to the score; a score that is undefined counts as 0."""
    if metric in ("pearson", "spearman"):
        return _pearson
    if metric == "matthews_correlation":
        return _matthews
    if metric == "f1" and form == "classification":
        return _f1
    return _share


def _mean_of_items(metric: str, rows: Sequence[Row], corpus_metric: str | None) -> Floats | None:
    """Scores of single items, whose mean is the corpus's score: exact match, F1 of answers, ROUGE."""
    if corpus_metric is None:
        return None
    from replication.metrics.tasks import score_task

    values = [score_task(corpus_metric, [dict(row)])[metric] for row in rows]
    return np.stack([np.array(values, dtype=np.float64), np.ones(len(rows))], axis=1)


def _moments(x: Floats, y: Floats) -> Floats:
    """Moments about a fixed point near the means, which keeps the sums small."""
    x, y = x - round(float(x.mean()), 3), y - round(float(y.mean()), 3)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _confusion(predicted: npt.NDArray[np.int64], true: npt.NDArray[np.int64], classes: int) -> Floats:
    cells = np.zeros((len(true), classes * classes))
    cells[np.arange(len(true)), true * classes + predicted] = 1.0
    return cells


def _share(sums: Floats) -> float:
    return float(sums[0] / sums[1]) if sums[1] else 0.0


def _f1(sums: Floats) -> float:
    hit, false, missed = sums
    return float(2 * hit / (2 * hit + false + missed)) if hit else 0.0


def _pearson(sums: Floats) -> float:
    count, x, y, xx, yy, xy = (float(value) for value in sums)
    spread = (count * xx - x * x) * (count * yy - y * y)
    return (count * xy - x * y) / math.sqrt(spread) if spread > 1e-12 * count**4 else 0.0


def _matthews(sums: Floats) -> float:
    """Gorodkin 2004, which for two classes is Matthews' own: from the confusion matrix, rows the true class."""
    classes = math.isqrt(len(sums))
    table = sums.reshape(classes, classes)
    count, right = table.sum(), np.trace(table)
    said, true = table.sum(axis=0), table.sum(axis=1)
    spread = (count**2 - (said**2).sum()) * (count**2 - (true**2).sum())
    return float((right * count - (said * true).sum()) / math.sqrt(spread)) if spread > 0 else 0.0
