"""Reading predictions and references of text generation: the official plain-text layout, CSV, TSV, or JSON.

Plain text: predictions one a line (a blank line is an empty prediction); the references of an item one a line, items
separated by a blank line. References without any blank line are one per prediction, as in the official script.

Rows (CSV and TSV with or without a header, JSON lines, a JSON array): an input in "mr" (or "id"), the prediction in
"prediction" (or "output", "text" ...), references in "references" (a list) or one in "ref". Rows of one input are one
item: equal predictions count once, different ones are an error, references unite. Items are matched by input where both
files have it, else by position. Predictions of a run, with decoding.json next to them, have the references of the
task's gold file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from replication.errors import DataError
from replication.metrics.layouts import STDIN, Content, name_of, read
from replication.predictions import full_rows

_ALIASES = dict.fromkeys(("meaning_representation", "source", "src", "input"), "mr")
_INPUTS = ("mr", "id")
_PREDICTIONS = ("prediction", "output", "system_output", "system", "hypothesis", "generated_text", "text")
_REFERENCES = ("ref", "reference", "target", "human_reference")
_HEADERS = {*_ALIASES, "mr", *_PREDICTIONS, *_REFERENCES}
_MR = re.compile(r"\s*[\w ]+\[[^\]]*\]")


@dataclass(frozen=True)
class Items:
    """Texts to score, item by item."""

    predictions: list[str]
    references: list[list[str]]
    inputs: list[str] | None = None
    """The input of each item where a file has it."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Side:
    """One file: a value a row, which is a prediction or a list of references."""

    content: Content
    keys: dict[str, list[str]]
    """"mr" or "id" -> input of each row."""
    predictions: list[str]
    references: list[list[str]]
    complete: bool = False
    """Each list of references is that of its item, not a single one of several."""
    one_block: bool = False

    def __len__(self) -> int:
        return len(self.predictions or self.references)


def read_items(predictions: Path, references: Path | None = None) -> Items:
    """Predictions with their references, from two files or from one that holds both; "-" is standard input.

    DataError names file and line of whatever cannot be used: a missing or empty file, a layout or field that is not
    known, counts that differ, an item without references, an input with two predictions.
    """
    if predictions == references == STDIN:
        raise DataError("standard input holds the predictions or the references, not both; name a file for one")
    given = _predictions(predictions, with_references=references is None)
    if references is None:
        if not given.references:
            raise DataError(f'{name_of(predictions)}: no "references" in it; name their file with --references')
        return _folded(given, next(iter(given.keys.values()), None), given.references, given.complete)
    wanted = _references(references)
    key = next((name for name in _INPUTS if name in given.keys and name in wanted.keys), None)
    if key is not None:
        return _by_input(given, wanted, key)
    return _by_position(given, wanted)


def _by_input(given: _Side, wanted: _Side, key: str) -> Items:
    grouped = _grouped(wanted.keys[key], wanted.references, wanted.complete)
    here, there = given.content.where, wanted.content.where
    for index, name in enumerate(given.keys[key]):
        if name not in grouped:
            raise DataError(
                f"{there}: no references for the meaning representation {name!r} of {given.content.at(index)}"
            )
    if unused := grouped.keys() - set(given.keys[key]):
        first = next(index for index, name in enumerate(wanted.keys[key]) if name in unused)
        raise DataError(
            f"{there}: {len(unused)} of its {len(grouped)} meaning representations are not in {here}; the first is "
            f"{wanted.keys[key][first]!r}, {wanted.content.at(first)}"
        )
    items = _folded(given, given.keys[key], [[]] * len(given), True)
    assert items.inputs is not None
    return replace(items, references=[grouped[name] for name in items.inputs])


def _by_position(given: _Side, wanted: _Side) -> Items:
    """At most one of the files has inputs."""
    if wanted.one_block and len(given) > 1:
        wanted = _one_each(wanted)
    given_inputs = next(iter(given.keys.values()), None)
    wanted_inputs = next(iter(wanted.keys.values()), None)
    if given_inputs is not None and wanted_inputs is not None:
        raise DataError(
            f'{given.content.where} names its inputs by "{next(iter(given.keys))}", {wanted.content.where} by '
            f'"{next(iter(wanted.keys))}"; both need the same field, or one of them none'
        )
    if len(given) == len(wanted):
        return _folded(given, given_inputs or wanted_inputs, wanted.references, wanted.complete)
    if given_inputs is not None:
        items = _folded(given, given_inputs, [[]] * len(given), True)
        if len(items.predictions) == len(wanted):
            return replace(items, references=wanted.references)
    elif wanted_inputs is not None:
        grouped = _grouped(wanted_inputs, wanted.references, wanted.complete)
        if len(given) == len(grouped):
            return Items(given.predictions, list(grouped.values()), list(grouped))
        wanted = replace(
            wanted,
            references=list(grouped.values()),
            content=replace(wanted.content, numbers=_first_numbers(wanted.content.numbers, wanted_inputs)),
        )
    raise _counts(given, wanted)


def _counts(given: _Side, wanted: _Side) -> DataError:
    n_given, n_wanted = len(given), len(wanted)
    alone = given.content.at(n_wanted) if n_given > n_wanted else wanted.content.at(n_given)
    blank = " (a blank line is one)" if given.content.texts else ""
    return DataError(
        f"{given.content.where} has {n_given} predictions{blank}, {wanted.content.where} has references "
        f"for {n_wanted} items; the first without a partner is {alone}"
    )


def _first_numbers(numbers: Sequence[int], inputs: Sequence[str]) -> list[int]:
    first: dict[str, int] = {}
    for number, name in zip(numbers, inputs, strict=True):
        first.setdefault(name, number)
    return list(first.values())


def _one_each(block: _Side) -> _Side:
    texts, first = block.references[0], block.content.numbers[0]
    numbers = list(range(first, first + len(texts)))
    content = replace(block.content, numbers=numbers)
    return replace(block, content=content, references=[[text] for text in texts], one_block=False)


def _folded(given: _Side, inputs: list[str] | None, references: list[list[str]], complete: bool) -> Items:
    """One item an input; DataError names the row that has another prediction than an earlier one of its input."""
    if inputs is None:
        return Items(given.predictions, references)
    first: dict[str, int] = {}
    for index, (name, text) in enumerate(zip(inputs, given.predictions, strict=True)):
        earlier = first.setdefault(name, index)
        if given.predictions[earlier] != text:
            raise DataError(
                f"{given.content.at(index)}: another prediction for the input {name!r} than "
                f"{given.content.at(earlier)}; an input has one prediction, which all its references score"
            )
    notes: tuple[str, ...] = ()
    if len(first) < len(inputs):
        notes = (f"{len(inputs):,} rows of {given.content.where} are {len(first):,} inputs, each scored once",)
    united = list(_grouped(inputs, references, complete).values())
    return Items([given.predictions[index] for index in first.values()], united, list(first), notes)


def _grouped(inputs: Sequence[str], lists: Sequence[list[str]], complete: bool) -> dict[str, list[str]]:
    """References by input. Single ones are all kept, as the official files have them; of complete lists the union."""
    grouped: dict[str, list[str]] = {}
    for name, texts in zip(inputs, lists, strict=True):
        known = grouped.get(name)
        if known is None:
            grouped[name] = list(texts)
        elif not complete:
            known.extend(texts)
        elif known != texts:
            known.extend(text for text in dict.fromkeys(texts) if text not in known)
    return grouped


def _predictions(path: Path, with_references: bool) -> _Side:
    content = _content(path)
    if not content.rows:
        return _Side(content, {}, [text.strip() for text in content.texts], [])
    names = _PREDICTIONS if content.layout.startswith("JSON") else (*_PREDICTIONS, *_REFERENCES)
    texts = content.text_column(content.first_of(names) or "prediction")
    lists: list[list[str]] = []
    complete = any("references" in row for row in content.rows)
    if with_references and complete:
        lists = _lists(content)
    elif with_references and (field := content.first_of(_REFERENCES)) and content.first_of(_PREDICTIONS):
        lists = [[text] for text in content.text_column(field)]
    return _Side(content, _keys(content), texts, lists, complete)


def _references(path: Path) -> _Side:
    content = _content(path)
    if not content.rows:
        return _blocks(content)
    if "references" in content.rows[0]:
        return _Side(content, _keys(content), [], _lists(content), complete=True)
    names = _REFERENCES if content.layout.startswith("JSON") else (*_REFERENCES, "text")
    field = content.first_of(names)
    if field is None:
        raise DataError(f'{content.at(0)}: none of the fields "references", "ref", "reference"')
    if not content.first_of(_INPUTS):
        raise DataError(f'{content.at(0)}: no field "mr", which says which references belong together')
    return _Side(content, _keys(content), [], [[text] for text in content.text_column(field)])


def _content(path: Path) -> Content:
    if path != STDIN and (path.parent / "decoding.json").is_file():
        rows = full_rows(path)
        return Content(str(path), "JSON lines", rows, list(range(1, len(rows) + 1)))
    content = read(path, _HEADERS, bare=("mr", "text"), is_row=_is_pair)
    if content.rows and content.layout in ("CSV", "TSV"):
        rows = [{_ALIASES.get(name, name): cell for name, cell in row.items()} for row in content.rows]
        return replace(content, rows=rows)
    return content


def _is_pair(cells: list[str]) -> bool:
    """Whether these are the cells of a CSV file of inputs and texts."""
    return len(cells) == 2 and bool(_MR.match(cells[0]))


def _keys(content: Content) -> dict[str, list[str]]:
    keys = {}
    for name in _INPUTS:
        if any(name in row for row in content.rows):
            values = content.column(name, lambda value: isinstance(value, str | int), "not text")
            keys[name] = [" ".join(str(value).split()) for value in values]
    return keys


def _lists(content: Content) -> list[list[str]]:
    for index, row in enumerate(content.rows):
        if "references" not in row:
            raise DataError(f'{content.at(index)}: no field "references", which other lines have')
        value = row["references"]
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            raise DataError(f'{content.at(index)}: "references" must be a list of at least one text')
    return [row["references"] for row in content.rows]


def _blocks(content: Content) -> _Side:
    """References of plain text, items separated by one blank line; a JSON array of texts has one a item."""
    if content.layout == "JSON array":
        return _Side(content, {}, [], [[text] for text in content.texts])
    lines = list(content.texts)
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{content.where}: empty; expected one reference per line, a blank line between items")
    blocks: list[list[str]] = [[]]
    begins = [1]
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text:
            blocks[-1].append(text)
        elif blocks[-1]:
            blocks.append([])
            begins.append(number + 1)
        else:
            raise DataError(
                f"{content.where}, line {number}: a blank line with no reference before it; "
                "one blank line separates items, and each item needs a reference"
            )
    return _Side(replace(content, numbers=begins), {}, [], blocks, one_block=len(blocks) == 1)
