"""Figures that the WeightLoRA authors published, logged and measured, from `paper_results/weightlora*.yaml`.

Every figure has a value, a unit, a standing and its source. None is a published cell of the paper, whose tables could
not be read: they are the authors' own logs and measurement files."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from analysis.load.paper_files import (
    DIRECTORY,
    Backbone,
    Fault,
    Figure,
    Method,
    NamedFigure,
    Source,
    SourcedFile,
    Standing,
    Strict,
    Task,
    check_share,
    one_of,
    unknown,
    validated,
)
from analysis.load.published import Claim, load_claims

# What a metric is called in the authors' logs and in scores.json; MNLI was evaluated only on its mismatched split.
LOG_METRICS = {"matthews_correlation": "matthews_correlation", "accuracy": "accuracy", "f1": "f1", "pearson": "pearson",
               "spearman": "spearmanr", "accuracy_mismatched": "accuracy"}  # fmt: skip
# Every name of a logged figure, and those that each run has.
LOGGED = ("accuracy", "combined_score", "f1", "loss", "matthews_correlation", "pearson", "peak_memory", "samples",
          "spearmanr", "train_loss")  # fmt: skip
ALWAYS_LOGGED = ("loss", "samples", "train_loss", "peak_memory")
PROJECTION_ORDER = ("query", "key", "value")
VERSIONS = ("code_2025_02", "code_2025_02_second", "code_2025_08", "code_2025_11")
Logged = Annotated[str, one_of("metric", LOGGED)]
Version = Annotated[str, one_of("version", VERSIONS)]


class Selected(Strict):
    """The adapters a logged run kept, in the log's order, as projection#block."""

    value: tuple[str, ...]
    unit: str
    standing: Standing
    sources: tuple[str, ...] = Field(min_length=1)


class LogRow(Strict):
    """One logged run: one task at one K."""

    id: str
    task: Task
    split: str
    keep: int
    comparable: bool
    why_not: str | None
    selected: Selected
    cells: dict[Logged, Figure]

    @model_validator(mode="after")
    def _keeps_k(self) -> LogRow:
        kept = self.selected.value
        if missing := [name for name in ALWAYS_LOGGED if name not in self.cells]:
            raise ValueError(f"row {self.id}: cells: {', '.join(missing)} is missing")
        if len(kept) != self.keep or len(set(kept)) != self.keep:
            raise ValueError(f"row {self.id}: keep is {self.keep}, selected names {len(set(kept))} adapters")
        if list(kept) != sorted(kept, key=_log_order):
            raise ValueError(f"row {self.id}: selected is not in the log's order, by block, then query, key, value")
        if self.comparable == (self.why_not is not None):
            raise ValueError(f"row {self.id}: why_not is given exactly where the row is not comparable")
        return self

    def score(self, metric: str) -> Figure | None:
        """The figure of one of scores.json's metrics, where the log has it on the same split."""
        if self.task == "mnli" and metric == "accuracy":
            return None
        return self.cells.get(LOG_METRICS.get(metric, ""))


class LoggedAdapters(Strict):
    """The adapters that could be kept."""

    blocks: int
    projections: tuple[str, ...]
    rank: int
    alpha: int


class Logs(SourcedFile):
    """The authors' run logs on GLUE."""

    id: str
    title: str
    backbone: Backbone
    adapters: LoggedAdapters
    setup: str
    corpus: str
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

    @model_validator(mode="after")
    def _is_in_gb(self) -> MemorySeries:
        for keep, figure in self.cells.items():
            if figure.unit != "GB" or figure.value is None:
                raise ValueError(
                    f"rank {self.rank}, cells.{keep}: must be a number in GB, not {figure.text} {figure.unit}"
                )
        return self


class MemoryCurves(SourcedFile):
    """The authors' measured peak memory; `added_by_their_figure` is not in the values."""

    id: str
    title: str
    setup: str
    added_by_their_figure: Figure
    notes: tuple[str, ...]
    series: tuple[MemorySeries, ...]


class InnerProducts(SourcedFile):
    """Inner products of gradient and update: kind (raw, normalised) -> projection#block -> figure."""

    id: str
    title: str
    setup: str
    notes: tuple[str, ...]
    cells: dict[Literal["raw", "normalised"], dict[str, Figure]]

    @model_validator(mode="after")
    def _names_every_projection(self) -> InnerProducts:
        names = [f"{projection}#{block}" for block in range(12) for projection in PROJECTION_ORDER]
        for kind, cells in self.cells.items():
            for name in cells:
                if name not in names:
                    raise ValueError(f"cells.{kind}: {unknown('projection', name, names)}")
            if missing := [name for name in names if name not in cells]:
                raise ValueError(f"cells.{kind}: {', '.join(missing)} is missing")
        return self


class Counted(Strict):
    """Parameter counts by arithmetic: LoRA on every q, k, v projection, and on K of them.

    `fewer`: by how many per cent K adapters lie below all of them; `fewer_with_head`: the same with the head.
    """

    backbone: Backbone
    width: int
    adapters: int
    rank: int
    per_adapter: Figure
    all: Figure
    head: Figure
    kept: dict[int, Figure]
    fewer: dict[int, Figure]
    fewer_with_head: dict[int, Figure]

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
        for keep, figure in self.fewer.items():
            check_share(figure, keep * one, expected["all"])
        for keep, figure in self.fewer_with_head.items():
            check_share(figure, keep * one + expected["head"], expected["all"] + expected["head"])
        return self


class Rates(Strict):
    """Learning rates of the authors' scripts, by task."""

    backbone: Backbone
    method: Method
    version: Literal["", "early", "later"]
    cells: dict[Task, Figure]


class VariantCell(Strict):
    """Settings of one version of the authors' code."""

    text: str
    standing: Standing
    sources: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_readable_or_says_so(self) -> VariantCell:
        if (self.text == "?") != (self.standing == "unreadable"):
            raise ValueError(f"text {self.text!r} with standing {self.standing}: `?` is used exactly for unreadable")
        return self


class Variant(Strict):
    """One choice that differs between versions of the authors' code."""

    choice: str
    cells: dict[Version, VariantCell]


class WeightLoraFile(SourcedFile):
    """weightlora.yaml: counts, settings, variants and faults."""

    id: str
    paper: str
    title: str
    comparable_profiles: tuple[str, ...]
    never_comparable: dict[str, str]
    unreadable: tuple[NamedFigure, ...]
    counted: Counted
    settings: tuple[NamedFigure, ...]
    learning_rates: tuple[Rates, ...]
    variants: tuple[Variant, ...]
    faults: tuple[Fault, ...]

    def why_not_comparable(self, profile: str) -> str | None:
        """None for a profile whose runs may be compared with the authors' figures, else the reason why not."""
        if profile in self.comparable_profiles:
            return None
        return self.never_comparable.get(profile, "This profile does not use the paper's backbones and settings.")


class WeightLoraFacts(WeightLoraFile):
    """weightlora.yaml with the paper's claims, which are in claims.yaml."""

    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _sources_are_described(self) -> WeightLoraFacts:
        return self  # already checked in both files, each with its own sources


class Authors(Strict):
    """All four files."""

    facts: WeightLoraFacts
    logs: Logs
    memory: MemoryCurves
    products: InnerProducts

    @property
    def sources(self) -> list[Source]:
        """Every quoted source, once."""
        parts: list[dict[str, Source]] = [part.sources for part in (self.facts, self.logs, self.memory, self.products)]
        return list({source.citation: source for part in parts for source in part.values()}.values())


def load_authors(directory: str | Path = DIRECTORY) -> Authors:
    """The four files, and the claims; DataError names file and field."""
    folder = Path(directory)
    file, claims = validated(WeightLoraFile, folder / "weightlora.yaml"), load_claims(folder).of("weightlora")
    return Authors(
        facts=WeightLoraFacts(**dict(file), claims=claims),
        logs=validated(Logs, folder / "weightlora_logs.yaml"),
        memory=validated(MemoryCurves, folder / "weightlora_memory.yaml"),
        products=validated(InnerProducts, folder / "weightlora_inner_products.yaml"),
    )


def _log_order(name: str) -> tuple[int, int]:
    projection, _, block = name.partition("#")
    return int(block), PROJECTION_ORDER.index(projection)
