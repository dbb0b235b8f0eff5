"""predictions/seed-<s>.jsonl of every task form: read, checked, and told which question each row answers.

Rows are full ones, with the truth of each item: of files that hold only what the model said it comes from the task's
gold file (replication.predictions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from analysis.scores import GENERATION
from replication.errors import DataError
from replication.predictions import full_rows, read_predictions

Row = Mapping[str, Any]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


# form -> field of the prediction, field of the truth, each with its check
FIELDS: dict[str, tuple[tuple[str, Callable[[Any], bool], str], tuple[str, Callable[[Any], bool], str]]] = {
    "classification": (("prediction", _whole, "a whole number"), ("label", _whole, "a whole number")),
    "multiple_choice": (("prediction", _whole, "a whole number"), ("label", _whole, "a whole number")),
    "regression": (("prediction", _number, "a finite number"), ("label", _number, "a finite number")),
    "question_answering": (("prediction", _text, "a text"), ("answers", _texts, "a list of texts")),
    "summarisation": (("prediction", _text, "a text"), ("references", _texts, "a list of texts")),
}


def read_rows(path: str | Path, form: str | None) -> list[Row]:
    """Rows in file order; DataError names file, line and field. `form` None: recognised by the first row's fields."""
    if form is None:
        form = _form_of(path)
    if form == GENERATION:
        return cast(list[Row], read_predictions(path))
    if form not in FIELDS:
        raise DataError(f"{path}: form {form!r} is unknown; forms are {GENERATION}, {', '.join(FIELDS)}")
    rows = full_rows(path)
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        place = f"{path}, line {number}"
        if not isinstance(row, Mapping) or not isinstance(row.get("id"), str):
            raise DataError(f"{place}: field 'id' is missing or no text")
        if row["id"] in seen:
            raise DataError(f"{place}: the id {row['id']!r} stands there already; there is one line per item")
        seen.add(row["id"])
        for field, holds, wanted in FIELDS[form]:
            if field not in row or not holds(row[field]):
                raise DataError(f"{place}: field {field!r} is {row.get(field)!r}; a {form} row has {wanted} there")
    return cast(list[Row], rows)


def questions(rows: Sequence[Row]) -> tuple[tuple[str, ...], ...]:
    """What was asked and what would be right, item by item: equal for runs on the same items."""
    return tuple(_question(row) for row in rows)


def _question(row: Row) -> tuple[str, ...]:
    if "mr" in row:
        return (row["mr"], *row["references"])
    truth = next((row[name] for name in ("label", "answers", "references") if name in row), None)
    return (row["id"], repr(truth), str(row.get("subset", "")))


def _form_of(path: str | Path) -> str:
    """A file whose record cannot be read still says what it is."""
    rows = full_rows(path)
    first = rows[0] if rows and isinstance(rows[0], Mapping) else {}
    if "mr" in first or not first:
        return GENERATION
    if "answers" in first:
        return "question_answering"
    if "references" in first:
        return "summarisation"
    if "scores" in first:
        return "multiple_choice"
    return "classification" if _whole(first.get("prediction")) else "regression"
