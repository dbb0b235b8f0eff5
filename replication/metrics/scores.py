"""Scores of one or several systems by the official metrics of a protocol (cola, squad_v1, rouge, e2e).

With Java every E2E score is the official one. Without it BLEU and NIST stay exact, METEOR is missing (never
replaced), and ROUGE-L and CIDEr use `approximate_tokenizer` and are labelled approximate. Measured against
the official tokenizer: the same ROUGE-L and CIDEr on the scripts' own example (10 items); the same tokens
for 99.91 % of the 51,426 references of the E2E release; and, with the first human reference scored against
the others on the 616 test items that have several, ROUGE-L within 0.00001 (0.6381) and CIDEr 0.0001 too
high (1.8572).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from replication.errors import DataError, ProgramError
from replication.metrics.guard import check_classes, labelled_rows
from replication.metrics.java import JavaChoice, resolve_java
from replication.metrics.metric import Rows
from replication.metrics.programs import Programs, Progress
from replication.metrics.registry import reported

E2E = "e2e"
"""The protocol of text generation."""


@dataclass(frozen=True)
class Scores:
    """Scores of one system, and how far they are the official ones."""

    values: dict[str, float | None]
    """One entry per metric, in table order, on the scale that the metric states; None if missing."""
    items: int
    approximate: tuple[str, ...]
    """Metrics computed by the official formula on another tokenisation."""
    missing: tuple[str, ...]
    tokenizer: str
    """Tokenizer of the texts for METEOR, ROUGE-L and CIDEr."""
    notes: tuple[str, ...] = ()
    """Properties of the predictions that a reader of the scores should know."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Missing metrics whose program started and then failed, with its message."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form: a key for each metric, then items, approximate, missing, tokenizer, notes; `failed` if any did."""
        return {
            **self.values,
            "items": self.items,
            "approximate": list(self.approximate),
            "missing": list(self.missing),
            "tokenizer": self.tokenizer,
            "notes": list(self.notes),
            **({"failed": dict(self.failed)} if self.failed else {}),
        }


def score_systems(
    protocol: str,
    systems: Mapping[str, Rows],
    *,
    java: JavaChoice = "auto",
    progress: Progress | None = None,
    keep_going: bool = False,
) -> dict[str, Scores]:
    """Scores of several systems (name -> prediction rows), with the Java programs started only once.

    A metric is reported when the rows of every system hold what it needs. `java`: "auto", a path, or None to score
    without. `progress` is called with a short text before each step. ConfigError: an unknown protocol. DataError names
    the system, row and field that cannot be used. ReplicationError: a Java program failed; with `keep_going` the metric
    that needs this program (METEOR) is missing, `failed` says why, and the others are scored.
    """
    found = reported(protocol)
    for name, rows in systems.items():
        if not rows:
            raise DataError(f"{_where(protocol, name)}: no predictions; there is nothing to score")
        with _naming(protocol, name):
            check_classes(protocol, rows)
    metrics = [metric for metric in found if all(metric.measured(rows) for rows in systems.values())]
    program = None
    if any(metric.java != "no" for metric in metrics):
        if progress:
            progress("looking for Java")
        program = resolve_java(java)
    results = {}
    with Programs(program, progress) as programs:
        for metric in metrics if systems else ():
            with suppress(*([ProgramError] if keep_going else [])):  # the score itself reports it
                metric.begin(programs)
        for name, rows in systems.items():
            values: dict[str, float | None] = {}
            failed: dict[str, str] = {}
            for metric in metrics:
                programs.report(f"{metric.label} of {name}" if name else metric.label)
                try:
                    with _naming(protocol, name):
                        values[metric.name] = metric.official(rows, programs)
                except ProgramError as error:
                    if not (keep_going and metric.java == "program"):
                        raise
                    values[metric.name], failed[metric.name] = None, str(error)
            results[name] = Scores(
                values=values,
                items=len(rows),
                approximate=() if program else tuple(m.name for m in metrics if m.java == "tokenizer"),
                missing=tuple(metric for metric, value in values.items() if value is None),
                tokenizer=programs.tokenizer,
                notes=tuple(note for metric in metrics for note in metric.notes(rows)),
                failed=failed,
            )
    return results


def score_task(protocol: str, predictions: Rows) -> dict[str, float | None]:
    """Scores of one system's prediction rows by name, in table order. Errors as those of `score_systems`."""
    return score_systems(protocol, {"": predictions})[""].values


def glue_scores(protocol: str, predictions: Sequence[float], labels: Sequence[float]) -> dict[str, float | None]:
    """Scores of plain predictions and labels (lists, arrays or tensors) by the metric of a GLUE task, or "accuracy"."""
    return score_task(protocol, labelled_rows(predictions, labels))


def e2e_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, java: JavaChoice = "auto"
) -> dict[str, float | None]:
    """BLEU, NIST, METEOR, ROUGE_L and CIDEr of raw texts; `references[i]` lists those of `predictions[i]`.

    METEOR is None without Java; `score_e2e` also lists what is approximate. DataError names the first
    unusable item.
    """
    return score_e2e(predictions, references, java=java).values


def score_e2e(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    java: JavaChoice = "auto",
    progress: Progress | None = None,
) -> Scores:
    """`e2e_scores` with what is approximate or missing. `java`: "auto", a path, or None to score without."""
    return score_many({"": predictions}, references, java=java, progress=progress)[""]


def score_many(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    java: JavaChoice = "auto",
    progress: Progress | None = None,
) -> dict[str, Scores]:
    """`score_systems` of several systems' raw texts (name -> predictions) against the same references.

    DataError: lengths differ, an item without a reference, something that is not text.
    """
    for name, predictions in systems.items():
        check_items(predictions, references, name)
    rows = {
        name: [{"prediction": text, "references": texts} for text, texts in zip(predictions, references, strict=True)]
        for name, predictions in systems.items()
    }
    return score_systems(E2E, rows, java=java, progress=progress)


@contextmanager
def _naming(protocol: str, name: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"{_where(protocol, name)}: {error}") from None


def _where(protocol: str, name: str) -> str:
    return f"metric {protocol}" + (f", {name}" if name else "")


def check_items(predictions: Sequence[str], references: Sequence[Sequence[str]], name: str = "") -> None:
    """Raise DataError naming the first item that cannot be scored."""
    where = f"{name}: " if name else ""
    for what, value in (("predictions", predictions), ("references", references)):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise DataError(f"{where}{what} is {type(value).__name__}; pass a list, one entry per item")
    if len(predictions) != len(references):
        raise DataError(
            f"{where}{len(predictions)} predictions but references for {len(references)} items; "
            "pass one list of references per prediction, in the same order"
        )
    if not predictions:
        raise DataError(f"{where}no predictions; there is nothing to score")
    for index, (prediction, texts) in enumerate(zip(predictions, references, strict=True)):
        if not isinstance(prediction, str):
            raise DataError(f"{where}predictions[{index}] is {type(prediction).__name__}, not text")
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise DataError(f"{where}references[{index}] is {type(texts).__name__}; pass a list of texts")
        if not texts:
            raise DataError(f"{where}references[{index}] is empty; every item needs at least one reference")
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"{where}references[{index}][{number}] is {type(text).__name__}, not text")
