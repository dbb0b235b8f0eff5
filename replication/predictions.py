"""predictions.jsonl: one line per meaning representation with context, generated text and references.

Light on purpose (no torch), so that scoring and analysis can read predictions without the decoding code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from replication.errors import DataError
from replication.fileio import read_jsonl, write_jsonl

TEXT_FIELDS = ("mr", "context", "prediction")
FIELDS = (*TEXT_FIELDS, "references")


class Prediction(TypedDict):
    """One line: the MR as the corpus writes it, its linear form, the generated text, people's references."""

    mr: str
    context: str
    prediction: str
    references: list[str]


def write_predictions(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Check all rows, then write them in one step; a bad row raises DataError and leaves no partial file."""
    return write_jsonl(path, _checked((f"{path}, line {number}", row) for number, row in enumerate(rows, start=1)))


def read_predictions(path: str | Path) -> list[Prediction]:
    """Rows in file order; DataError names file and line of a malformed, incomplete or repeated row."""
    rows = read_jsonl(path)
    lines = enumerate(Path(path).read_text(encoding="utf-8").split("\n"), start=1)
    numbers = [number for number, line in lines if line.strip()]  # read_jsonl passes over blank lines
    return _checked((f"{path}, line {number}", row) for number, row in zip(numbers, rows, strict=True))


def _checked(rows: Iterable[tuple[str, Any]]) -> list[Prediction]:
    checked: list[Prediction] = []
    first_place: dict[str, str] = {}
    for place, row in rows:
        prediction = _check_row(place, row)
        mr = prediction["mr"]
        if mr in first_place:
            raise DataError(f"{place}: the MR {mr!r} stands at {first_place[mr]} already; there is one line per MR")
        first_place[mr] = place
        checked.append(prediction)
    return checked


def _check_row(place: str, row: Any) -> Prediction:
    if not isinstance(row, Mapping):
        raise DataError(f"{place}: expected an object with {', '.join(FIELDS)}, found {type(row).__name__}")
    for field in FIELDS:
        if field not in row:
            raise DataError(f"{place}: field {field!r} is missing; a prediction has {', '.join(FIELDS)}")
    if unknown := sorted(set(row) - set(FIELDS)):
        raise DataError(f"{place}: unknown field {unknown[0]!r}; a prediction has {', '.join(FIELDS)}")
    for field in TEXT_FIELDS:
        if not isinstance(row[field], str):
            raise DataError(f"{place}: field {field!r} must be a string, found {row[field]!r}")
    references = row["references"]
    if not isinstance(references, (list, tuple)) or not all(isinstance(text, str) for text in references):
        raise DataError(f"{place}: field 'references' must be a list of strings, found {references!r}")
    return cast(Prediction, {**{field: row[field] for field in TEXT_FIELDS}, "references": list(references)})
