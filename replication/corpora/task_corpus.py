"""A corpus of one task: its card (what it is) and its rows, checked by the row contract (rows.py) when it is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from replication.corpora.rows import Labels, row_problem
from replication.errors import ConfigError, DataError

Row = dict[str, Any]

PROTOCOLS: dict[str, tuple[str, ...]] = {
    "classification": ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "accuracy"),
    "regression": ("stsb",),
    "question_answering": ("squad_v1", "squad_v2"),
    "multiple_choice": ("acc", "acc_norm", "accuracy"),
    "summarisation": ("rouge", "rouge_lsum"),
    "generation": ("e2e",),
}
"""Form -> what a card may name in its field `metric`: the official way to score the corpus. Which metrics a protocol
reports, and which of them leads, is up to the metrics (`replication.metrics.reported`)."""
FORMS = tuple(PROTOCOLS)
EVALUATION: dict[str, tuple[str, ...]] = {
    "multiple_choice": ("prompt", "length", "source"),
    "question_answering": ("no_answer",),
    "summarisation": ("sentences",),
}
"""Form -> what a card may state in its field `evaluation`; the names of a form's options are defaults of its tasks."""
SCALES = {"stsb": (0.0, 5.0)}
"""Protocol -> least and greatest label of a regression."""
_IDENTITY = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")


@dataclass(frozen=True)
class CorpusCard:
    """Description of a corpus, without its rows.

    `labels` are the class names in index order (classification only); `reported_split` is the split scores are
    given on; `comparable` is True only where that split is the complete official one; `note` says what a
    reader of a score must know. `evaluation` has what else makes a score comparable, by the names in EVALUATION:
    the options that published scores were made with, and `source`, where that is stated (docs/protocol.md).
    ConfigError names the field that does not fit.
    """

    name: str
    label: str
    form: str
    metric: str
    labels: tuple[str, ...] | None
    reported_split: str
    comparable: bool
    licence: str
    note: str
    evaluation: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if self.form not in PROTOCOLS:
            raise ConfigError(f"form of {self.name}: {self.form!r}; the forms are {', '.join(FORMS)}")
        if self.metric not in PROTOCOLS[self.form]:
            valid = ", ".join(PROTOCOLS[self.form])
            raise ConfigError(f"metric of {self.name}: {self.metric!r}; a {self.form} corpus takes {valid}")
        if (self.form == "classification") != bool(self.labels):
            raise ConfigError(
                f"labels of {self.name}: {self.labels!r}; a classification corpus names its classes, others have None"
            )
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            raise ConfigError(f"labels of {self.name}: duplicate class in {', '.join(self.labels)}")
        known = EVALUATION.get(self.form, ())
        if unknown := [name for name in self.evaluation if name not in known]:
            raise ConfigError(
                f"evaluation of {self.name}: unknown {unknown[0]!r}; a {self.form} corpus takes "
                f"{', '.join(known) or 'none'}"
            )

    def describe(self) -> dict[str, Any]:
        """The card as a JSON dict."""
        values = {name: getattr(self, name) for name in CorpusCard.__dataclass_fields__}
        labels = None if self.labels is None else list(self.labels)
        return {**values, "labels": labels, "evaluation": dict(self.evaluation)}


@dataclass(frozen=True)
class TaskCorpus(CorpusCard):
    """A card with the rows of "train" and of the reported split.

    `sha256` maps source files to their sha256 (64 hex digits), and hub ids to the commits read (40). DataError names
    corpus, split, row (the first is 1) and field of a row that breaks the contract, or the source without identity.
    Splits besides "train", "dev" and the reported one are neither learned from nor scored: they may lack labels.
    """

    splits: dict[str, list[Row]] = field(repr=False)
    sha256: dict[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for split in dict.fromkeys(("train", self.reported_split)):
            if not self.splits.get(split):
                raise DataError(f"{self.name}: the split {split!r} has no rows; its splits: {', '.join(self.splits)}")
        for source, identity in self.sha256.items():
            if not _IDENTITY.fullmatch(identity):
                raise DataError(
                    f"{self.name}: the source {source} has the identity {identity!r}; expected a file's sha256 (64 hex "
                    "digits) or a repository's commit (40), as the run's record will; load the corpus again"
                )
        for split, rows in self.splits.items():
            check_rows(self, rows, f"{self.name}, split {split!r}", split)

    def source(self, *, whole: bool) -> dict[str, Any]:
        """The corpus in a run's record; `whole`: all of the reported split was used.

        For a corpus of descriptions only name, label and hashes; `records.Corpus` has defaults for the rest. The
        evaluation is not part of it: the options that a run took are in decoding.json, the line with its scores.
        """
        if self.form == "generation":
            return {"name": self.name, "label": self.label, "sha256": dict(self.sha256)}
        card = {name: getattr(self, name) for name in CorpusCard.__dataclass_fields__ if name != "evaluation"}
        labels = None if self.labels is None else list(self.labels)
        return {**card, "labels": labels, "comparable": self.comparable and whole, "sha256": dict(self.sha256)}


def corpus_of(card: CorpusCard, splits: dict[str, list[Row]], sha256: Mapping[str, str]) -> TaskCorpus:
    """The corpus that `card` describes with these rows."""
    return TaskCorpus(**asdict(card), splits=splits, sha256=dict(sha256))


def check_rows(card: CorpusCard, rows: list[Row], where: str, split: str = "train") -> None:
    """DataError names `where`, the row (the first is 1) and the field that breaks the contract of the card's form."""
    published = split in ("train", "dev", card.reported_split)
    classes = len(card.labels) if card.labels else None
    labels, seen = Labels(classes, SCALES.get(card.metric), published), set()
    for number, row in enumerate(rows, start=1):
        field = _name_field(row, card)
        problem = _id_problem(row, field) or row_problem(card.form, row, labels)
        if problem is None and field and row[field] in seen:
            problem = f"field {field!r} is {row[field]!r}, which an earlier row has; {field}s are unique in a split"
        if problem is not None:
            name = f" ({field} {row.get(field)!r})" if field else ""
            raise DataError(f"{where}, row {number}{name}: {problem}")
        if field:
            seen.add(row[field])


def _name_field(row: Row, card: CorpusCard) -> str | None:
    """The field that names a row; None for a training pair of a data-to-text corpus, which has no name."""
    if card.form == "generation":
        return None if "completion" in row else "mr"
    return "id"


def _id_problem(row: Row, field: str | None) -> str | None:
    if field is None or (isinstance(row.get(field), str) and row[field].strip()):
        return None
    return f"field {field!r} is {row.get(field)!r}; expected a text that is not empty"
