"""A corpus of one task: its card (what it is) and its rows, checked field by field when it is made.

Rows are plain JSON dicts; the form fixes their fields:
  classification     {"id", "text", "pair": str|None, "label": int, optional "subset": "matched"|"mismatched"}
  regression         {"id", "text", "pair": str|None, "label": float}
  question_answering {"id", "question", "context", "answers": [{"text", "start"}], "impossible": bool}
  multiple_choice    {"id", "question", "choices": [str, ...], "answer": int}
  summarisation      {"id", "document", "summary"}
  generation         {"context", "completion"}; of the reported split {"mr", "context", "references": [str, ...]}
`start` is a character offset into the context; an impossible question has no answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from replication.errors import ConfigError, DataError

Row = dict[str, Any]

PROTOCOLS: dict[str, tuple[str, ...]] = {
    "classification": ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "accuracy"),
    "regression": ("stsb",),
    "question_answering": ("squad_v1", "squad_v2"),
    "multiple_choice": ("accuracy",),
    "summarisation": ("rouge",),
    "generation": ("e2e",),
}
"""Form -> what a card may name in its field `metric`: the official way to score the corpus. Which metrics a protocol
reports, and which of them leads, is up to the metrics (`replication.metrics.reported`)."""
FORMS = tuple(PROTOCOLS)
SUBSETS = ("matched", "mismatched")


@dataclass(frozen=True)
class CorpusCard:
    """Description of a corpus, without its rows.

    `labels` are the class names in index order (classification only); `reported_split` is the split scores are
    given on; `comparable` is True only where that split is the complete official one; `note` says what a
    reader of a score must know. ConfigError names the field that does not fit.
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

    def describe(self) -> dict[str, Any]:
        """The card as a JSON dict."""
        values = {name: getattr(self, name) for name in CorpusCard.__dataclass_fields__}
        return {**values, "labels": None if self.labels is None else list(self.labels)}


@dataclass(frozen=True)
class TaskCorpus(CorpusCard):
    """A card with the rows of "train" and of the reported split.

    `sha256` maps source files to their sha256, or hub ids to their pinned revisions. DataError names corpus,
    split, row (the first is 1) and field of a row that does not have its form.
    """

    splits: dict[str, list[Row]] = field(repr=False)
    sha256: dict[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for split in dict.fromkeys(("train", self.reported_split)):
            if not self.splits.get(split):
                raise DataError(f"{self.name}: the split {split!r} has no rows; its splits: {', '.join(self.splits)}")
        for split, rows in self.splits.items():
            check_rows(self, rows, f"{self.name}, split {split!r}")

    def source(self, *, whole: bool) -> dict[str, Any]:
        """The corpus in a run's record; `whole`: all of the reported split was used.

        For a corpus of descriptions only name, label and hashes; `records.Corpus` has defaults for the rest.
        """
        if self.form == "generation":
            return {"name": self.name, "label": self.label, "sha256": dict(self.sha256)}
        card = {name: getattr(self, name) for name in CorpusCard.__dataclass_fields__}
        labels = None if self.labels is None else list(self.labels)
        return {**card, "labels": labels, "comparable": self.comparable and whole, "sha256": dict(self.sha256)}


def corpus_of(card: CorpusCard, splits: dict[str, list[Row]], sha256: Mapping[str, str]) -> TaskCorpus:
    """The corpus that `card` describes with these rows."""
    return TaskCorpus(**asdict(card), splits=splits, sha256=dict(sha256))


def check_rows(card: CorpusCard, rows: list[Row], where: str) -> None:
    """DataError names `where`, the row (the first is 1) and the field that does not have the card's form."""
    check, seen = _CHECKS[card.form], set()
    for number, row in enumerate(rows, start=1):
        field = _name_field(row, card)
        problem = (_text_problem(row, (field,)) if field else None) or check(row, card)
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


def _text_problem(row: Row, names: tuple[str, ...]) -> str | None:
    for name in names:
        value = row.get(name)
        if not isinstance(value, str) or not value.strip():
            return f"field {name!r} is {value!r}; expected a text that is not empty"
    return None


def _pair_problem(row: Row) -> str | None:
    if row.get("pair") is None:
        return _text_problem(row, ("text",))
    # QQP has pairs of which one question is empty.
    for name in ("text", "pair"):
        if not isinstance(row.get(name), str):
            return f"field {name!r} is {row.get(name)!r}; expected a text"
    return None if (row["text"] + row["pair"]).strip() else "fields 'text' and 'pair' are both empty"


def _classification(row: Row, card: CorpusCard) -> str | None:
    if problem := _pair_problem(row):
        return problem
    label, classes = row.get("label"), card.labels or ()
    if type(label) is not int or not 0 <= label < len(classes):
        return f"field 'label' is {label!r}; expected 0 to {len(classes) - 1} for {', '.join(classes)}"
    if row.get("subset", SUBSETS[0]) not in SUBSETS:
        return f"field 'subset' is {row['subset']!r}; expected {' or '.join(SUBSETS)}, or no such field"
    return None


def _regression(row: Row, card: CorpusCard) -> str | None:
    if problem := _pair_problem(row):
        return problem
    label = row.get("label")
    if type(label) is not float or not math.isfinite(label):
        return f"field 'label' is {label!r}; expected a finite float"
    return None


def _question_answering(row: Row, card: CorpusCard) -> str | None:
    if problem := _text_problem(row, ("question", "context")):
        return problem
    answers, impossible = row.get("answers"), row.get("impossible")
    if type(impossible) is not bool:
        return f"field 'impossible' is {impossible!r}; expected true or false"
    if not isinstance(answers, list) or bool(answers) == impossible:
        return f"field 'answers' is {answers!r} with impossible {impossible}; only an impossible question has none"
    for answer in answers:
        text, start = answer.get("text"), answer.get("start")
        if not isinstance(text, str) or not text or type(start) is not int or start < 0:
            return f"field 'answers' holds {answer!r}; expected a text that is not empty and its start, 0 or more"
        found = row["context"][start : start + len(text)]
        if found != text:
            return (
                f"field 'answers': {text!r} should start at character {start} of the context, found {found!r}; "
                "count characters, not bytes, in the text as it is"
            )
    return None


def _multiple_choice(row: Row, card: CorpusCard) -> str | None:
    if problem := _text_problem(row, ("question",)):
        return problem
    choices, answer = row.get("choices"), row.get("answer")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
        return f"field 'choices' is {choices!r}; expected two or more texts that are not empty"
    if type(answer) is not int or not 0 <= answer < len(choices):
        return f"field 'answer' is {answer!r}; expected 0 to {len(choices) - 1}, the index of the right choice"
    return None


def _summarisation(row: Row, card: CorpusCard) -> str | None:
    if not isinstance(row.get("document"), str):  # XSum has documents that are empty
        return f"field 'document' is {row.get('document')!r}; expected a text"
    return _text_problem(row, ("summary",))


def _generation(row: Row, card: CorpusCard) -> str | None:
    if "completion" in row:
        return _text_problem(row, ("context", "completion"))
    if problem := _text_problem(row, ("context",)):
        return problem
    references = row.get("references")
    if not isinstance(references, list) or not references or not all(isinstance(text, str) for text in references):
        return f"field 'references' is {references!r}; expected one or more texts"
    return None


_CHECKS: dict[str, Callable[[Row, CorpusCard], str | None]] = {
    "classification": _classification,
    "regression": _regression,
    "question_answering": _question_answering,
    "multiple_choice": _multiple_choice,
    "summarisation": _summarisation,
    "generation": _generation,
}
