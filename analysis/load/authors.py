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
    Stated,
    Strict,
    Task,
    check_share,
    check_stated,
    one_of,
    repeated,
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
    """Learning rates by task as one source states them, in one of its files.

    Sources that disagree are rows with the same backbone and method. `used` names the tasks for which this project
    follows this source, and `because` says why.
    """

    backbone: Backbone
    method: Method
    file: str
    used: tuple[Task, ...] = ()
    because: str | None = None
    note: str | None = None
    cells: dict[Task, Figure] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_one_source(self) -> Rates:
        named = sorted({name for figure in self.cells.values() for name in figure.sources})
        if len(named) != 1:
            raise ValueError(f"cells: sources {', '.join(named)}: give each source a row of its own")
        for task in self.used:
            if task not in self.cells or self.cells[task].value is None:
                filled = [name for name, figure in self.cells.items() if figure.value is not None]
                raise ValueError(f"used: {unknown('task', task, filled)}")
        if bool(self.used) != (self.because is not None):
            raise ValueError("used and because go together: say why this source is followed")
        return self

    @property
    def source(self) -> str:
        """The one source: a name under `sources`."""
        return next(iter(self.cells.values())).sources[0]

    @property
    def version(self) -> str:
        """The state of the authors' code, by its source."""
        return self.source


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
    settings: tuple[Stated, ...]
    learning_rates: tuple[Rates, ...]
    variants: tuple[Variant, ...]
    faults: tuple[Fault, ...]

    @model_validator(mode="after")
    def _follows_one_source(self) -> WeightLoraFile:
        check_stated(self.settings)
        for backbone, method, task in self.rated:
            rows = self.rates(backbone, method, task)
            name = f"learning_rates: {task} of {method} on {backbone}"
            places = [f"{row.source} {row.file}" for row in rows]
            if twice := repeated(places):
                raise ValueError(f"{name}: {twice[0]} states it twice; keep one row a source and file")
            used = [place for place, row in zip(places, rows, strict=True) if task in row.used]
            if len(used) > 1:
                raise ValueError(f"{name}: used from {' and '.join(used)}; name it under `used` of one row")
            if len(rows) > 1 and not used:
                raise ValueError(
                    f"{name}: stated by {', '.join(places)}; name {task} under `used` of the row that this project "
                    "follows"
                )
        return self

    @property
    def rated(self) -> list[tuple[str, str, str]]:
        """Every backbone, method and task with a stated learning rate, once, in the file's order."""
        return list(
            dict.fromkeys((row.backbone, row.method, task) for row in self.learning_rates for task in row.cells)
        )

    def rates(self, backbone: str, method: str, task: str) -> list[Rates]:
        """The rows that state one learning rate, the one that this project follows first."""
        found = [row for row in self.learning_rates if (row.backbone, row.method) == (backbone, method)]
        return sorted((row for row in found if task in row.cells), key=lambda row: task not in row.used)

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
