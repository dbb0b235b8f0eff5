"""The WeightLoRA part of the report: its tables, figures and verdicts, as the page and its files show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from analysis.aggregates import aggregates_block
from analysis.authors import Authors, VariantCell, load_authors
from analysis.blocks import Block, Cell, to_markdown
from analysis.budget_figures import memory_against_adapters, score_against_parameters
from analysis.cases import verdict_list
from analysis.drawing import Drawing
from analysis.importance_figures import Variant, importance_weights, rank_growth, variants
from analysis.map_figures import overlap, selected_map
from analysis.measurements import Memory, read_memory
from analysis.published import DIRECTORY
from analysis.records import Experiment
from analysis.searches import Search, read_searches, unequal_searches
from analysis.selection_tables import logs_block, logs_csv, selected_block, selected_csv
from analysis.task_results import TaskStudy
from analysis.task_tables import (
    GROUPS,
    against_logs_block,
    counted_block,
    learned_block,
    parameters_block,
    score_blocks,
    scores_csv,
)
from analysis.weightlora_verdicts import ClaimVerdict, judge_weightlora
from replication.errors import DataError
from replication.fileio import write_text

CONTENTS = (
    ("weightlora-results", "Results"),
    ("weightlora-parameters", "Parameters"),
    ("weightlora-selected", "What was selected"),
    ("weightlora-figures", "Figures"),
    ("weightlora-claims", "Claims"),
    ("weightlora-code", "The authors' code"),
)


@dataclass(frozen=True)
class WeightLora:
    """Everything that is known of the WeightLoRA paper in one profile."""

    profile: str
    study: TaskStudy
    searches: Mapping[str, Search]
    authors: Authors
    memory: Memory | None
    broken: tuple[str, ...]

    @cached_property
    def scores(self) -> list[Block]:
        """Scores by method and task, one table per kind of task and backbone."""
        return [block for group in GROUPS for block in score_blocks(self.study, self.authors, group)]

    @cached_property
    def verdicts(self) -> list[ClaimVerdict]:
        """One verdict per claim."""
        return judge_weightlora(self.profile, self.study, self.authors, self.memory)

    def block(self, name: str) -> list[Block]:
        """Tables by the names that README.md's markers use: those of `GROUPS`, learned, parameters, selected, logs."""
        if name in GROUPS:
            return score_blocks(self.study, self.authors, name)
        makers: dict[str, Callable[[], list[Block]]] = {
            "learned": lambda: [learned_block(self.study, self.authors)],
            "parameters": lambda: [parameters_block(self.study), counted_block(self.authors)],
            "selected": lambda: [selected_block(self.study.experiments)],
            "logs": lambda: [logs_block(self.authors)],
        }
        if name not in makers:
            raise DataError(f"no WeightLoRA table {name!r}; there are {', '.join((*GROUPS, *makers, 'claims'))}")
        return makers[name]()

    def claims(self) -> str:
        """The verdicts as a Markdown list."""
        return verdict_list(self.verdicts)

    def drawings(self) -> list[Drawing]:
        """Every figure for which there is data, and the authors' beside it."""
        found = variants(self.study.experiments, ("weight_lora", "weight_lora_plus"))
        plus = [variant for variant in found if _method(variant) == "weight_lora_plus"]
        drawn = [
            *(importance_weights(variant) for variant in found),
            selected_map(found, self.authors),
            overlap(found, self.authors),
            score_against_parameters(self.study),
            memory_against_adapters(self.memory, self.authors, self.profile),
            rank_growth(plus, {variant.backbone: count for variant in plus if (count := self._lora(variant))}),
        ]
        return [drawing for drawing in drawn if drawing is not None]

    @cached_property
    def tables(self) -> dict[str, Block]:
        """The tables below the scores, by what the page calls them."""
        return {
            "against": against_logs_block(self.study, self.authors),
            "aggregates": aggregates_block(self.study),
            "learned": learned_block(self.study, self.authors),
            "parameters": parameters_block(self.study),
            "counted": counted_block(self.authors),
            "selected": selected_block(self.study.experiments),
            "logs": logs_block(self.authors),
            "variants": _variants_block(self.authors),
        }

    def write_data(self, folder: Path) -> None:
        """weightlora.md, and csv of every metric, of every adapter selected and of every figure of the authors."""
        blocks = [block for block in (*self.scores, *self.tables.values()) if block.rows]
        write_text(folder / "weightlora.md", to_markdown(blocks) + "\n" + self.claims())
        write_text(folder / "weightlora_scores.csv", scores_csv(self.study))
        write_text(folder / "weightlora_selected.csv", selected_csv(self.study.experiments))
        write_text(folder / "weightlora_authors.csv", logs_csv(self.authors))

    def values(self, drawings: Sequence[object]) -> dict[str, object]:
        """What the template shows besides tables."""
        return {
            "contents": CONTENTS,
            "ran": bool(self.study.rows and any(row.status != "missing" for row in self.study.rows)),
            "figures": drawings,
            "rules": self.authors.facts.rules,
            "unreadable": self.authors.facts.unreadable,
            "faults": self.authors.facts.faults,
        }

    def _lora(self, variant: Variant) -> int | None:
        """Adapter parameters of LoRA on the variant's backbone."""
        for row in self.study.rows:
            if row.backbone == variant.backbone and row.method == "lora" and row.counts:
                return row.counts["adapter"]
        return None


def load_weightlora(
    profile: str,
    experiments: Sequence[Experiment],
    searches: str | Path | None,
    measurements: str | Path | None,
    published: str | Path = DIRECTORY,
) -> WeightLora:
    """The section's inputs: `experiments` of the profile (generation tasks are left out), and the profile's folders of
    searches and measurements, which may be absent.
    """
    found, broken = read_searches(searches)
    memory, problems = read_memory(measurements)
    study = TaskStudy.of(experiments, found)
    unequal = unequal_searches(study.experiments, found)
    return WeightLora(profile, study, found, load_authors(published), memory, (*broken, *problems, *unequal))


def _method(variant: Variant) -> str:
    record = variant.experiments[0].record
    return record.method if record else ""


def _variants_block(authors: Authors) -> Block:
    names = list(authors.facts.variants[0].cells)
    rows = tuple(
        (variant.choice, *(_variant_cell(variant.cells[name]) for name in names)) for variant in authors.facts.variants
    )
    headers = ("Choice", *(name.replace("_", " ") for name in names))
    return Block("Versions of the authors' code; each choice is a setting here", headers, rows, key="authors_code")


def _variant_cell(cell: VariantCell) -> Cell:
    return Cell(cell.text, standing=cell.standing)
