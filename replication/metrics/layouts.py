"""Files that people score, read as rows: JSON lines, a JSON array or object, CSV, TSV, or plain text.

The layout is recognised by the content, and by the name's ending (.json, .jsonl, .csv, .tsv) where it has one. What
fits no layout is refused. A byte-order mark and Windows line ends are read; the path "-" is standard input.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from replication.errors import DataError
from replication.fileio import json_value, listed

STDIN = Path("-")
_JSON = {".jsonl", ".json", ".ndjson"}
_DELIMITED = {".csv": ",", ".tsv": "\t"}
_QUOTED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)


@dataclass(frozen=True)
class Content:
    """One file: rows of fields, or the lines of plain text (`rows` is then empty)."""

    where: str
    """The file as messages name it."""
    layout: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Line of each row or text, from 1; of a JSON array the entry."""
    texts: list[str] = field(default_factory=list)
    value: Any = None
    """The whole of a JSON array or object."""

    def at(self, index: int) -> str:
        """File and line of one row or text."""
        unit = "entry" if self.layout == "JSON array" else "line"
        return f"{self.where}, {unit} {self.numbers[index]}"

    def column(self, name: str, usable: Callable[[Any], bool], valid: str) -> list[Any]:
        """One field of all rows; DataError names the first row that lacks it or holds something else."""
        for index, row in enumerate(self.rows):
            if name not in row:
                raise DataError(f'{self.at(index)}: no field "{name}"; it has {", ".join(sorted(row)) or "none"}')
            if not usable(row[name]):
                raise DataError(f'{self.at(index)}: "{name}" is {type(row[name]).__name__}, {valid}')
        return [row[name] for row in self.rows]

    def text_column(self, name: str) -> list[str]:
        """One field of all rows, a text in each."""
        return self.column(name, lambda value: isinstance(value, str), "not text")

    def first_of(self, names: Sequence[str]) -> str | None:
        """The first of `names` that the first row has."""
        return next((name for name in names if self.rows and name in self.rows[0]), None)


def read(
    path: Path,
    headers: Collection[str],
    *,
    bare: Sequence[str] = (),
    is_row: Callable[[list[str]], bool] = lambda cells: False,
    quoted: bool = True,
) -> Content:
    """The content of one file.

    `headers`: column names in lower case, one of which marks a header line; the columns of a file without one are
    called `bare`, and `is_row` recognises a line of it where the ending does not say CSV. `quoted`: whether quotation
    marks may enclose a cell. DataError names the file, the line and what is expected.
    """
    text, where = read_text(path), name_of(path)
    suffix, start = path.suffix.lower(), text.lstrip()[:1]
    if suffix in _JSON or start in ("{", "["):
        content = _json(where, text)
        if content is not None:
            return content
        if suffix in _JSON or start == "{":
            return _json_lines(where, text)
    lines = text.removesuffix("\n").split("\n")
    delimiter = _delimiter(where, lines, suffix, headers, is_row)
    if delimiter is None:
        return Content(where, "plain text", numbers=list(range(1, len(lines) + 1)), texts=lines)
    return _delimited(where, text, delimiter, headers, bare, quoted)


def name_of(path: Path) -> str:
    """The file as messages name it."""
    return "standard input" if path == STDIN else str(path)


def read_text(path: Path) -> str:
    """A file's text with plain line ends and without a byte-order mark; DataError if it cannot be read or is empty."""
    try:
        data = _standard_input() if path == STDIN else path.read_bytes()
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, expected a file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{name_of(path)}: not UTF-8 text ({error})") from error
    if not text:
        raise DataError(f"{name_of(path)}: empty; expected one text per line")
    return text.replace("\r\n", "\n")


def _standard_input() -> bytes:
    return sys.stdin.buffer.read()


def _json(where: str, text: str) -> Content | None:
    """A file that is one JSON value; None if it is not."""
    try:
        value = json_value(text)
    except ValueError:
        return None
    if isinstance(value, dict):
        return Content(where, "JSON object", [value], [1], value=value)
    if not isinstance(value, list):
        return None
    if not value:
        raise DataError(f"{where}: empty; expected one entry per item")
    numbers = list(range(1, len(value) + 1))
    if all(isinstance(entry, str) for entry in value):
        return Content(where, "JSON array", numbers=numbers, texts=value, value=value)
    for number, entry in enumerate(value, start=1):
        if not isinstance(entry, dict):
            raise DataError(f"{where}, entry {number}: {type(entry).__name__}, expected a JSON object")
    return Content(where, "JSON array", value, numbers, value=value)


def _json_lines(where: str, text: str) -> Content:
    rows, numbers = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json_value(line)
        except ValueError as error:
            raise DataError(f"{where}, line {number}: not valid JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}, line {number}: {type(row).__name__}, expected a JSON object")
        rows.append(row)
        numbers.append(number)
    if not rows:
        raise DataError(f"{where}: empty; expected one JSON object a line")
    return Content(where, "JSON lines", rows, numbers)


def _delimiter(
    where: str, lines: Sequence[str], suffix: str, headers: Collection[str], is_row: Callable[[list[str]], bool]
) -> str | None:
    """What separates the cells of a file; None for plain text."""
    used = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    first = used[0][1] if used else ""
    csv.field_size_limit(sys.maxsize)
    try:
        by_comma = next(csv.reader([first]), [])
    except csv.Error:  # a carriage return within the line
        by_comma = []
    if suffix in _DELIMITED:
        return "\t" if "\t" in first and len(by_comma) < 2 else _DELIMITED[suffix]
    if sum(_name(cell) in headers for cell in by_comma) > 1 or is_row(by_comma):
        return ","
    if not any("\t" in line for _, line in used):
        return None
    if _is_header(first.split("\t"), headers):
        return "\t"
    tabs = [(number, line.count("\t")) for number, line in used]
    odd = next((number for number, count in tabs if count != tabs[0][1]), None)
    if odd is None:
        return "\t"
    raise DataError(
        f"{where}, line {odd}: {dict(tabs)[odd]} tabs, but line {tabs[0][0]} has {tabs[0][1]}; plain text has none, "
        "a TSV file has as many in each line"
    )


def _is_header(cells: Sequence[str], headers: Collection[str]) -> bool:
    return any(_name(cell) in headers for cell in cells)


@lru_cache(maxsize=256)
def _name(cell: str) -> str:
    return cell.strip().strip('"').lower().replace(" ", "_")


def _delimited(
    where: str, text: str, delimiter: str, headers: Collection[str], bare: Sequence[str], quoted: bool
) -> Content:
    layout = "CSV" if delimiter == "," else "TSV"
    records = list(_records(where, text, delimiter, quoted))
    if not records:
        raise DataError(f"{where}: empty; expected a header and one row per item")
    first_line, first = records[0]
    if _is_header(first, headers):
        names, records = [_name(cell) for cell in first], records[1:]
        if not records:
            raise DataError(f"{where}: only a header; expected one row per item")
    elif bare and len(first) == len(bare):
        names = list(bare)
    else:
        wanted = f"a header with one of {', '.join(sorted(headers))}"
        raise DataError(
            f"{where}, line {first_line}: a {layout} line of {len(first)} columns that is no header; expected "
            + (f"the columns {', '.join(bare)}, or {wanted}" if bare else wanted)
        )
    for line, cells in records:
        if len(cells) != len(names):
            raise DataError(
                f"{where}, line {line}: {len(cells)} columns where {len(names)} belong ({listed(names)}); "
                f"quote cells that contain {'a comma' if delimiter == ',' else 'a tab'}"
            )
    rows = [dict(zip(names, cells, strict=True)) for _, cells in records]
    return Content(where, layout, rows, [line for line, _ in records])


def _records(where: str, text: str, delimiter: str, quoted: bool) -> list[tuple[int, list[str]]]:
    """The lines' cells with the number of the line where each record begins; blank lines are passed over."""
    lines = text.split("\n")
    if delimiter == "\t" and not (quoted and _all_quoted(lines)):
        return [(number, line.split("\t")) for number, line in enumerate(lines, start=1) if line.strip()]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records, begins = [], 1
    try:
        for cells in reader:
            if cells and any(cell.strip() for cell in cells):
                records.append((begins, cells))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{where}, line {begins}: {error}; cells with quotation marks are quoted, as in RFC 4180"
        ) from None
    return records


def _all_quoted(lines: Sequence[str]) -> bool:
    """Whether cells that begin with a quotation mark are quoted as in CSV; else the marks are text."""
    cells = [cell for line in lines for cell in line.split("\t") if cell.startswith('"')]
    return bool(cells) and all(_QUOTED.fullmatch(cell) for cell in cells)
