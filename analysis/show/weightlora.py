"""The WeightLoRA paper in one profile: its tables by name, its figures and its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from analysis.judge.claims import JudgedBench, verdict_list
from analysis.judge.study import Study
from analysis.load.authors import Authors, VariantCell
from analysis.show.aggregates import aggregates_block
from analysis.show.authors_logs import against_logs_block, differences_block, logs_block, logs_csv
from analysis.show.authors_settings import rates_block, settings_block
from analysis.show.blocks import Block, Cell, to_markdown
from analysis.show.drawing import Drawing
from analysis.show.figures import memory_against_adapters, scores_of_all_tasks
from analysis.show.parameter_tables import counted_block, parameters_block
from analysis.show.selection_figures import importance_weights, overlap, selected_map, variants
from analysis.show.selection_tables import selected_block, selected_csv
from analysis.show.tables import GROUPS, learned_block, score_blocks
from replication.errors import DataError
from replication.fileio import write_text


@dataclass(frozen=True)
class WeightLora:
    """The tables and figures of the WeightLoRA paper in one profile."""

    bench: JudgedBench

    @property
    def study(self) -> Study:
        """The tasks of the paper: every form but generation."""
        return self.bench.study.tasks

    @property
    def authors(self) -> Authors:
        """The authors' files."""
        return self.bench.published.authors

    @cached_property
    def scores(self) -> list[Block]:
        """Scores by method and task, one table per kind of task and backbone."""
        return [block for group in GROUPS for block in score_blocks(self.study, self.authors, group)]

    def block(self, name: str) -> list[Block]:
        """Tables by the names that README.md's markers use: those of `GROUPS`, learned, parameters, selected, logs."""
        if name in GROUPS:
            return score_blocks(self.study, self.authors, name)
        makers: dict[str, Callable[[], list[Block]]] = {
            "learned": lambda: [learned_block(self.study)],
            "parameters": lambda: [parameters_block(self.study), counted_block(self.authors)],
            "selected": lambda: [selected_block(self.study.experiments)],
            "logs": lambda: [logs_block(self.authors)],
        }
        if name not in makers:
            raise DataError(f"no WeightLoRA table {name!r}; valid names: {', '.join((*GROUPS, *makers, 'claims'))}")
        return makers[name]()

    def drawings(self) -> list[Drawing]:
        """Every figure for which there is data, with the authors' figures."""
        found = variants(self.study.experiments, ("weight_lora", "weight_lora_plus"))
        drawn = [
            scores_of_all_tasks(self.bench.study),
            *(importance_weights(variant) for variant in found),
            selected_map(found, self.authors),
            overlap(found, self.authors),
            memory_against_adapters(self.bench.memory, self.bench.profile),
        ]
        return [drawing for drawing in drawn if drawing is not None]

    @cached_property
    def tables(self) -> dict[str, Block]:
        """The tables below the scores, by what the page calls them."""
        return {
            "against": against_logs_block(self.study, self.authors),
            "aggregates": aggregates_block(self.study),
            "learned": learned_block(self.study),
            "parameters": parameters_block(self.study),
            "counted": counted_block(self.authors),
            "selected": selected_block(self.study.experiments),
            "logs": logs_block(self.authors),
            "differences": differences_block(self.study, self.authors),
            "rates": rates_block(self.authors),
            "settings": settings_block(self.authors),
            "variants": _variants_block(self.authors),
        }

    def write_data(self, folder: Path) -> None:
        """weightlora.md, and csv of every adapter selected and of every figure of the authors."""
        blocks = [block for block in (*self.scores, *self.tables.values()) if block.rows]
        claims = verdict_list(self.bench.of_paper("weightlora"))
        write_text(folder / "weightlora.md", to_markdown(blocks) + "\n" + claims)
        write_text(folder / "weightlora_selected.csv", selected_csv(self.study.experiments))
        write_text(folder / "weightlora_authors.csv", logs_csv(self.authors))


def _variants_block(authors: Authors) -> Block:
    names = list(authors.facts.variants[0].cells)
    rows = tuple(
        (variant.choice, *(_variant_cell(variant.cells[name]) for name in names)) for variant in authors.facts.variants
    )
    headers = ("Choice", *(name.replace("_", " ") for name in names))
    return Block("Versions of the authors' code; each choice is a setting here", headers, rows, key="authors_code")


def _variant_cell(cell: VariantCell) -> Cell:
    return Cell(cell.text, standing=cell.standing)
