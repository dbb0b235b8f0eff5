"""Published figures, tolerances and claims, read from `paper_results/` and checked.

The one place where a printed figure (BLEU 70.4) becomes one on the metric scripts' own scale (0.704); printed
digits are kept as they are, so a figure never gains precision here.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from analysis.counted import lora_parameters, solo_parameters
from replication.errors import DataError

DIRECTORY = Path(__file__).resolve().parents[1] / "paper_results"
METRICS = ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")
TABLES = ("solo_connection", "lora_e2e", "lora_e2e_user_reports")

_Model = TypeVar("_Model", bound=BaseModel)
Standing = Literal["checked", "read", "quoted", "unverified", "reported", "unreadable"]


class Strict(BaseModel):
    """A part of a file: unknown fields are refused, printed digits are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=False)


class Source(Strict):
    """Where a figure was printed."""

    citation: str
    url: str
    arxiv: str | None = None


class Cell(Strict):
    """One printed figure on its source's scale; `value` is None exactly when a digit is unreadable."""

    value: Decimal | None
    text: str
    spread: Decimal | None = None
    spread_text: str | None = None
    standing: Standing
    sources: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _agrees_with_text(self) -> Cell:
        if (self.value is None) != (self.standing == "unreadable"):
            raise ValueError("value is null exactly when standing is unreadable")
        if self.value is not None and decimal_of(self.text) != self.value:
            raise ValueError(f"value {self.value} is not what text {self.text!r} says")
        if (self.spread is None) != (self.spread_text is None):
            raise ValueError("spread and spread_text go together")
        if self.spread_text is not None and decimal_of(self.spread_text) != self.spread:
            raise ValueError(f"spread {self.spread} is not what spread_text {self.spread_text!r} says")
        return self

    def rescaled(self, scale: int) -> tuple[str, str | None]:
        """The printed digits over `scale` (a power of ten), and the spread; an unreadable digit stays `?`."""
        value = _shift(self.text, scale)
        return value, None if self.spread_text is None else _shift(self.spread_text, scale)


def printed_count(text: str) -> int:
    """The number behind a printed parameter count: "0.35M" -> 350,000; ValueError for any other form."""
    unit = {"K": 1_000, "M": 1_000_000, "B": 1_000_000_000}.get(text[-1:])
    if unit is None:
        raise ValueError(f"{text!r} is not a count such as 0.35M")
    return int(decimal_of(text[:-1]) * unit)


class Parameters(Strict):
    """A printed parameter count such as 0.35M."""

    value: int
    text: str
    standing: Standing
    sources: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _agrees_with_text(self) -> Parameters:
        if printed_count(self.text) != self.value:
            raise ValueError(f"value {self.value} is not what text {self.text!r} says")
        return self


class Row(Strict):
    """One row of a printed table."""

    id: str
    label: str
    backbone: str
    method: str
    note: str | None = None
    parameters: Parameters | None = None
    cells: dict[str, Cell]


class PublishedTable(Strict):
    """One printed table; `scale` gives, per metric, what to divide a printed figure by."""

    schema_version: Literal[1]
    id: str
    title: str
    table: str
    task: str
    corpus: str
    scale: dict[str, Literal[1, 100]]
    sources: dict[str, Source]
    gaps: str | None = None
    rows: tuple[Row, ...]

    @model_validator(mode="after")
    def _consistent(self) -> PublishedTable:
        names = [row.id for row in self.rows]
        if len(set(names)) != len(names):
            raise ValueError(f"row ids are not unique: {sorted(n for n in set(names) if names.count(n) > 1)}")
        for row in self.rows:
            if set(row.cells) != set(self.scale):
                raise ValueError(f"row {row.id}: cells {sorted(row.cells)} but scale names {sorted(self.scale)}")
            given: list[Cell | Parameters] = [*row.cells.values()]
            if row.parameters is not None:
                given.append(row.parameters)
            for item in given:
                unknown = set(item.sources) - set(self.sources)
                if unknown:
                    raise ValueError(f"row {row.id}: sources {sorted(unknown)} are not among {sorted(self.sources)}")
        return self

    @property
    def place(self) -> str:
        """Where the table was printed, in a few words: `arXiv 2106.09685, Table 3`."""
        arxiv = next((source.arxiv for source in self.sources.values() if source.arxiv), None)
        return f"arXiv {arxiv}, {self.table}" if arxiv else self.table

    def scaled(self, row: Row, metric: str) -> tuple[str, str | None]:
        """Printed digits and spread of one cell on the metric scripts' own scale (BLEU 0.704)."""
        return row.cells[metric].rescaled(self.scale[metric])

    def value(self, row: Row, metric: str) -> float | None:
        """One cell as a number on the metric scripts' own scale; None where unreadable."""
        value = row.cells[metric].value
        return None if value is None else float(value / self.scale[metric])


class Tolerance(Strict):
    """Half widths on the metric scripts' own scale."""

    half_width: float = Field(gt=0)
    item_half_width: float = Field(gt=0)
    seed_standard_deviation: float = Field(ge=0)

    @model_validator(mode="after")
    def _is_the_sum(self) -> Tolerance:
        expected = (self.item_half_width**2 + (2 * self.seed_standard_deviation) ** 2) ** 0.5
        unit = 10.0 ** -_places(self.half_width)
        if abs(expected - self.half_width) > 0.5 * unit + 1e-12:
            raise ValueError(f"half_width {self.half_width} is not sqrt(item^2 + (2 seed)^2) = {expected:.4f}")
        return self


class Tolerances(Strict):
    """By how much a run may differ from a printed cell, and which profiles may be compared at all."""

    schema_version: Literal[1]
    task: str
    title: str
    formula: str
    comparable_profiles: tuple[str, ...]
    never_comparable: dict[str, str]
    metrics: dict[str, Tolerance]
    reasoning: tuple[str, ...]

    def why_not_comparable(self, profile: str) -> str | None:
        """None for a profile that may be compared with a printed cell, else the reason why not."""
        if profile in self.comparable_profiles:
            return None
        return self.never_comparable.get(
            profile, "This profile does not use the paper's backbone, corpus and settings."
        )


class Claim(Strict):
    """A claim of the paper, what its test needs, and the rule of its verdict."""

    number: int
    key: str
    text: str
    standing: Standing
    source: str
    needs: str
    rule: str


class CountedShape(Strict):
    """Exact parameter counts at one of the papers' own shapes."""

    backbone: str
    width: int
    blocks: int
    full: int
    lora_rank: int
    lora: int
    lora_printed: str
    solo_rank: int
    skip_length: int
    solo: int
    solo_printed: str | None

    @model_validator(mode="after")
    def _follows_the_closed_forms(self) -> CountedShape:
        expected = {
            "lora": lora_parameters(self.width, self.blocks, self.lora_rank),
            "solo": solo_parameters(self.width, self.blocks, self.solo_rank, self.skip_length),
        }
        for name, count in expected.items():
            if getattr(self, name) != count:
                raise ValueError(f"{self.backbone}: {name} is {getattr(self, name)}, the closed form gives {count}")
        return self


class Claims(Strict):
    """All claims, and the counts at the papers' shapes."""

    schema_version: Literal[1]
    paper: str
    claims: tuple[Claim, ...]
    counting_rule: str
    counted: tuple[CountedShape, ...]


def read_exact_json(path: str | Path) -> Any:
    """Parse JSON, keeping printed digits (Decimal); DataError names a missing or malformed file."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_float=Decimal, object_pairs_hook=_unique_keys)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ValueError as error:  # malformed JSON, a repeated key, or bytes that are not UTF-8
        raise DataError(f"{path}: {error}") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key given twice, which would silently drop a figure."""
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"key {key!r} is given twice")
        value[key] = item
    return value


def load_table(name: str, directory: str | Path = DIRECTORY) -> PublishedTable:
    """One of `TABLES`; DataError names file and field."""
    return validated(PublishedTable, Path(directory) / f"{name}.json")


def load_tables(directory: str | Path = DIRECTORY) -> list[PublishedTable]:
    """Every table of `TABLES`, in that order."""
    return [load_table(name, directory) for name in TABLES]


def load_tolerances(directory: str | Path = DIRECTORY) -> Tolerances:
    """The tolerances file; DataError names file and field."""
    return validated(Tolerances, Path(directory) / "tolerances.json")


def load_claims(directory: str | Path = DIRECTORY) -> Claims:
    """The claims file; DataError names file and field."""
    return validated(Claims, Path(directory) / "claims.json")


def validated(model: type[_Model], path: Path) -> _Model:
    """A file of `paper_results/` as `model`; DataError names file and field."""
    try:
        return model.model_validate(read_exact_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "top level"
        raise DataError(f"{path}, {place}: {first['msg']}") from error


def decimal_of(text: str) -> Decimal:
    """The number that printed digits say; ValueError for anything else."""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number") from None


def _places(value: float) -> int:
    exponent = Decimal(str(value)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _shift(text: str, scale: int) -> str:
    """Move the decimal point of printed digits left: ("70.4", 100) -> "0.704"; a `?` keeps its place."""
    places = {1: 0, 10: 1, 100: 2, 1000: 3}[scale]
    unknown = "?" in text
    shifted = Decimal(text.replace("?", "0")).scaleb(-places)
    digits = f"{shifted:f}"
    return digits[:-1] + "?" if unknown else digits
