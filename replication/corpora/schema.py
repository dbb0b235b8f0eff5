"""Meaning representations of the E2E NLG schema: parsing, the recipe's linear form, and the corpus's CSV.

Sources: the slots and the CSV form are those of the E2E release (Novikova et al. 2017, tuetschek/e2e-dataset
v1.0.0); the linear form is the text before `||` in examples/NLG/data/e2e of microsoft/LoRA (Hu et al. 2021).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from replication.errors import DataError
from replication.fileio import listed

# Slot name in the release -> label in the recipe's linear form, in the release's own slot order.
LABELS = {
    "name": "name",
    "eatType": "Type",
    "food": "food",
    "priceRange": "price",
    "customer rating": "customer rating",
    "area": "area",
    "familyFriendly": "family friendly",
    "near": "near",
}
SLOTS = tuple(LABELS)
COLUMNS = ("mr", "ref")

_SLOT_OF_LABEL = {label: slot for slot, label in LABELS.items()}
_SLOT = re.compile(r"\s*([^\[\],]*?)\s*\[([^\[\]]*)\]\s*")


@dataclass(frozen=True)
class MeaningRepresentation:
    """Slots and values in the order given; DataError for an unknown or repeated slot or a bad value."""

    slots: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        if not self.slots:
            raise DataError("a meaning representation needs at least one slot")
        seen: set[str] = set()
        for slot, value in self.slots:
            if slot not in LABELS:
                raise DataError(f"unknown slot {slot!r}; the E2E slots are {', '.join(SLOTS)}")
            if slot in seen:
                raise DataError(f"duplicate slot {slot!r}")
            if not value or value != value.strip() or re.search(r"[\[\]\r\n]", value):
                raise DataError(
                    f"slot {slot!r} has the value {value!r}; a value is not empty, has no brackets or line "
                    "breaks, and neither starts nor ends with a space"
                )
            seen.add(slot)

    def __str__(self) -> str:
        """The release's form, `name[The Mill], eatType[pub]`."""
        return ", ".join(f"{slot}[{value}]" for slot, value in self.slots)

    def get(self, slot: str) -> str | None:
        """Value of `slot`, or None if it is not given."""
        return dict(self.slots).get(slot)


@dataclass(frozen=True)
class Row:
    """A meaning representation and one reference text, both as in the release."""

    mr: str
    reference: str


def parse_mr(text: str) -> MeaningRepresentation:
    """Read `name[The Mill], eatType[pub]`; DataError names the position that cannot be parsed."""
    slots: list[tuple[str, str]] = []
    position = 0
    while True:
        match = _SLOT.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise DataError(
                f"malformed meaning representation {text!r}: expected `slot[value]` joined by commas, "
                f"stopped at character {position + 1}"
            )
        slots.append((match[1], match[2].strip()))
        if match.end() == len(text):
            return MeaningRepresentation(tuple(slots))
        position = match.end() + 1


def linearise(mr: MeaningRepresentation | str) -> str:
    """`name : The Mill | Type : pub | price : £ 20 - 25`: the recipe's context, character by character."""
    if isinstance(mr, str):
        mr = parse_mr(mr)
    return " | ".join(f"{LABELS[slot]} : {_space_prices(value)}" for slot, value in mr.slots)


def parse_linearised(text: str) -> MeaningRepresentation:
    """Inverse of `linearise` for values that hold neither ` | ` nor a price already spaced out."""
    slots = []
    for part in text.split(" | "):
        label, colon, value = part.partition(" : ")
        if not colon:
            raise DataError(f"malformed context {text!r}: {part!r} is not `label : value`")
        if label not in _SLOT_OF_LABEL:
            raise DataError(f"unknown label {label!r} in {text!r}; valid are {', '.join(_SLOT_OF_LABEL)}")
        value = re.sub(r"£ (?=\d)", "£", value)
        slots.append((_SLOT_OF_LABEL[label], re.sub(r"(?<=\d) - (?=\d)", "-", value)))
    return MeaningRepresentation(tuple(slots))


def _space_prices(value: str) -> str:
    # The recipe's text sets the pound sign and the dash of a range apart: £20-25 -> £ 20 - 25.
    return re.sub(r"(?<=\d)-(?=\d)", " - ", re.sub(r"£(?=\d)", "£ ", value))


def read_csv(file: str | Path | bytes, source: str | None = None) -> list[Row]:
    """Rows of a CSV file (or of its bytes) with the columns mr and ref, all checked before any is returned.

    Accepts a byte-order mark, CRLF and quoted line breaks. DataError names `source` (the path unless given),
    the data row (the first under the header is 1) and the line of the file on which that row begins (the
    header is line 1).
    """
    if isinstance(file, bytes):
        data, source = file, source or "CSV data"
    else:
        source = source or str(file)
        try:
            data = Path(file).read_bytes()
        except OSError as error:
            raise DataError(f"{source}: cannot be read ({error.strerror}); check the path") from error
    records = _records(data, source)
    header = next(records, (1, []))[1]
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise DataError(
            f"{source}, line 1: column {' and '.join(missing)} is missing; the header must name "
            f"{' and '.join(COLUMNS)}, found {listed(header) or 'nothing'}"
        )
    if len(set(header)) != len(header):
        raise DataError(f"{source}, line 1: duplicate column name in {listed(header)}")
    rows = [_row(record, header, number, line, source) for number, (line, record) in enumerate(records, start=1)]
    if not rows:
        raise DataError(f"{source}: no rows under the header; fetch the file again")
    return rows


def csv_text(rows: Iterable[Row]) -> str:
    """The release's CSV form of `rows`, quoted where needed, with line feeds."""
    lines = [COLUMNS, *((row.mr, row.reference) for row in rows)]
    return "".join(",".join(map(_quoted, line)) + "\n" for line in lines)


def _quoted(field: str) -> str:
    # Not csv.writer: which characters it quotes differs between Python versions.
    doubled = field.replace('"', '""')
    return f'"{doubled}"' if re.search(r'[",\r\n]', field) else field


def group_references(rows: Iterable[Row]) -> list[tuple[str, list[str]]]:
    """(meaning representation, its references) in order of first appearance."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row.mr, []).append(row.reference)
    return list(groups.items())


def task_rows(splits: dict[str, list[Row]]) -> dict[str, list[dict[str, object]]]:
    """Rows of the form `generation`: a pair for each reference; of "test" an item for each meaning."""
    pairs: dict[str, list[dict[str, object]]] = {
        split: [{"context": linearise(row.mr), "completion": row.reference} for row in rows]
        for split, rows in splits.items()
        if split != "test"
    }
    items = group_references(splits["test"])
    return {**pairs, "test": [{"mr": mr, "context": linearise(mr), "references": texts} for mr, texts in items]}


def _records(data: bytes, source: str) -> Iterator[tuple[int, list[str]]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{source}, line {line}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for record in reader:
            if record:  # csv returns an empty list for an empty line
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{source}, line {line}: not well-formed CSV ({error}); the file may be cut off, fetch it again"
        ) from error


def _row(record: list[str], header: list[str], number: int, line: int, source: str) -> Row:
    where = f"{source}, data row {number} (line {line})"
    if len(record) != len(header):
        raise DataError(f"{where}: {len(record)} columns where the header has {len(header)}; quote the commas")
    fields = dict(zip(header, record, strict=True))
    try:
        parse_mr(fields["mr"])
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if not fields["ref"].strip():
        raise DataError(f"{where}: the reference is empty; add its text or remove the row")
    return Row(fields["mr"], fields["ref"])
