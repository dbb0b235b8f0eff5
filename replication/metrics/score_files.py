"""Reading predictions and references for scoring: the official plain-text layout, or JSON lines.

Plain text: predictions one a line (a blank line is an empty prediction); the references of an item one a
line, items separated by a blank line. References without any blank line are one per prediction, as in the
official script.

JSON: predictions carry "prediction" and may carry "mr" and "references"; references carry
"references" (a list), or "ref" or "reference" (one text, grouped by "mr" in order of first appearance). A
file counts as JSON if its name ends in .jsonl or .json or its first line that is not blank starts with "{".
Predictions of a run, with decoding.json next to them, have the references of the task's gold file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.errors import DataError
from replication.fileio import read_jsonl
from replication.predictions import full_rows

_JSON_NAMES = {".jsonl", ".json"}


@dataclass(frozen=True)
class Items:
    """Texts to score, item by item."""

    predictions: list[str]
    references: list[list[str]]


@dataclass(frozen=True)
class _Predictions:
    texts: list[str]
    lines: list[int]
    references: list[list[str]] | None
    mrs: list[str] | None


@dataclass(frozen=True)
class _References:
    texts: list[list[str]]
    lines: list[int]  # where each item begins
    mrs: list[str] | None
    one_block: bool = False


def read_items(predictions: Path, references: Path | None = None) -> Items:
    """Predictions with their references, from two files or from one JSON file that holds both.

    Items are matched by "mr" if both files have it, else by position. DataError names file and line of
    whatever cannot be used: a missing or empty file, a missing field, counts that differ, an item without
    references.
    """
    given = _read_predictions(predictions, with_references=references is None)
    if references is None:
        if given.references is None:
            raise DataError(f'{predictions}: no "references" in it; name their file with --references')
        return Items(given.texts, given.references)
    wanted = _read_references(references)
    if given.mrs is not None and wanted.mrs is not None:
        return Items(given.texts, _match(given.mrs, wanted, predictions, references))
    if wanted.one_block and len(given.texts) > 1:
        wanted = _one_each(wanted)
    n_given, n_wanted = len(given.texts), len(wanted.texts)
    if n_given != n_wanted:
        path, line = (predictions, given.lines[n_wanted]) if n_given > n_wanted else (references, wanted.lines[n_given])
        raise DataError(
            f"{predictions} has {n_given} predictions (a blank line is one), {references} has references "
            f"for {n_wanted} items; the first without a partner is {path}, line {line}"
        )
    return Items(given.texts, wanted.texts)


def _one_each(block: _References) -> _References:
    texts = block.texts[0]
    first = block.lines[0]
    return _References([[text] for text in texts], list(range(first, first + len(texts))), None)


def _match(mrs: Sequence[str], wanted: _References, predictions: Path, references: Path) -> list[list[str]]:
    assert wanted.mrs is not None
    by_mr = dict(zip(wanted.mrs, wanted.texts, strict=True))
    for mr in mrs:
        if mr not in by_mr:
            raise DataError(f"{references}: no references for the meaning representation {mr!r} of {predictions}")
    unused = len(by_mr.keys() - set(mrs))
    if unused:
        raise DataError(f"{references}: {unused} of its {len(by_mr)} meaning representations are not in {predictions}")
    return [by_mr[mr] for mr in mrs]


def _read_predictions(path: Path, with_references: bool) -> _Predictions:
    if not _is_json(path):
        lines = _lines(path)
        return _Predictions([line.strip() for line in lines], list(range(1, len(lines) + 1)), None, None)
    rows = _json_rows(path)
    texts = [_text(path, line, row, "prediction") for line, row in rows]
    references = None
    if with_references and any("references" in row for _, row in rows):
        references = [_reference_list(path, line, row) for line, row in rows]
    return _Predictions(texts, [line for line, _ in rows], references, _mrs(path, rows))


def _read_references(path: Path) -> _References:
    return _read_json_references(path) if _is_json(path) else _read_text_references(path)


def _read_text_references(path: Path) -> _References:
    blocks: list[list[str]] = [[]]
    begins = [1]
    lines = _lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{path}: empty; expected one reference per line, a blank line between items")
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text:
            blocks[-1].append(text)
        elif blocks[-1]:
            blocks.append([])
            begins.append(number + 1)
        else:
            raise DataError(
                f"{path}, line {number}: a blank line with no reference before it; "
                "one blank line separates items, and each item needs a reference"
            )
    return _References(blocks, begins, None, one_block=len(blocks) == 1)


def _read_json_references(path: Path) -> _References:
    rows = _json_rows(path)
    first_line, first = rows[0]
    if "references" in first:
        mrs = _mrs(path, rows)
        first_lines: dict[str, int] = {}
        for (line, _), mr in zip(rows, mrs or [], strict=False):
            earlier = first_lines.setdefault(mr, line)
            if earlier != line:
                raise DataError(f"{path}, line {line}: the references of {mr!r} are already on line {earlier}")
        texts = [_reference_list(path, line, row) for line, row in rows]
        return _References(texts, [line for line, _ in rows], mrs)
    field = next((name for name in ("ref", "reference") if name in first), None)
    if field is None:
        raise DataError(f'{path}, line {first_line}: none of the fields "references", "ref", "reference"')
    groups: dict[str, list[str]] = {}
    begins: list[int] = []
    for line, row in rows:
        mr = _text(path, line, row, "mr")
        if mr not in groups:
            groups[mr] = []
            begins.append(line)
        groups[mr].append(_text(path, line, row, field))
    return _References(list(groups.values()), begins, list(groups))


def _mrs(path: Path, rows: Sequence[tuple[int, dict[str, Any]]]) -> list[str] | None:
    if not any("mr" in row for _, row in rows):
        return None
    return [_text(path, line, row, "mr") for line, row in rows]


def _text(path: Path, line: int, row: dict[str, Any], field: str) -> str:
    if field not in row:
        raise DataError(f'{path}, line {line}: no field "{field}"; it has {", ".join(sorted(row)) or "none"}')
    value = row[field]
    if not isinstance(value, str):
        raise DataError(f'{path}, line {line}: "{field}" is {type(value).__name__}, not text')
    return value


def _reference_list(path: Path, line: int, row: dict[str, Any]) -> list[str]:
    if "references" not in row:
        raise DataError(f'{path}, line {line}: no field "references", which other lines have')
    value = row["references"]
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        raise DataError(f'{path}, line {line}: "references" must be a list of at least one text')
    return value


def _is_json(path: Path) -> bool:
    if path.suffix.lower() in _JSON_NAMES:
        return True
    return next((line for line in _lines(path) if line.strip()), "").lstrip().startswith("{")


def _json_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Objects of a JSON-lines file with their line numbers."""
    rows = full_rows(path) if (path.parent / "decoding.json").is_file() else read_jsonl(path)
    numbers = [number for number, line in enumerate(path.read_text("utf-8").split("\n"), 1) if line.strip()]
    if not rows:
        raise DataError(f"{path}: empty; expected one JSON object a line")
    for number, row in zip(numbers, rows, strict=True):
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: {type(row).__name__}, expected a JSON object")
    return list(zip(numbers, rows, strict=True))


def _lines(path: Path) -> list[str]:
    """Lines of a text file; DataError if it cannot be read or has none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, expected a file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error})") from error
    if not text:
        raise DataError(f"{path}: empty; expected one text per line")
    return text.removesuffix("\n").split("\n")
