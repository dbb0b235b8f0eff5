"""The row contract: the fields of a row of each form, and the odd values of real corpora that a row may have.

Corpora check it when they are read, task forms when they encode, predict or list the truth. So a row that prepares also
trains, is predicted and is scored. Every form:

  classification     {"id", "text", "pair": str or None, "label": int, optional "subset": "matched" or "mismatched"}
  regression         {"id", "text", "pair": str or None, "label": float}
  question_answering {"id", "question", "context", "answers": [{"text", "start"}], "impossible": bool}
  multiple_choice    {"id", "question", "choices": [str, ...], "answer": int, optional "passage": str}
  summarisation      {"id", "document", "summary"}
  generation         {"context", "completion"}; of the reported split {"mr", "context", "references": [str, ...]}

`start` is a character offset into the context; an impossible question has no answers. A text has to say something,
except where ODD names an empty one: those rows are kept. Nothing is dropped or mended: counts stay the official ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

SUBSETS = ("matched", "mismatched")
UNLABELLED = -1
"""The class where it is not published (GLUE's test splits): only in a split that is neither learned from nor scored."""


@dataclass(frozen=True)
class Labels:
    """Which labels a corpus can have.

    `classes`: how many there are; `scale`: least and greatest number of a regression (None: not known). `published`
    False: the labels of the split are not public.
    """

    classes: int | None = None
    scale: tuple[float, float] | None = None
    published: bool = True


def row_problem(form: str, row: Row, labels: Labels | None = None) -> str | None:
    """The field of a row that breaks the contract of `form`, with its value and what is expected; None for a good row.

    The id is not looked at: a row to learn from needs none.
    """
    return _CHECKS[form](row, labels or Labels())


def _text(row: Row, *names: str, empty: bool = False) -> str | None:
    for name in names:
        if name not in row:
            return f"field {name!r} is missing; it has {', '.join(map(str, row))}"
        value = row[name]
        if not isinstance(value, str):
            return f"field {name!r} must be text, found {value!r}"
        if not empty and not value.strip():
            return f"field {name!r} is blank; add text or remove the row"
    return None


def _texts_to_judge(row: Row) -> str | None:
    if row.get("pair") is None:
        return _text(row, "text")
    if problem := _text(row, "text", "pair", empty=True):
        return problem
    return None if (row["text"] + row["pair"]).strip() else "fields 'text' and 'pair' are both blank; remove the row"


def _classification(row: Row, labels: Labels) -> str | None:
    if "label" not in row:
        return _text(row, "label")
    label = row["label"]
    whole = isinstance(label, int) and not isinstance(label, bool)
    known = whole and label >= 0 and (labels.classes is None or label < labels.classes)
    if not known and (labels.published or not whole or label != UNLABELLED):
        upper = "" if labels.classes is None else f", 0 to {labels.classes - 1}"
        note = "; -1 marks the unpublished labels of a test split" if label == UNLABELLED else ""
        return f"field 'label' must be a class's index{upper}, found {label!r}{note}"
    if row.get("subset") not in (None, *SUBSETS):
        return f"field 'subset' is {row['subset']!r}; expected {' or '.join(SUBSETS)}, or no such field"
    return _texts_to_judge(row)


def _regression(row: Row, labels: Labels) -> str | None:
    if "label" not in row:
        return _text(row, "label")
    label = row["label"]
    if isinstance(label, bool) or not isinstance(label, int | float) or not math.isfinite(label):
        return f"field 'label' must be a finite number, found {label!r}"
    if labels.published and labels.scale is not None and not labels.scale[0] <= label <= labels.scale[1]:
        note = "; -1 marks the unpublished labels of a test split" if label == UNLABELLED else ""
        return f"field 'label' must be a number from {labels.scale[0]:g} to {labels.scale[1]:g}, found {label!r}{note}"
    return _texts_to_judge(row)


def _question_answering(row: Row, labels: Labels) -> str | None:
    if problem := _text(row, "question", empty=True) or _text(row, "context", empty=True):
        return problem
    if "answers" not in row:
        return _text(row, "answers")
    answers, impossible, context = row["answers"], row.get("impossible", False), row["context"]
    if type(impossible) is not bool:
        return f"field 'impossible' is {impossible!r}; expected true or false"
    if not isinstance(answers, list | tuple):
        return f"field 'answers': expected a list, found {answers!r}"
    for answer in answers:
        text, start = (answer.get("text"), answer.get("start")) if isinstance(answer, Mapping) else (None, None)
        if not isinstance(text, str) or not text.strip() or isinstance(start, bool) or not isinstance(start, int):
            return f"field 'answers': expected a text and its start, found {answer!r}"
        if start < 0 or context[start : start + len(text)] != text:
            found = context[max(start, 0) : max(start, 0) + len(text)]
            return (
                f"field 'answers': {text!r} is not at character {start} of the context, which has {found!r} there; "
                "count characters, not bytes, in the text as it is"
            )
    if bool(answers) == impossible:
        return (
            f"fields 'answers' and 'impossible' disagree: {len(answers)} answers with impossible "
            f"{str(impossible).lower()}; only an impossible question has none"
        )
    return _text(row, "context")


def _multiple_choice(row: Row, labels: Labels) -> str | None:
    if problem := _text(row, "question") or (_text(row, "passage") if "passage" in row else None):
        return problem
    if "choices" not in row or "answer" not in row:
        return _text(row, "choices" if "choices" not in row else "answer")
    choices, answer = row["choices"], row["answer"]
    if not isinstance(choices, list | tuple) or len(choices) < 2:
        return f"field 'choices' must be a list of at least two texts, found {choices!r}"
    for choice in choices:
        if not isinstance(choice, str) or not choice.strip():
            return f"field 'choices': {choice!r} is not text"
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        return f"field 'answer' must be an index into its {len(choices)} choices, found {answer!r}"
    return None


def _summarisation(row: Row, labels: Labels) -> str | None:
    return _text(row, "document", "summary", empty=True)


def _generation(row: Row, labels: Labels) -> str | None:
    if problem := _text(row, "context", empty=True):
        return problem
    if "references" not in row:
        return _text(row, "completion")
    references = row["references"]
    if not isinstance(references, list | tuple) or not references or not all(map(_says_something, references)):
        return f"field 'references' is {references!r}; expected one or more texts that are not blank"
    return _text(row, "mr")


_CHECKS: dict[str, Callable[[Row, Labels], str | None]] = {
    "classification": _classification,
    "regression": _regression,
    "question_answering": _question_answering,
    "multiple_choice": _multiple_choice,
    "summarisation": _summarisation,
    "generation": _generation,
}
FORMS = tuple(_CHECKS)


# --- odd values that are allowed


def _says_something(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _blank(name: str) -> Callable[[Row], bool]:
    return lambda row: isinstance(row.get(name), str) and not row[name].strip()


def _inside_a_word(row: Row) -> bool:
    """Whether an answer begins or ends between two letters or digits."""
    context = row["context"]
    edges = (edge for one in row["answers"] for edge in (one["start"], one["start"] + len(one["text"])))
    return any(0 < edge < len(context) and context[edge - 1 : edge + 1].isalnum() for edge in edges)


@dataclass(frozen=True)
class Odd:
    """A value that looks wrong and is allowed: in rows of which forms, how to see it, where it is known from."""

    forms: tuple[str, ...]
    holds: Callable[[Row], bool]
    known_from: str


ODD: dict[str, Odd] = {
    "empty first text": Odd(("classification", "regression"), _blank("text"), "QQP"),
    "empty second text": Odd(("classification", "regression"), _blank("pair"), "QQP"),
    "unpublished label": Odd(("classification",), lambda row: row["label"] == UNLABELLED, "GLUE test splits"),
    "empty question": Odd(("question_answering",), _blank("question"), "none seen yet"),
    "answer inside a word": Odd(("question_answering",), _inside_a_word, "SQuAD"),
    "empty document": Odd(("summarisation",), _blank("document"), "XSum"),
    "empty summary": Odd(("summarisation",), _blank("summary"), "CNN/DailyMail"),
    "bracketed marks": Odd(
        ("multiple_choice",),
        lambda row: any("[" in text for text in (row["question"], *row["choices"])),
        "ARC, OpenBookQA",
    ),
}
"""Odd values by name. docs/rows.md says what each stage does with them."""


def odd_rows(form: str, rows: Iterable[Row]) -> dict[str, int]:
    """How many rows have each odd value; only what occurs. The rows keep the contract."""
    kinds = {name: odd for name, odd in ODD.items() if form in odd.forms}
    found = Counter(name for row in rows for name, odd in kinds.items() if odd.holds(row))
    return {name: found[name] for name in kinds if found[name]}
