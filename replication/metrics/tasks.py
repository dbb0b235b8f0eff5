"""Predictions of a task in, its official metrics out; light (numpy, no torch).

Accuracy, F1, exact match and ROUGE are fractions of 0 to 1, correlations from -1 to 1. A metric is named as a corpus
names it; its rows are those of the task's form (replication/tasks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from replication.errors import ConfigError, DataError
from replication.metrics import classes
from replication.metrics.answers import squad_scores
from replication.metrics.rouge import ROUGE, rouge_scores

Rows = Sequence[Mapping[str, Any]]

_FUNCTIONS: dict[str, Callable[[Sequence[Any], Sequence[Any]], float]] = {
    "accuracy": classes.accuracy,
    "f1": classes.f1,
    "matthews_correlation": classes.matthews,
    "pearson": classes.pearson,
    "spearman": classes.spearman,
}
_GLUE = {
    "cola": ("matthews_correlation",),
    "mrpc": ("accuracy", "f1"),
    "qnli": ("accuracy",),
    "qqp": ("accuracy", "f1"),
    "rte": ("accuracy",),
    "sst2": ("accuracy",),
    "stsb": ("pearson", "spearman"),
    "accuracy": ("accuracy",),
}
_MNLI = ("matched", "mismatched")
_SQUAD = {"squad_v1": 1, "squad_v2": 2}

METRIC_NAMES: dict[str, tuple[str, ...]] = {
    **_GLUE,
    "mnli": tuple(f"accuracy_{subset}" for subset in _MNLI),
    "squad_v1": ("exact_match", "f1"),
    "squad_v2": ("exact_match", "f1"),
    "rouge": ROUGE,
}
"""Metric -> the names of its scores in table order."""

PRIMARY: dict[str, str] = {
    **{metric: names[0] for metric, names in METRIC_NAMES.items()},
    "squad_v1": "f1",
    "squad_v2": "f1",
    "rouge": "rougeL",
}
"""Metric -> the one score that curves, searches and verdicts look at."""


def score_task(metric: str, predictions: Rows) -> dict[str, float]:
    """Scores of prediction rows by name, in METRIC_NAMES' order.

    ConfigError for an unknown metric; DataError when there are no rows, or names the row and field that is missing or
    unusable.
    """
    if metric not in METRIC_NAMES:
        raise ConfigError(f"metric {metric!r} is unknown; known are: {', '.join(sorted(METRIC_NAMES))}")
    if not predictions:
        raise DataError(f"metric {metric}: no predictions; there is nothing to score")
    if metric == "mnli":
        return _mnli(predictions)
    if metric in _SQUAD:
        golds = _texts(metric, predictions, "answers", empty=metric == "squad_v2")
        return squad_scores(_texts(metric, predictions, "prediction"), golds, version=_SQUAD[metric])
    if metric == "rouge":
        references = _texts(metric, predictions, "references", empty=False)
        return rouge_scores(_texts(metric, predictions, "prediction"), references)
    number = metric == "stsb"
    predicted = _column(metric, predictions, "prediction", number=number)
    return glue_scores(metric, predicted, _column(metric, predictions, "label", number=number))


def glue_scores(metric: str, predictions: Sequence[float], labels: Sequence[float]) -> dict[str, float]:
    """Scores of plain predictions and labels by the metric of a GLUE task, or "accuracy"."""
    return {name: _FUNCTIONS[name](predictions, labels) for name in _GLUE[metric]}


def _mnli(rows: Rows) -> dict[str, float]:
    subsets = _values("mnli", rows, "subset")
    for row, subset in zip(rows, subsets, strict=True):
        if subset not in _MNLI:
            raise DataError(f"metric mnli: row {row.get('id')!r}: field 'subset' is {subset!r}; valid are {_MNLI}")
    scores = {}
    for name in _MNLI:
        chosen = [row for row, subset in zip(rows, subsets, strict=True) if subset == name]
        if not chosen:
            raise DataError(
                f"metric mnli: no row has the subset {name!r}; both development splits are scored, each apart"
            )
        predicted, labels = (_column("mnli", chosen, field) for field in ("prediction", "label"))
        scores[f"accuracy_{name}"] = classes.accuracy(predicted, labels)
    return scores


def _column(metric: str, rows: Rows, field: str, *, number: bool = False) -> list[Any]:
    """One field of all rows: whole numbers, or finite ones."""
    values = _values(metric, rows, field)
    for row, value in zip(rows, values, strict=True):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (number and isinstance(value, float) and math.isfinite(value))):
            valid = "a finite number" if number else "a class's index"
            raise DataError(f"metric {metric}: row {row.get('id')!r}: field {field!r} must be {valid}, found {value!r}")
    return values


def _texts(metric: str, rows: Rows, field: str, *, empty: bool | None = None) -> list[Any]:
    """One field of all rows: a text; or, where `empty` is given, a list of texts that may or may not be empty."""
    values = _values(metric, rows, field)
    for row, value in zip(rows, values, strict=True):
        if empty is None:
            usable, valid = isinstance(value, str), "text"
        else:
            usable = isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)
            usable, valid = usable and (empty or bool(value)), "a list of texts" + ("" if empty else ", at least one")
        if not usable:
            raise DataError(f"metric {metric}: row {row.get('id')!r}: field {field!r} must be {valid}, found {value!r}")
    return values


def _values(metric: str, rows: Rows, field: str) -> list[Any]:
    for number, row in enumerate(rows, start=1):
        if field not in row:
            raise DataError(f"metric {metric}: row {row.get('id', number)!r}: field {field!r} is missing")
    return [row[field] for row in rows]
