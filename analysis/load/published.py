"""Published tables, the claims of both papers, the closed forms of adapter counts, and the tolerances.

Converts a published figure (BLEU 70.4) to the metric scripts' scale (0.704), only here; published
digits are kept, so a figure never gains precision. Sources of the closed forms: Hu et al. 2021 for
LoRA, the first author's development code (harsh306/CLoRA, dev-clora) for Solo Connection.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from analysis.load.paper_files import (
    DIRECTORY,
    METRICS,
    Backbone,
    Cell,
    Fault,
    Figure,
    Method,
    Metric,
    NamedFigure,
    Parameters,
    SourcedFile,
    Standing,
    Stated,
    Strict,
    check_share,
    check_stated,
    one_of,
    repeated,
    unknown,
    validated,
)


def lora_parameters(width: int, blocks: int, rank: int) -> int:
    """LoRA on query and value of every block: two pairs of matrices, rank x width and width x rank."""
    return blocks * 2 * 2 * width * rank


def connections(blocks: int, skip_length: int) -> int:
    """Number of connections: one ends at every block that is a multiple of the skip length and above it."""
    return max(0, blocks // skip_length - 1)


def solo_parameters(width: int, blocks: int, rank: int, skip_length: int) -> int:
    """Dense, shared encoder and decoder with biases; v (width), a (1) and e (rank) per connection."""
    return solo_parameters_of(width, rank, connections(blocks, skip_length))


def solo_parameters_of(width: int, rank: int, count: int, sparsity: Decimal = Decimal(0)) -> int:
    """The same for `count` connections, with a share `sparsity` of the encoder's and decoder's entries masked away."""
    return round(2 * width * rank * (1 - sparsity)) + rank + width + count * (width + 1 + rank)


def reduction(fewer: float, than: float) -> float:
    """By how much `fewer` lies below `than`, as a share: 0.59 for 59 % fewer."""
    return 1 - fewer / than


# What a claim compares: a metric of the E2E scripts, or one of these.
COMPARED = {
    "primary_metric": "the task's first metric: accuracy, Matthews correlation, F1, ROUGE-L and the like",
    "adapter_parameters": "what a method adds and trains, without a task head",
    "training_smoothness": "how smoothly the training loss falls, by the measures of judgement.yaml",
    "phase2_peak_memory": "peak memory after the losers are removed",
}
Compared = Annotated[str, one_of("metric", (*METRICS, *COMPARED))]
PaperName = Literal["solo", "weightlora"]


class Comparison(Strict):
    """The test of a claim: the first method against the others, with metric and setting."""

    methods: tuple[Method, ...] = Field(min_length=1)
    metric: Compared
    where: str


class Claim(Strict):
    """A claim of a paper, what its test needs, and the rule of its verdict; `id` is paper and number, solo-1.

    `scope` is where the paper makes the claim; `figures` are the numbers the sentence states.
    """

    id: str
    paper: PaperName
    number: int
    key: str
    text: str
    scope: str | None = None
    standing: Standing
    source: str
    sources: tuple[str, ...] = Field(min_length=1)
    figures: tuple[NamedFigure, ...] = ()
    needs: str
    rule: str
    comparison: Comparison

    @model_validator(mode="after")
    def _is_called_by_its_number(self) -> Claim:
        if self.id != f"{self.paper}-{self.number}":
            raise ValueError(f"id {self.id!r}: claim {self.number} of {self.paper} is {self.paper}-{self.number}")
        return self


class ClaimedPaper(Strict):
    """A paper whose claims are tested."""

    title: str
    arxiv: str
    venue: str | None = None
    pages: str | None = None
    doi: str | None = None


class CountedShape(Strict):
    """Exact parameter counts at one of the papers' own shapes."""

    backbone: Backbone
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


class ClaimsFile(SourcedFile):
    """claims.yaml: the claims of both papers in one form, and the counts at the papers' shapes."""

    papers: dict[PaperName, ClaimedPaper]
    claims: tuple[Claim, ...]
    counting_rule: str
    counted: tuple[CountedShape, ...]

    @model_validator(mode="after")
    def _consistent(self) -> ClaimsFile:
        for field in ("id", "key"):
            names = [getattr(claim, field) for claim in self.claims]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"claims: {field} {twice} is given twice")
        for claim in self.claims:
            if claim.paper not in self.papers:
                raise ValueError(f"claim {claim.id}: {unknown('paper', claim.paper, self.papers)}")
        return self

    def of(self, paper: PaperName) -> tuple[Claim, ...]:
        """The claims of one paper, in the file's order."""
        return tuple(claim for claim in self.claims if claim.paper == paper)

    def claim(self, name: str) -> Claim:
        """The claim of one id, `weightlora-3`; KeyError lists the ids."""
        found = {claim.id: claim for claim in self.claims}
        if name not in found:
            raise KeyError(unknown("claim", name, found))
        return found[name]


def load_claims(directory: str | Path = DIRECTORY) -> ClaimsFile:
    """The claims of both papers; DataError names file and field."""
    return validated(ClaimsFile, Path(directory) / "claims.yaml")


TABLES = ("solo_connection", "lora_e2e", "lora_e2e_user_reports", "e2e_challenge")
SCALE_UNITS = {100: "points", 1: "score"}


class Row(Strict):
    """One row of a published table."""

    id: str
    label: str
    backbone: Backbone
    method: Method
    note: str | None = None
    parameters: Parameters | None = None
    cells: dict[Metric, Cell]


class Counted(Strict):
    """An adapter count by arithmetic at one of the papers' shapes, and by how much it lies below the published LoRA."""

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
    """One published table; `scale` gives, per metric, what to divide a published figure by.

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
    settings: tuple[Stated, ...] = ()
    counts: tuple[Counted, ...] = ()
    unreadable: tuple[NamedFigure, ...] = ()
    faults: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> PublishedTable:
        if twice := repeated([row.id for row in self.rows]):
            raise ValueError(f"row ids are not unique: {twice}")
        check_stated(self.settings)
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
    def location(self) -> str:
        """The publication and table: `arXiv 2106.09685, Table 3`."""
        arxiv = next((source.arxiv for source in self.sources.values() if source.arxiv), None)
        return f"arXiv {arxiv}, {self.table}" if arxiv else self.table

    def scaled(self, row: Row, metric: str) -> tuple[str, str | None]:
        """Published digits and spread of one cell on the metric scripts' own scale (BLEU 0.704)."""
        return row.cells[metric].rescaled(self.scale[metric])

    def value(self, row: Row, metric: str) -> float | None:
        """One cell as a number on the metric scripts' own scale; None if unreadable."""
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
    """By how much a run may differ from a published cell, and which profiles may be compared at all."""

    schema_version: Literal[1]
    task: str
    title: str
    formula: str
    comparable_profiles: tuple[str, ...]
    never_comparable: dict[str, str]
    metrics: dict[str, Tolerance]
    reasoning: tuple[str, ...]

    def why_not_comparable(self, profile: str) -> str | None:
        """None for a profile that may be compared with a published cell, else the reason why not."""
        if profile in self.comparable_profiles:
            return None
        return self.never_comparable.get(
            profile, "This profile does not use the paper's backbone, corpus and settings."
        )


class MetricExample(SourcedFile):
    """Scores of the official E2E scripts on the example files, and measurements about scoring."""

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
