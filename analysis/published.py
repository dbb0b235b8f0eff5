"""Published tables and tolerances, read from `paper_results/` and checked.

The one place where a printed figure (BLEU 70.4) becomes one on the metric scripts' own scale (0.704); printed
digits are kept as they are, so a figure never gains precision here.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from analysis.claims import Claim, Claims, CountedShape, load_all_claims, load_claims
from analysis.counted import lora_parameters, solo_parameters_of
from analysis.paper_figures import (
    METRICS,
    Backbone,
    Cell,
    Fault,
    Figure,
    Method,
    Metric,
    NamedFigure,
    Parameters,
    Source,
    SourcedFile,
    Standing,
    check_share,
    printed_count,
)
from analysis.paper_files import DIRECTORY, Strict, decimal_of, read_exact_json, validated

__all__ = [
    "DIRECTORY", "METRICS", "TABLES", "Cell", "Claim", "Claims", "Counted", "CountedShape", "Figure", "MetricExample",
    "Parameters", "PublishedTable", "Row", "Source", "Standing", "Strict", "Tolerance", "Tolerances", "decimal_of",
    "load_all_claims", "load_claims", "load_metric_example", "load_table", "load_tables", "load_tolerances",
    "printed_count", "read_exact_json", "validated",
]  # fmt: skip
TABLES = ("solo_connection", "lora_e2e", "lora_e2e_user_reports", "e2e_challenge")
SCALE_UNITS = {100: "points", 1: "score"}


class Row(Strict):
    """One row of a printed table."""

    id: str
    label: str
    backbone: Backbone
    method: Method
    note: str | None = None
    parameters: Parameters | None = None
    cells: dict[Metric, Cell]


class Counted(Strict):
    """An adapter count by arithmetic at one of the papers' shapes, and by how much it lies below the printed LoRA."""

    method: Literal["solo_connection", "lora"]
    backbone: Backbone
    width: int
    blocks: int
    rank: int
    connections: int | None = None
    sparsity: Decimal | None = None
    adapter: Figure
    below: Parameters | None = None
    fewer: Figure | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _follows_the_closed_form(self) -> Counted:
        if (self.method == "solo_connection") != (self.connections is not None and self.sparsity is not None):
            raise ValueError("connections and sparsity are given exactly for solo_connection")
        if (self.below is None) != (self.fewer is None):
            raise ValueError("below and fewer go together")
        expected = (
            solo_parameters_of(self.width, self.rank, self.connections, self.sparsity)
            if self.connections is not None and self.sparsity is not None
            else lora_parameters(self.width, self.blocks, self.rank)
        )
        if self.adapter.value != expected:
            raise ValueError(f"adapter is {self.adapter.text}, the closed form gives {expected}")
        if self.below is not None and self.below.value is not None and self.fewer is not None:
            check_share(self.fewer, expected, self.below.value)
        return self


class PublishedTable(SourcedFile):
    """One printed table; `scale` gives, per metric, what to divide a printed figure by.

    `settings`, `counts`, `unreadable` and `faults` are what else is known from the same sources.
    """

    id: str
    title: str
    table: str
    task: str
    corpus: str
    scale: dict[Metric, Literal[1, 100]]
    gaps: str | None = None
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...]
    settings: tuple[NamedFigure, ...] = ()
    counts: tuple[Counted, ...] = ()
    unreadable: tuple[NamedFigure, ...] = ()
    faults: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> PublishedTable:
        names = [row.id for row in self.rows]
        if len(set(names)) != len(names):
            raise ValueError(f"row ids are not unique: {sorted(n for n in set(names) if names.count(n) > 1)}")
        for row in self.rows:
            if set(row.cells) != set(self.scale):
                raise ValueError(f"row {row.id}: cells {sorted(row.cells)} but scale names {sorted(self.scale)}")
            for metric, cell in row.cells.items():
                if cell.unit != SCALE_UNITS[self.scale[metric]]:
                    raise ValueError(
                        f"row {row.id}, {metric}: unit {cell.unit!r}, but scale {self.scale[metric]} means "
                        f"{SCALE_UNITS[self.scale[metric]]!r}"
                    )
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


class MetricExample(SourcedFile):
    """What the official E2E scripts give on the example files, and what was measured about scoring."""

    id: str
    title: str
    example: dict[Metric, Cell]
    facts: tuple[NamedFigure, ...]
    notes: tuple[str, ...]

    @model_validator(mode="after")
    def _has_every_metric(self) -> MetricExample:
        if missing := [metric for metric in METRICS if metric not in self.example]:
            raise ValueError(f"example: {', '.join(missing)} is missing")
        return self


def load_table(name: str, directory: str | Path = DIRECTORY) -> PublishedTable:
    """One of `TABLES`; DataError names file and field."""
    return validated(PublishedTable, Path(directory) / f"{name}.yaml")


def load_tables(directory: str | Path = DIRECTORY) -> list[PublishedTable]:
    """Every table of `TABLES`, in that order."""
    return [load_table(name, directory) for name in TABLES]


def load_tolerances(directory: str | Path = DIRECTORY) -> Tolerances:
    """The tolerances file; DataError names file and field."""
    return validated(Tolerances, Path(directory) / "tolerances.json")


def load_metric_example(directory: str | Path = DIRECTORY) -> MetricExample:
    """The scores of the metric scripts' example; DataError names file and field."""
    return validated(MetricExample, Path(directory) / "e2e_metrics.yaml")


def _places(value: float) -> int:
    exponent = Decimal(str(value)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
