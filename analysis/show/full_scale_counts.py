"""Published parameter counts compared with counts of the real architectures: measurements/full_scale/parameters.json.

A difference gets a cause only as strong as the arithmetic allows: `exact`, `rounding`, `explained` (one other thing
that may have been counted fits the published figures of this method on every model that has one, at least two),
else `unexplained` with the candidates that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from analysis.judge.number_format import format_count, listed, percent
from analysis.load.authors import load_authors
from analysis.load.names import backbone_name
from analysis.load.paper_files import DIRECTORY, Strict, decimal_of, first_fault
from analysis.load.published import load_table, reduction
from analysis.show.blocks import Block
from replication.errors import DataError
from replication.fileio import read_json

PARAMETERS = Path(__file__).resolve().parents[2] / "measurements" / "full_scale" / "parameters.json"
PUBLISHED_TABLES = ("solo_connection", "lora_e2e")
_UNITS = {"K": 1_000, "M": 1_000_000, "B": 1_000_000_000}
HEADERS = ("Published in", "Row", "Model", "Published", "Standing", "Counted", "Published minus counted", "Cause")
SHARE_HEADERS = ("Statement", "Counted as", "Share", "Verdict")


class Candidate(Strict):
    """Another thing that may have been counted."""

    about: str
    count: int


class Cell(Strict):
    """One published figure's count; None if the method is not implemented."""

    id: str
    backbone: str
    method: str
    how: Literal["counted", "counted, fitted", "not counted"]
    settings: dict[str, Any]
    count: int | None
    candidates: tuple[Candidate, ...]
    remark: str


class GridRow(Strict):
    """Solo Connection (r=120), LoRA (r=4, query and value) and the whole model, at one skip length."""

    backbone: str
    skip_length: int
    solo: int
    lora: int
    full: int


class Parameters(Strict):
    """The file."""

    schema_version: Literal[1]
    made_by: str
    about: str
    cells: tuple[Cell, ...] = Field(min_length=1)
    solo_grid: tuple[GridRow, ...] = Field(min_length=1)

    def count(self, cell: str) -> int:
        """The count of one cell; DataError if it is missing."""
        found = next((item.count for item in self.cells if item.id == cell), None)
        if found is None:
            raise DataError(f"parameters.json: no count of {cell}; run: {self.made_by}")
        return found


@dataclass(frozen=True)
class PublishedCount:
    """One published figure: where, in which row, its digits and standing."""

    location: str
    label: str
    text: str
    standing: str


@dataclass(frozen=True)
class Verdict:
    """`kind`: exact, rounding, explained, unexplained, or not counted; `words` for the table."""

    kind: str
    words: str


def read_parameters(path: str | Path = PARAMETERS) -> Parameters:
    """The counts; DataError names file and field."""
    try:
        return Parameters.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}, {first_fault(error)}") from error


def published_figures(directory: str | Path = DIRECTORY) -> dict[str, PublishedCount]:
    """Every published parameter count by the id of its cell: table/row."""
    found = {}
    for name in PUBLISHED_TABLES:
        table = load_table(name, directory)
        for row in table.rows:
            if row.parameters is not None:
                text, standing = row.parameters.text, row.parameters.standing
                found[f"{name}/{row.id}"] = PublishedCount(table.location, row.label, text, standing)
    facts = load_authors(directory).facts
    counted, location = facts.counted, f"arXiv {facts.paper.removeprefix('arXiv ')}, by arithmetic"
    rows = {
        "per_adapter": ("LoRA r=8, one adapter", counted.per_adapter),
        "all": ("LoRA r=8, all 36 adapters", counted.all),
        "head": ("classification head, 2 classes", counted.head),
        **{f"kept/{keep}": (f"WeightLoRA r=8, K={keep}", figure) for keep, figure in counted.kept.items()},
    }
    for key, (label, figure) in rows.items():
        found[f"weightlora/{key}"] = PublishedCount(location, label, figure.text, figure.standing)
    return found


def rounds_to(count: int, text: str) -> bool:
    """Whether `count`, formatted with the digits of `text` ("0.35M", "442368"), is `text`."""
    unit = _UNITS.get(text[-1:], 1)
    digits = decimal_of(text[:-1] if unit > 1 else text)
    half = Decimal(1).scaleb(int(digits.as_tuple().exponent)) / 2
    return abs(Decimal(count) / unit - digits) <= half


def published_value(text: str) -> int:
    """The number of published digits: "0.35M" is 350,000."""
    unit = _UNITS.get(text[-1:], 1)
    return int(decimal_of(text[:-1] if unit > 1 else text) * unit)


def verdict(cell: Cell, parameters: Parameters, figures: dict[str, PublishedCount]) -> Verdict:
    """Why the published figure differs from the count, as far as arithmetic can tell."""
    text = figures[cell.id].text
    fitting = [item for item in cell.candidates if rounds_to(item.count, text)]
    if cell.count is not None and rounds_to(cell.count, text):
        if cell.how == "counted":
            kind = "exact" if cell.count == published_value(text) else "rounding"
            return Verdict(kind, kind)
        settings = ", ".join(f"{name} {value}" for name, value in cell.settings.items())
        return Verdict("explained", f"explained: counted with {settings}; fitted, one free number")
    prefix = "not counted: not implemented here. " if cell.how == "not counted" else ""
    for item in fitting:
        models = _models_it_fits(item.about, cell.method, parameters, figures)
        if len(models) > 1:
            where = listed([backbone_name(name) for name in models])
            words = f"{prefix}explained: {item.about}, which fits on {where}; inferred, not stated in any source"
            return Verdict("not counted" if prefix else "explained", words)
    if fitting:
        words = f"{prefix}unexplained, candidates: {'; '.join(f'{i.about} ({i.count:,})' for i in fitting)}"
    else:
        words = f"{prefix}unexplained, no candidate fits"
    return Verdict("not counted" if prefix else "unexplained", words)


def parameters_block(path: str | Path = PARAMETERS, directory: str | Path = DIRECTORY) -> Block:
    """The table: every published count, our count, and the cause of the difference."""
    parameters, figures = read_parameters(path), published_figures(directory)
    _check_complete(parameters, figures, path)
    rows = []
    for cell in parameters.cells:
        figure = figures[cell.id]
        difference = None if cell.count is None else published_value(figure.text) - cell.count
        rows.append(
            (
                figure.location,
                figure.label,
                backbone_name(cell.backbone),
                figure.text,
                figure.standing.replace("_", " "),
                "not counted" if cell.count is None else format_count(cell.count),
                "" if difference is None else f"{difference:+,}".replace("-", "−").replace("+0", "0"),
                verdict(cell, parameters, figures).words,
            )
        )
    remarks = dict.fromkeys(f"{figures[c.id].label}: {c.remark}" for c in parameters.cells if c.remark)
    return Block(
        "Published parameter counts and counts of the real architectures, built without weights",
        HEADERS,
        tuple(rows),
        (*remarks, f"{parameters.about} Made by: {parameters.made_by}."),
    )


def shares_block(path: str | Path = PARAMETERS, directory: str | Path = DIRECTORY) -> Block:
    """The percentages of both papers, and on which model and setting each can be true."""
    parameters, figures = read_parameters(path), published_figures(directory)
    kept, every, head = (parameters.count(f"weightlora/{name}") for name in ("kept/5", "all", "head"))
    adapters_only, whole = reduction(kept, every), reduction(kept + head, every + head)
    fewer_than_full = {row.backbone: reduction(row.solo, row.full) for row in reversed(parameters.solo_grid)}
    least = min(reduction(row.solo, row.full) for row in parameters.solo_grid)
    exact, rounded = _fifty_nine(parameters, figures)
    rows = (
        (
            "Solo Connection trains 59 % fewer parameters than LoRA",
            "LoRA (r=4, query and value) by exact count",
            *exact,
        ),
        ("Solo Connection (r=120) trains 59 % fewer than LoRA", "LoRA as published", *rounded),
        (
            "Solo Connection trains more than 99 % fewer than full fine-tuning",
            f"r=120, every skip length, {listed([backbone_name(name) for name in reversed(fewer_than_full)])}",
            f"{percent(least, 2)} or more",
            "true at every shape" if least > 0.99 else "not true at every shape",
        ),
        (
            "WeightLoRA K=5 trains 86 % fewer than LoRA",
            "adapters only",
            percent(adapters_only),
            _rounds(adapters_only, 86),
        ),
        ("The same falls by 37 %", "with the head that both train", percent(whole), _rounds(whole, 37)),
    )
    return Block("Percentages of parameters, counted", SHARE_HEADERS, rows, (f"Made by: {parameters.made_by}.",))


def _fifty_nine(parameters: Parameters, figures: dict[str, PublishedCount]) -> tuple[tuple[str, str], tuple[str, str]]:
    """Share and verdict of the 59 %: against LoRA's exact count, and against LoRA as published."""
    exact = {(row.backbone, row.skip_length): reduction(row.solo, row.lora) for row in parameters.solo_grid}
    loras = {
        cell.backbone: published_value(figures[cell.id].text)
        for cell in parameters.cells
        if cell.method == "lora" and cell.id.startswith("lora_e2e/")
    }
    rounded = {
        (row.backbone, row.skip_length): reduction(row.solo, loras[row.backbone])
        for row in parameters.solo_grid
        if row.backbone in loras
    }
    return _which(exact), _which(rounded)


def _which(shares: dict[tuple[str, int], float]) -> tuple[str, str]:
    true = [key for key, share in shares.items() if round(100 * share) == 59]
    most: dict[str, tuple[float, int]] = {}
    for (backbone, length), share in shares.items():
        if share > most.get(backbone, (-9.0, 0))[0]:
            most[backbone] = (share, length)
    text = "; ".join(f"{backbone_name(b)} at most {percent(s)} (k={k})" for b, (s, k) in most.items() if s > 0)
    if not true:
        return text, "true of no model and skip length"
    where = listed([f"{backbone_name(b)} k={k} ({percent(shares[b, k])})" for b, k in true])
    return text, f"true only of {where}"


def _rounds(share: float, published: int) -> str:
    return "rounding" if round(100 * share) == published else f"not true: {percent(share)}"


def _models_it_fits(about: str, method: str, parameters: Parameters, figures: dict[str, PublishedCount]) -> list[str]:
    """Models on which the candidate fits, if it fits every published figure of this method; else none."""
    models: dict[str, bool] = {}
    for cell in parameters.cells:
        if cell.method == method and not cell.id.startswith("weightlora/"):
            fits = any(i.about == about and rounds_to(i.count, figures[cell.id].text) for i in cell.candidates)
            models[cell.backbone] = models.get(cell.backbone, True) and fits
    return list(models) if models and all(models.values()) else []


def _check_complete(parameters: Parameters, figures: dict[str, PublishedCount], path: str | Path) -> None:
    counted: Sequence[str] = [cell.id for cell in parameters.cells]
    if missing := sorted(set(figures) ^ set(counted)):
        raise DataError(
            f"{path}: cells and published figures differ in {', '.join(missing)}; run: {parameters.made_by}"
        )
