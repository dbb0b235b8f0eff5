"""Prediction rows: a model's prediction for each item, with labels in the row or in a gold file that all seeds share.

A full row holds both: {"id", "prediction", "label" or "answers" or "references"} and what a form adds
(replication/tasks); of text generation {"mr", "context", "prediction", "references"}, and with scored references also
"reference_nll" and "reference_tokens". A run's files hold compact rows, {"id", "prediction", ...}: only what the model
said. The gold file of the task holds the truth of each item once, under the same ids; predictions/decoding.json names
it and its sha256. `full_rows` reads both kinds of file.

Light on purpose (no torch), so that scoring and analysis can read predictions without the decoding code.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from replication.errors import DataError
from replication.fileio import read_json, read_jsonl, sha256_file, write_jsonl

TEXT_FIELDS = ("mr", "context", "prediction")
FIELDS = (*TEXT_FIELDS, "references")
LOSS_FIELDS = ("reference_nll", "reference_tokens")
TRUTH_FIELDS = ("label", "subset", "answers", "context", "references")
"""Fields that come from the corpus, apart from the name of the item ("id", or "mr" in a full generation row)."""

Rows = list[dict[str, Any]]


class Prediction(TypedDict):
    """One line: the MR as the corpus writes it, its linear form, the generated text, people's references.

    The model's loss on the references (nats, over `reference_tokens` tokens) is there when it was measured.
    """

    mr: str
    context: str
    prediction: str
    references: list[str]
    reference_nll: NotRequired[float]
    reference_tokens: NotRequired[int]


@dataclass(frozen=True)
class GoldFile:
    """A task's gold file as a run refers to it: a path from the project's root, and the hash of the bytes."""

    path: str
    sha256: str

    def to_dict(self) -> dict[str, str]:
        """The fields of decoding.json."""
        return {"gold": self.path, "gold_sha256": self.sha256}


def gold_file(path: str | Path) -> GoldFile:
    """Reference to the gold file at `path`; DataError names the stage that writes it."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; `dvc repro prepare@{path.stem}` writes it")
    return GoldFile(path.as_posix(), sha256_file(path))


def compact(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """Full rows without the truth: {"id", "prediction", ...}."""
    return [
        {"id": _name(row), **{key: value for key, value in row.items() if key not in ("id", "mr", *TRUTH_FIELDS)}}
        for row in rows
    ]


def gold(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """The truth in full rows: {"id", "label" or "answers" or "references", ...}."""
    return [{"id": _name(row), **{key: row[key] for key in TRUTH_FIELDS if key in row}} for row in rows]


def join(
    rows: Sequence[Mapping[str, Any]],
    golden: Sequence[Mapping[str, Any]],
    *,
    where: str | Path = "predictions",
    gold_where: str | Path = "gold",
    fix: str = "predict again with the task's gold file",
) -> Rows:
    """Full rows from compact rows and gold rows, which hold the same ids in the same order.

    DataError names `where`, the first id that differs, and `fix`.
    """
    for number, row in enumerate(rows, start=1):
        location = f"{where}, line {number}"
        if not isinstance(row, Mapping) or "id" not in row:
            raise DataError(f"{location}: expected an object with the field 'id'; {fix}")
        if number > len(golden):
            raise DataError(f"{location}: the id {row['id']!r} is not in {gold_where}; {fix}")
        if row["id"] != golden[number - 1]["id"]:
            raise DataError(
                f"{location}: the id is {row['id']!r}, but {gold_where} has {golden[number - 1]['id']!r} there; {fix}"
            )
    if len(rows) < len(golden):
        raise DataError(f"{where}: the id {golden[len(rows)]['id']!r} of {gold_where} is missing; {fix}")
    return [_joined(row, truth) for row, truth in zip(rows, golden, strict=True)]


def full_rows(path: str | Path) -> Rows:
    """Full rows of a prediction file in its order, joined with the task's gold file where the rows are compact.

    `path` is <root>/runs/<profile>/<experiment>/predictions/seed-<s>.jsonl when the rows are compact. DataError names
    the files and the command that fixes it when the gold file is missing, is not the one that the run was predicted
    with, or holds other items.
    """
    rows = read_jsonl(path)
    if not rows or any(isinstance(row, Mapping) and _is_full(row) for row in rows):
        return rows
    decoding_path, fix = Path(path).parent / "decoding.json", f"{_predict_command(path)} predicts again"
    content = read_json(decoding_path) if decoding_path.is_file() else {}
    if not isinstance(content, dict) or not all(isinstance(content.get(key), str) for key in ("gold", "gold_sha256")):
        raise DataError(
            f"{path}: the rows hold no label, answers or references, and {decoding_path} names no gold file; {fix}"
        )
    if Path(content["gold"]).is_absolute() or ".." in Path(content["gold"]).parts or "\0" in content["gold"]:
        raise DataError(f"{decoding_path}: field 'gold' is {content['gold']!r}, not below the project; {fix}")
    gold_path = Path(os.path.normpath(Path(path).parent / "../../../.." / content["gold"]))
    golden, found = read_gold(gold_path)
    if found != content["gold_sha256"]:
        raise DataError(
            f"{gold_path} has the sha256 {found[:12]}..., but {decoding_path} names {content['gold_sha256'][:12]}...: "
            f"the task was prepared again after this run; {fix}"
        )
    return join(rows, golden, where=path, gold_where=gold_path, fix=fix)


def read_gold(path: str | Path) -> tuple[tuple[dict[str, Any], ...], str]:
    """Rows of a gold file and its sha256; read and checked once as long as the file stays the same."""
    path = Path(path)
    try:
        state = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `dvc repro prepare@{path.stem}` writes it") from None
    return _read_gold(path.absolute(), (state.st_ino, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=64)
def _read_gold(path: Path, state: tuple[int, int, int]) -> tuple[tuple[dict[str, Any], ...], str]:
    rows = read_jsonl(path)
    seen: dict[Any, int] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping) or not isinstance(row.get("id"), str):
            raise DataError(f"{path}, line {number}: field 'id' is missing or no text; prepare the task again")
        if row["id"] in seen:
            raise DataError(f"{path}, line {number}: duplicate id {row['id']!r}, first at line {seen[row['id']]}")
        seen[row["id"]] = number
    return tuple(rows), sha256_file(path)


def _predict_command(path: str | Path) -> str:
    profile, experiment = Path(path).absolute().parts[-4:-2]
    definitions = "" if profile == "quick" else f"pipelines/{profile}/dvc.yaml:"
    return f"`dvc repro {definitions}predict@{experiment}`"


def _name(row: Mapping[str, Any]) -> Any:
    return row["mr"] if "mr" in row else row["id"]


def _is_full(row: Mapping[str, Any]) -> bool:
    return any(field in row for field in ("mr", *TRUTH_FIELDS))


def _joined(row: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    name = "mr" if "context" in truth else "id"
    predicted = {key: value for key, value in row.items() if key != "id"}
    return {name: row["id"], **predicted, **{key: value for key, value in truth.items() if key != "id"}}


def write_predictions(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Check all rows, then write them in one step; a bad row raises DataError and leaves no partial file."""
    return write_jsonl(path, _checked((f"{path}, line {number}", row) for number, row in enumerate(rows, start=1)))


def read_predictions(path: str | Path) -> list[Prediction]:
    """Full rows of generated texts in file order (`full_rows`); DataError names file and line of a malformed,
    incomplete or repeated row.
    """
    rows = full_rows(path)
    lines = enumerate(Path(path).read_text(encoding="utf-8").split("\n"), start=1)
    numbers = [number for number, line in lines if line.strip()]  # read_jsonl passes over blank lines
    return _checked((f"{path}, line {number}", row) for number, row in zip(numbers, rows, strict=True))


def _checked(rows: Iterable[tuple[str, Any]]) -> list[Prediction]:
    checked: list[Prediction] = []
    first_location: dict[str, str] = {}
    for location, row in rows:
        prediction = _check_row(location, row)
        mr = prediction["mr"]
        if mr in first_location:
            raise DataError(f"{location}: duplicate MR {mr!r}, first at {first_location[mr]}; expected one line per MR")
        first_location[mr] = location
        checked.append(prediction)
    return checked


def _check_row(location: str, row: Any) -> Prediction:
    if not isinstance(row, Mapping):
        raise DataError(f"{location}: expected an object with {', '.join(FIELDS)}, found {type(row).__name__}")
    for field in FIELDS:
        if field not in row:
            raise DataError(f"{location}: field {field!r} is missing; a prediction has {', '.join(FIELDS)}")
    if unknown := sorted(set(row) - {*FIELDS, *LOSS_FIELDS}):
        raise DataError(
            f"{location}: unknown field {unknown[0]!r}; a prediction has {', '.join((*FIELDS, *LOSS_FIELDS))}"
        )
    for field in TEXT_FIELDS:
        if not isinstance(row[field], str):
            raise DataError(f"{location}: field {field!r} must be a string, found {row[field]!r}")
    references = row["references"]
    if not isinstance(references, (list, tuple)) or not all(isinstance(text, str) for text in references):
        raise DataError(f"{location}: field 'references' must be a list of strings, found {references!r}")
    return cast(
        Prediction,
        {**{field: row[field] for field in TEXT_FIELDS}, "references": list(references), **_check_loss(location, row)},
    )


def _check_loss(location: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The two fields of a measured loss; none or both are there."""
    given = [field for field in LOSS_FIELDS if field in row]
    if not given:
        return {}
    if len(given) == 1:
        raise DataError(
            f"{location}: field {given[0]!r} without the other; a measured loss has {' and '.join(LOSS_FIELDS)}"
        )
    nll, tokens = (row[field] for field in LOSS_FIELDS)
    if isinstance(nll, bool) or not isinstance(nll, int | float) or not math.isfinite(nll) or nll < 0:
        raise DataError(f"{location}: field 'reference_nll' must be a finite number of at least 0, found {nll!r}")
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise DataError(f"{location}: field 'reference_tokens' must be a whole number of at least 1, found {tokens!r}")
    return {"reference_nll": nll, "reference_tokens": tokens}
