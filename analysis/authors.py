"""What the WeightLoRA authors published, logged and measured, as data: read from `paper_results/weightlora*.json`.

Every figure has a value, a unit, a standing and its source. None is a printed cell of the paper, whose tables could
not be read: they are the authors' own logs and measurement files.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from analysis.published import DIRECTORY, Source, Strict, decimal_of, validated

Standing = Literal["paper", "authors_code", "third_party", "unverified", "unreadable"]
# What a metric is called in the authors' logs and in metrics.json; MNLI was evaluated on its mismatched split alone.
LOG_METRICS = {"matthews_correlation": "matthews_correlation", "accuracy": "accuracy", "f1": "f1", "pearson": "pearson",
               "spearman": "spearmanr", "accuracy_mismatched": "accuracy"}  # fmt: skip
PROJECTION_ORDER = ("query", "key", "value")


class Figure(Strict):
    """One figure with its unit, standing and source; `value` is None where `text` is no single number."""

    value: Decimal | None
    text: str
    unit: str
    standing: Standing
    sources: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _agrees_with_text(self) -> Figure:
        if self.value is not None and decimal_of(self.text) != self.value:
            raise ValueError(f"value {self.value} is not what text {self.text!r} says")
        if self.standing == "unreadable" and self.value is not None:
            raise ValueError("an unreadable figure has no value")
        return self

    @property
    def number(self) -> float:
        """The value as a float; ValueError where there is none."""
        if self.value is None:
            raise ValueError(f"{self.text!r} is no number")
        return float(self.value)


class Selected(Strict):
    """The adapters a logged run kept, in the log's order, as projection#block."""

    value: tuple[str, ...]
    unit: str
    standing: Standing
    sources: tuple[str, ...] = Field(min_length=1)


class LogRow(Strict):
    """One logged run: one task at one K."""

    id: str
    task: str
    split: str
    keep: int
    comparable: bool
    why_not: str | None
    selected: Selected
    cells: dict[str, Figure]

    @model_validator(mode="after")
    def _keeps_k(self) -> LogRow:
        kept = self.selected.value
        if len(kept) != self.keep or len(set(kept)) != self.keep:
            raise ValueError(f"row {self.id}: keep is {self.keep}, selected names {len(set(kept))} adapters")
        if list(kept) != sorted(kept, key=_log_order):
            raise ValueError(f"row {self.id}: selected is not in the log's order, by block, then query, key, value")
        if self.comparable == (self.why_not is not None):
            raise ValueError(f"row {self.id}: why_not is given exactly where the row is not comparable")
        return self

    def score(self, metric: str) -> Figure | None:
        """The figure of one of metrics.json's metrics, where the log has it on the same split."""
        if self.task == "mnli" and metric == "accuracy":
            return None
        return self.cells.get(LOG_METRICS.get(metric, ""))


class LoggedAdapters(Strict):
    """The adapters that could be kept."""

    blocks: int
    projections: tuple[str, ...]
    rank: int
    alpha: int


class Logs(Strict):
    """The authors' run logs on GLUE."""

    schema_version: Literal[1]
    id: str
    title: str
    backbone: str
    adapters: LoggedAdapters
    setup: str
    corpus: str
    sources: dict[str, Source]
    notes: tuple[str, ...]
    rows: tuple[LogRow, ...]

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Task names in the file's order."""
        return tuple(dict.fromkeys(row.task for row in self.rows))

    @cached_property
    def keeps(self) -> tuple[int, ...]:
        """Every K, ascending."""
        return tuple(sorted({row.keep for row in self.rows}))

    def row(self, task: str, keep: int) -> LogRow | None:
        """The run of one task at one K."""
        return next((row for row in self.rows if (row.task, row.keep) == (task, keep)), None)


class MemorySeries(Strict):
    """Peak memory by number of adapters, at one rank."""

    rank: int
    cells: dict[int, Figure]


class MemoryCurves(Strict):
    """The authors' measured peak memory; `added_by_their_figure` is not in the values."""

    schema_version: Literal[1]
    id: str
    title: str
    setup: str
    sources: dict[str, Source]
    added_by_their_figure: Figure
    notes: tuple[str, ...]
    series: tuple[MemorySeries, ...]


class InnerProducts(Strict):
    """Inner products of gradient and update: kind (raw, normalised) -> projection#block -> figure."""

    schema_version: Literal[1]
    id: str
    title: str
    setup: str
    sources: dict[str, Source]
    notes: tuple[str, ...]
    cells: dict[Literal["raw", "normalised"], dict[str, Figure]]


class Claim(Strict):
    """A claim of the paper, what its test needs, and the rule of its verdict."""

    number: int
    key: str
    text: str
    standing: Standing
    source: str
    needs: str
    rule: str


class Rules(Strict):
    """How verdicts are drawn, fixed before the runs; the numbers are this project's own choices, not the paper's."""

    learned: str
    intervals: str
    overall: str
    margin: float = Field(gt=0, lt=1)
    fewer_share: float = Field(gt=0, lt=1)
    case_share: float = Field(gt=0.5, le=1)
    memory_share: float = Field(gt=0, lt=1)


class Counted(Strict):
    """Parameter counts by arithmetic: LoRA on every q, k, v projection, and on K of them."""

    backbone: str
    width: int
    adapters: int
    rank: int
    per_adapter: Figure
    all: Figure
    head: Figure
    kept: dict[int, Figure]

    @model_validator(mode="after")
    def _follows_the_closed_forms(self) -> Counted:
        one = 2 * self.width * self.rank
        expected = {"per_adapter": one, "all": self.adapters * one, "head": self.width * (self.width + 1 + 2) + 2}
        for name, count in expected.items():
            if getattr(self, name).value != count:
                raise ValueError(f"{name} is {getattr(self, name).text}, the closed form gives {count}")
        for keep, figure in self.kept.items():
            if figure.value != keep * one:
                raise ValueError(f"kept.{keep} is {figure.text}, the closed form gives {keep * one}")
        return self


class NamedFigure(Figure):
    """A setting of the authors' code, or something that could not be read."""

    name: str


class Rates(Strict):
    """Learning rates of the authors' scripts, by task."""

    backbone: str
    method: str
    version: str
    cells: dict[str, Figure]


class VariantCell(Strict):
    """What one version of the authors' code does."""

    text: str
    standing: Standing
    sources: tuple[str, ...] = Field(min_length=1)


class Variant(Strict):
    """One choice that differs between versions of the authors' code."""

    choice: str
    cells: dict[str, VariantCell]


class Fault(Strict):
    """Something seen in the authors' code that is documented and tested here, not copied."""

    number: int
    text: str
    standing: Standing


class WeightLoraFacts(Strict):
    """weightlora.json: claims, rules of verdicts, counts, settings, variants and faults."""

    schema_version: Literal[1]
    id: str
    paper: str
    title: str
    sources: dict[str, Source]
    comparable_profiles: tuple[str, ...]
    never_comparable: dict[str, str]
    claims_not_tested_in: dict[str, str]
    rules: Rules
    claims: tuple[Claim, ...]
    unreadable: tuple[NamedFigure, ...]
    counted: Counted
    settings: tuple[NamedFigure, ...]
    learning_rates: tuple[Rates, ...]
    variants: tuple[Variant, ...]
    faults: tuple[Fault, ...]

    def why_not_comparable(self, profile: str) -> str | None:
        """None for a profile whose runs may stand beside the authors' figures, else the reason why not."""
        if profile in self.comparable_profiles:
            return None
        return self.never_comparable.get(profile, "This profile does not use the paper's backbones and settings.")


class Authors(Strict):
    """All four files."""

    facts: WeightLoraFacts
    logs: Logs
    memory: MemoryCurves
    products: InnerProducts

    @property
    def sources(self) -> list[Source]:
        """Everything quoted, once each."""
        parts: list[dict[str, Source]] = [part.sources for part in (self.facts, self.logs, self.memory, self.products)]
        return list({source.citation: source for part in parts for source in part.values()}.values())


def load_authors(directory: str | Path = DIRECTORY) -> Authors:
    """The four files; DataError names file and field."""
    folder = Path(directory)
    return Authors(
        facts=validated(WeightLoraFacts, folder / "weightlora.json"),
        logs=validated(Logs, folder / "weightlora_logs.json"),
        memory=validated(MemoryCurves, folder / "weightlora_memory.json"),
        products=validated(InnerProducts, folder / "weightlora_inner_products.json"),
    )


def _log_order(name: str) -> tuple[int, int]:
    projection, _, block = name.partition("#")
    return int(block), PROJECTION_ORDER.index(projection)
