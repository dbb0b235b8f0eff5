"""Test items as sums: what a task's metric needs of each item, so that items can be resampled.

Every metric is a function of a sum over items, as `statistics.paired_bootstrap` wants it: accuracy of (right, counted),
F1 of (true positive, false positive, false negative), Matthews of the confusion matrix, Pearson of moments. Spearman
is Pearson of ranks, and the ranks stay those of the whole test set while items are resampled. The functions score many
sums at once, shape (..., k) to (...). Metrics of generated texts stand in `generation_items.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.load.runs import GENERATION
from analysis.stats.bootstrap import Floats, Rowwise
from analysis.stats.generation_items import GENERATION_SCORES, generation_statistics, share

Row = Mapping[str, Any]
ItemScorer = Callable[[str, list[Row]], Mapping[str, float]]


def item_statistics(metric: str, form: str, rows: Sequence[Row], corpus_metric: str | None = None) -> Floats | None:
    """Sufficient statistics, shape (n_items, k), of one metric; None for a metric that is no function of such a sum.

    `corpus_metric` (squad_v1, squad_v2, rouge) names the official scorer of question answering and summarisation.
    """
    if form == GENERATION:
        return generation_statistics(metric, rows)
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


def statistic_of(metric: str, form: str) -> Rowwise:
    """The function from sums of `item_statistics` to scores; a score that is undefined counts as 0."""
    if form == GENERATION and metric in GENERATION_SCORES:
        return GENERATION_SCORES[metric]
    if metric in ("pearson", "spearman"):
        return PEARSON
    if metric == "matthews_correlation":
        return MATTHEWS
    if metric == "f1" and form == "classification":
        return F1
    return SHARE


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


def _f1(sums: Floats) -> Floats:
    hit, false, missed = np.moveaxis(sums, -1, 0)
    return _divided(2 * hit, 2 * hit + false + missed)


def _pearson(sums: Floats) -> Floats:
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = (count * xx - x * x) * (count * yy - y * y)
    defined = spread > 1e-12 * count**4
    return np.where(defined, _divided(count * xy - x * y, np.sqrt(np.where(defined, spread, 1.0))), 0.0)


def _matthews(sums: Floats) -> Floats:
    """Gorodkin 2004, which for two classes is Matthews' own: from the confusion matrix, rows the true class."""
    classes = math.isqrt(sums.shape[-1])
    table = sums.reshape(*sums.shape[:-1], classes, classes)
    count, right = table.sum(axis=(-2, -1)), np.trace(table, axis1=-2, axis2=-1)
    said, true = table.sum(axis=-2), table.sum(axis=-1)
    spread = (count**2 - (said**2).sum(axis=-1)) * (count**2 - (true**2).sum(axis=-1))
    return _divided(right * count - (said * true).sum(axis=-1), np.sqrt(np.maximum(spread, 0.0)))


def _divided(over: Floats, under: Floats) -> Floats:
    """`over` by `under`, and 0 where that divides by zero."""
    return np.asarray(np.where(under == 0, 0.0, over / np.where(under == 0, 1.0, under)))


SHARE, F1, PEARSON, MATTHEWS = (Rowwise(function) for function in (share, _f1, _pearson, _matthews))
