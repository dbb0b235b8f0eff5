"""Build the report of one profile: `python -m analysis.show.report --profile quick`.

The same inputs give the same bytes in index.html, pages/, tables/, figures/ and plots/. Timings of this machine go
only to cost.html and cost.csv. Everything is written to a temporary folder and moved together.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.judge.claims import JudgedBench, load_bench
from analysis.judge.published_vs_measured import (
    CellVerdict,
    LoraDifference,
    judge_cells,
    lora_differences,
    tolerance_warnings,
)
from analysis.judge.quick_checks import quick_checks
from analysis.load.paper_files import DIRECTORY
from analysis.load.published import PaperName
from analysis.load.runs import Experiment, Plan, load_profile
from analysis.show import run_tables, texts
from analysis.show.authors_logs import halved
from analysis.show.blocks import Block, to_csv, to_latex, to_markdown
from analysis.show.claim_figures import design_sections, detectable, draw_judged, write_judged_plots
from analysis.show.claim_tables import (
    PAPERS,
    ClaimRow,
    Fold,
    claim_rows,
    claims_block,
    comparisons_block,
    counts_line,
    decisive_line,
    fold_untested,
    legend,
    sensitivity_block,
)
from analysis.show.comparison import comparison
from analysis.show.drawing import Drawing, print_all
from analysis.show.figures import draw_all, scores_at_a_glance
from analysis.show.forest import forest, published_against_measured
from analysis.show.overview import solo_overview, tasks_overview
from analysis.show.plots import write_plots
from analysis.show.published import cells_block, differences_from_lora, published_csv
from analysis.show.render import render
from analysis.show.run_tables import collect_costs, corpora_block, cost_block, cost_csv, page_command, record_paths
from analysis.show.sections import Section, further_sections
from analysis.show.site import pages, table_sources
from analysis.show.tables import results_block, scores_csv
from analysis.show.texts import Notice
from analysis.show.weightlora import WeightLora
from replication.errors import DataError, ReplicationError
from replication.fileio import PARTIAL, write_text


@contextmanager
def replaced_parts(folder: str | Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder next to `folder`; its `parts` are moved into place only if the block succeeds.

    Each part is a file or a folder directly inside; whatever else `folder` holds stays. Where a rename fails half way,
    what was moved is put back.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=PARTIAL))
    fresh, old = aside / "fresh", aside / "old"
    fresh.mkdir()
    old.mkdir()
    try:
        yield fresh
        folder.mkdir(exist_ok=True)
        _swap(folder, fresh, old, [part for part in parts if (fresh / part).exists()])
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(folder: Path, fresh: Path, old: Path, parts: Sequence[str]) -> None:
    moved: list[str] = []
    try:
        for part in parts:
            moved.append(part)
            if (folder / part).exists():
                (folder / part).rename(old / part)
            (fresh / part).rename(folder / part)
    except BaseException:
        for part in reversed(moved):
            if (old / part).exists():
                if (folder / part).exists():
                    (folder / part).rename(fresh / part)
                (old / part).rename(folder / part)
        raise


TITLE = "Solo Connection and WeightLoRA, replicated"
PARTS = ("pages", "tables", "figures", "plots", "cost.html", "cost.csv", "index.html")


def build_report(
    *,
    profile: str,
    runs: str | Path,
    output: str | Path,
    experiments: Sequence[str] | Plan | None = None,
    deviations: Sequence[str] = (),
    published: str | Path = DIRECTORY,
    searches: str | Path | None = None,
    measurements: str | Path | None = None,
    sections: Sequence[Section] | None = None,
    processes: int = 1,
) -> Path:
    """Read `runs` (one profile's folder), write the report under `output`, return the path of index.html.

    `experiments` names the rows and their order, and one without runs appears as missing; as a mapping to `Planned` it
    also says where such a row belongs. Without it every folder under `runs` is a row. An experiment that is incomplete
    or broken is shown with the reason. `searches` and `measurements` are the profile's folders of learning-rate
    searches and memory measurements; without them the page states that nothing was searched or measured. `sections` are
    pages of their own; by default what the design can detect and those of `sections.FURTHER`. `processes` draw figures.
    DataError only for a folder of another profile or broken published figures, and then `output` is unchanged.
    """
    runs, output = Path(runs), Path(output)
    folders = (runs, searches, measurements)
    for folder in folders:
        if folder is not None and Path(folder).name != profile:
            raise DataError(
                f"{folder}: holds profile {Path(folder).name!r}, not {profile!r}; pass the folder <...>/{profile}"
            )
    loaded = load_profile(runs, experiments)
    found = _Found(loaded, load_bench(profile, loaded, searches, measurements, published))
    blocks = {name: replace(block, command=page_command(profile)) for name, block in _blocks(found).items()}
    designs = detectable(found.bench) if sections is None else []
    further = further_sections(profile) if sections is None else list(sections)
    added = [*design_sections(designs, profile), *further]
    drawings = _drawings(found)
    every = [*drawings.all, *(drawing for section in added for drawing in section.drawings)]
    print_all(every, processes)
    warnings = [
        Notice(*(_portable(part, folders, profile) for part in warning))
        for warning in texts.warnings(
            loaded, found.bench.study.generation.rows, found.bench.broken, tolerance_warnings(loaded, published)
        )
    ]
    every_block = [*blocks.values(), *(block for section in added for block in section.named_blocks)]
    values = _values(found, blocks, drawings, warnings, deviations)
    values["table_sources"], values["record_groups"] = table_sources(every_block)
    html = pages(values, added, page_command(profile))
    with replaced_parts(output, PARTS) as aside:
        _write_tables(aside / "tables", every_block)
        write_text(aside / "tables" / "scores.csv", scores_csv(found.bench.study))
        write_text(aside / "tables" / "published.csv", published_csv(found.bench.published.tables))
        found.weightlora.write_data(aside / "tables")
        (aside / "figures").mkdir()
        for drawing in every:
            drawing.write(aside / "figures")
        write_plots(aside, found.experiments, found.bench.study)
        write_judged_plots(aside / "plots", designs, found.bench)
        _write_costs(aside, profile, found.experiments)
        for name, text in html.items():
            write_text(aside / name, text)
    if runs.parent.name == "runs" and Path(published) == DIRECTORY:
        comparison(profile, runs.parent.parent, found.bench.study.replicates)  # what `replicate compare` will read
    return output / "index.html"


@dataclass(frozen=True)
class _Found:
    """Everything the page is made from."""

    experiments: list[Experiment]
    bench: JudgedBench

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.bench.profile

    @cached_property
    def weightlora(self) -> WeightLora:
        """The WeightLoRA paper."""
        return WeightLora(self.bench)

    @cached_property
    def claims(self) -> dict[PaperName, list[ClaimRow]]:
        """The verdicts by paper."""
        seeds_of = {experiment.name: experiment.seeds for experiment in self.experiments}
        return {paper: claim_rows(self.bench.of_paper(paper), self.profile, seeds_of) for paper in PAPERS}

    @cached_property
    def cells(self) -> list[CellVerdict]:
        """The verdict of every published cell."""
        return judge_cells(self.bench.study, self.bench.published)

    @cached_property
    def from_lora(self) -> list[LoraDifference]:
        """Published and measured differences from LoRA."""
        return lora_differences(self.bench.study, self.bench.published, self.cells)


@dataclass(frozen=True)
class _Drawings:
    """The figures of the first page by name, and those of the two papers' pages."""

    first: dict[str, Drawing | None]
    solo: list[Drawing]
    weightlora: list[Drawing]

    @property
    def all(self) -> list[Drawing]:
        """Every figure that there is."""
        return [drawing for drawing in (*self.first.values(), *self.solo, *self.weightlora) if drawing is not None]


def _drawings(found: _Found) -> _Drawings:
    bench, study = found.bench, found.bench.study
    halves = halved(study, bench.published.authors)
    first = {
        "forest": forest(bench),
        "published": published_against_measured(found.from_lora, halves, found.profile),
        "scores": scores_at_a_glance(study),
    }
    return _Drawings(first, [*draw_all(study), *draw_judged(bench)], found.weightlora.drawings())


def _blocks(found: _Found) -> dict[str, Block]:
    """Every table of the report but those of further sections, by its name in the templates."""
    experiments, bench, published = found.experiments, found.bench, found.bench.published
    study, tables = bench.study, published.tables
    records, solo_records = record_paths(experiments), record_paths(study.generation.experiments)
    quoted = _published_files(published.directory, [table.id for table in tables])
    from_lora = differences_from_lora(found.from_lora, tables, bench.why_not)
    scores = {f"scores_{block.key}": block for block in found.weightlora.scores}
    return {
        "claims_table": replace(claims_block([row for rows in found.claims.values() for row in rows]), records=records),
        "results": results_block(study),
        "results_earlier": results_block(study, earlier=True),
        "tasks_overview": replace(tasks_overview(study), records=record_paths(study.tasks.experiments)),
        "differences_from_lora": replace(from_lora, records=(*solo_records, *quoted)),
        "cells": replace(cells_block(found.cells, experiments, tables), records=solo_records),
        **{f"comparisons_{paper}": _comparisons(paper, rows, found) for paper, rows in found.claims.items()},
        "sensitivity": replace(sensitivity_block(bench.sensitivity, found.profile), records=records),
        **scores,
        **{f"weightlora_{name}": block for name, block in found.weightlora.tables.items()},
        "corpora": corpora_block(experiments),
        "seeds": replace(run_tables.seeds_block(experiments), records=records),
        "search": run_tables.search_block(study.searches, experiments),
        "cost": replace(run_tables.count_block(experiments), records=records),
    }


def _comparisons(paper: PaperName, claims: Sequence[ClaimRow], found: _Found) -> Block:
    """The comparisons of a paper's claims, with the records of the runs that they compare."""
    names = {run for claim in claims for row in claim.comparisons for run in row.case.runs}
    records = record_paths([experiment for experiment in found.experiments if experiment.name in names])
    return replace(comparisons_block(paper, claims, found.profile), records=records)


def _values(
    found: _Found,
    blocks: Mapping[str, Block],
    drawings: _Drawings,
    warnings: Sequence[Notice],
    deviations: Sequence[str],
) -> dict[str, Any]:
    """What the templates name."""
    profile, experiments, study = found.profile, found.experiments, found.bench.study
    published, authors = found.bench.published, found.bench.published.authors
    checks = quick_checks(study.generation.rows) if profile == "quick" else []
    return {
        "title": f"{TITLE}: {profile} profile",
        "profile": profile,
        "command": page_command(profile),
        "subtitle": texts.subtitle(profile, experiments),
        "tally": texts.tally(profile, counts_line([row for claims in found.claims.values() for row in claims])),
        "legend": legend([row for rows in found.claims.values() for row in rows]),
        "decisive": decisive_line(found.bench.sensitivity),
        "solo_claims": found.claims["solo"],
        "weightlora_claims": found.claims["weightlora"],
        "papers": [(paper, rows, *_folded(paper, rows, found, blocks)) for paper, rows in found.claims.items()],
        "about": texts.about(profile),
        "warnings": warnings,
        "quick_checks": checks,
        "quick_checks_hold": all(check.holds for check in checks),
        "reading": texts.reading(found.bench.why_not, study.rows),
        "decision_rule": texts.decision_rule(published),
        "figures": drawings.first,
        "solo_figures": drawings.solo,
        "weightlora_figures": drawings.weightlora,
        "solo_overview": solo_overview(blocks["results"]),
        "examples": texts.examples(study),
        "examples_note": texts.examples_note(study),
        "weightlora_ran": any(row.status != "missing" for row in study.tasks.rows),
        "weightlora_scores": [block for name, block in blocks.items() if name.startswith("scores_")],
        "weightlora_tables": {name: blocks[f"weightlora_{name}"] for name in found.weightlora.tables},
        "unreadable": authors.facts.unreadable,
        "faults": authors.facts.faults,
        "conditions": run_tables.conditions(experiments),
        "deviations": list(deviations),
        "sources": texts.sources(published.tables, authors.sources),
        **{name: block for name, block in blocks.items() if not name.startswith(("scores_", "weightlora_"))},
    }


def _folded(
    paper: PaperName, rows: Sequence[ClaimRow], found: _Found, blocks: Mapping[str, Block]
) -> tuple[Block, list[Fold]]:
    tested, folds = fold_untested(paper, rows, found.profile)
    return tested.named(tested.key, blocks[f"comparisons_{paper}"].command), folds


def _write_tables(folder: Path, blocks: Sequence[Block]) -> None:
    """Every table that has rows as csv, Markdown and LaTeX, by its key."""
    for block in blocks:
        if block.rows:
            write_text(folder / f"{block.key}.csv", to_csv(block))
            write_text(folder / f"{block.key}.md", to_markdown([block]))
            write_text(folder / f"{block.key}.tex", to_latex([block]))


def _published_files(folder: str | Path, names: Sequence[str]) -> list[str]:
    return [f"paper_results/{path.name}" for path in sorted(Path(folder).iterdir()) if path.stem in names]


def _portable(text: str, folders: Sequence[str | Path | None], profile: str) -> str:
    """A warning without this machine's folders: the page is under version control."""
    for folder, name in zip(folders, ("runs", "searches", "measurements"), strict=True):
        if folder is not None:
            text = text.replace(str(folder), f"{name}/{profile}")
    return text


def _write_costs(output: Path, profile: str, experiments: Sequence[Experiment]) -> None:
    entries, problems = collect_costs(experiments)
    title = f"Cost of the {profile} profile's runs"
    text = render("cost.html", title=title, block=cost_block(entries, experiments), problems=problems, entries=())
    write_text(output / "cost.html", text)
    write_text(output / "cost.csv", cost_csv(entries))


def main(
    profile: Annotated[str, typer.Option(help="Name of the profile.")] = "quick",
    runs: Annotated[Path | None, typer.Option(help="The profile's runs; runs/<profile> by default.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to; reports/<profile> by default.")] = None,
    experiment: Annotated[
        list[str] | None, typer.Option(help="A row, repeatable and in order; all by default.")
    ] = None,
    deviation: Annotated[list[str] | None, typer.Option(help="A deviation from the recipe; repeatable.")] = None,
    searches: Annotated[
        Path | None, typer.Option(help="The profile's searches; searches/<profile> by default.")
    ] = None,
    measurements: Annotated[
        Path | None, typer.Option(help="The profile's measurements; measurements/<profile> by default.")
    ] = None,
) -> None:
    """Build the report page, tables and figures of one profile."""
    path = build_report(
        profile=profile,
        runs=runs or Path("runs") / profile,
        output=output or Path("reports") / profile,
        experiments=experiment or None,
        deviations=deviation or (),
        searches=searches or Path("searches") / profile,
        measurements=measurements or Path("measurements") / profile,
    )
    print(path)


if __name__ == "__main__":
    try:
        typer.run(main)
    except ReplicationError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
