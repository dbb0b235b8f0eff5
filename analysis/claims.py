"""The claims of both papers as data: `paper_results/claims.yaml`, each with the comparison that tests it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from analysis.counted import lora_parameters, solo_parameters
from analysis.paper_figures import METRICS, Backbone, Method, NamedFigure, SourcedFile, Standing
from analysis.paper_files import DIRECTORY, Strict, one_of, unknown, validated

# What a claim compares: a metric of the E2E scripts, or one of these.
COMPARED = {
    "primary_metric": "the task's first metric: accuracy, Matthews correlation, F1, ROUGE-L and the like",
    "adapter_parameters": "what a method adds and trains, without a task head",
    "training_loss_rise": "largest rise of the smoothed training loss above its lowest value so far",
    "phase2_peak_memory": "peak memory after the losers are removed",
}
Compared = Annotated[str, one_of("metric", (*METRICS, *COMPARED))]
PaperName = Literal["solo", "weightlora"]


class Comparison(Strict):
    """What tests a claim: the first method against the others, by which metric, and where."""

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


class Claims(Strict):
    """The claims of one paper, and the counts at the papers' shapes."""

    paper: str
    claims: tuple[Claim, ...]
    counting_rule: str
    counted: tuple[CountedShape, ...]


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


def load_all_claims(directory: str | Path = DIRECTORY) -> ClaimsFile:
    """The claims of both papers; DataError names file and field."""
    return validated(ClaimsFile, Path(directory) / "claims.yaml")


def load_claims(directory: str | Path = DIRECTORY) -> Claims:
    """The claims of Solo Connection; DataError names file and field."""
    file = load_all_claims(directory)
    return Claims(
        paper=f"arXiv {file.papers['solo'].arxiv}",
        claims=file.of("solo"),
        counting_rule=file.counting_rule,
        counted=file.counted,
    )
