"""What every entry point refuses before a score is computed: counts that differ, and what is no class, number or text.

The metrics check the types of the fields that they read (metric.py). Here stands what a metric cannot know: the number
of classes of an official task, and the inputs of a library that would convert them silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from replication.errors import DataError
from replication.metrics.metric import Rows, classes, lists_of_texts, numbers, texts

_TWO_WAY = ("entailment", "not_entailment")
CLASSES: dict[str, tuple[str, ...]] = {
    "cola": ("unacceptable", "acceptable"),
    "mnli": ("entailment", "neutral", "contradiction"),
    "mrpc": ("not_equivalent", "equivalent"),
    "qnli": _TWO_WAY,
    "qqp": ("not_duplicate", "duplicate"),
    "rte": _TWO_WAY,
    "sst2": ("negative", "positive"),
    "wnli": ("not_entailment", "entailment"),
}
"""Protocol -> class names in the order of their indices. STS-B has none: it is scored on numbers."""


def check_classes(protocol: str, rows: Rows) -> None:
    """DataError if a prediction or label is no class of the official task; nothing for other protocols."""
    names = CLASSES.get(protocol, ())
    for field in ("prediction", "label") if names else ():
        for row, index in zip(rows, classes(rows, field).tolist(), strict=True):
            if index >= len(names):
                valid = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
                raise DataError(f"row {row.get('id')!r}: field {field!r} is {index}; the classes are {valid}")


def labelled_rows(predictions: Any, labels: Any) -> list[dict[str, Any]]:
    """Rows of plain predictions and labels, given as lists, arrays or tensors; DataError if there are not as many."""
    predicted, true = as_list(predictions, "predictions"), as_list(labels, "labels")
    if len(predicted) != len(true):
        raise DataError(f"{len(predicted)} predictions but {len(true)} labels; pass one label per prediction")
    pairs = enumerate(zip(predicted, true, strict=True))
    return [{"id": number, "prediction": said, "label": label} for number, (said, label) in pairs]


def check_labelled(protocol: str, predictions: Any, labels: Any) -> None:
    """DataError unless they are as many classes of `protocol`, or finite numbers for stsb."""
    rows = labelled_rows(predictions, labels)
    for field in ("prediction", "label"):
        if protocol == "stsb":
            numbers(rows, field)
        else:
            classes(rows, field)
    check_classes(protocol, rows)


def check_texts(predictions: Any, references: Any, *, empty: bool = False) -> None:
    """DataError unless they are as many texts and lists of texts; `empty` allows a list without any."""
    said, golds = as_list(predictions, "predictions"), as_list(references, "references")
    if len(said) != len(golds):
        raise DataError(f"{len(said)} predictions but references for {len(golds)} items; pass one list each")
    rows = [{"id": n, "prediction": a, "references": b} for n, (a, b) in enumerate(zip(said, golds, strict=True))]
    texts(rows, "prediction")
    lists_of_texts(rows, "references", empty=empty)


def as_list(values: Any, what: str) -> list[Any]:
    """A list, array or tensor of one dimension as a list of plain values; DataError for anything else."""
    plain = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(plain, str | bytes) or not isinstance(plain, Sequence):
        raise DataError(f"{what} is {type(values).__name__}; pass a list, one entry per item")
    return list(plain)
