"""Build the report of one profile: `python -m analysis.show.report --profile quick`.

The same inputs give the same bytes in index.html, tables/, figures/ and plots/. Timings of this machine go only to
cost.html and cost.csv. Everything is written to a temporary folder and moved together.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from analysis.judge.claims import JudgedBench, load_bench, verdict_list
from analysis.judge.published_vs_measured import compared_cells, comparison_block, judge_cells, tolerance_warnings
from analysis.judge.quick_checks import quick_checks
from analysis.judge.study import Study
from analysis.load.authors import Authors, VariantCell
from analysis.load.paper_files import DIRECTORY
from analysis.load.published import PaperName
from analysis.load.runs import GENERATION, Experiment, Plan, load_profile
from analysis.show import page, run_tables
from analysis.show.authors_logs import differences_block
from analysis.show.authors_settings import rates_block, settings_block
from analysis.show.blocks import Block, Cell, to_csv, to_latex, to_markdown
from analysis.show.claim_figures import design_sections, detectable, draw_judged, forest, write_judged_plots
from analysis.show.claim_tables import (
    PAPERS,
    ClaimRow,
    claim_rows,
    claims_block,
    comparisons_block,
    counts_line,
    sensitivity_block,
)
from analysis.show.comparison import comparison
from analysis.show.drawing import Drawing, print_all
from analysis.show.figures import draw_all, memory_against_adapters, score_against_parameters
from analysis.show.page import Section, further_sections, render
from analysis.show.run_tables import (
    collect_costs,
    corpora_block,
    cost_block,
    cost_csv,
    page_command,
    record_paths,
)
from analysis.show.selection_figures import Variant, importance_weights, overlap, rank_growth, selected_map, variants
from analysis.show.tables import (
    GROUPS,
    against_logs_block,
    aggregates_block,
    counted_block,
    learned_block,
    logs_block,
    logs_csv,
    parameters_block,
    published_csv,
    results_block,
    score_blocks,
    scores_csv,
    selected_block,
    selected_csv,
)
from replication.errors import DataError, ReplicationError
from replication.fileio import replaced_directory, write_text


@contextmanager
def replaced_parts(folder: str | Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder next to `folder`; its `parts` are moved into place only if the block succeeds.

    Each part is a file or a folder directly inside; whatever else `folder` holds stays. Where a rename fails half way,
    what was moved is put back.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
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


def write_plots(output: Path, experiments: Sequence[Experiment], study: Study) -> None:
    """The data behind the figures, one observation per line: for `dvc plots` and for anyone's own drawing."""
    losses: list[dict[str, Any]] = []
    homotopy: list[dict[str, Any]] = []
    task_losses: list[dict[str, Any]] = []
    for experiment in experiments:
        generates = experiment.form == GENERATION
        for seed, curve in experiment.curves.items():
            where = {"experiment": experiment.name, "seed": seed}
            for record in curve.to_dict("records"):
                (losses if generates else task_losses).append(
                    {**where, **{k: record[k] for k in ("step", "loss", "dev_loss", "learning_rate")}}
                )
                for name, value in record.items() if generates else ():
                    kind, bracket, link = str(name).partition("[")
                    if bracket and pd.notna(value):
                        homotopy.append(
                            {
                                **where,
                                "step": record["step"],
                                "connection": link[:-1],
                                "quantity": kind,
                                "value": value,
                            }
                        )
    scores = [
        {"experiment": row.experiment, "adapter": row.adapter, "BLEU": round(summary.mean, 6)}
        for row in study.generation.rows_as_given
        if (summary := row.scores.get("BLEU"))
    ]
    columns = {
        "losses": ["experiment", "seed", "step", "loss", "dev_loss", "learning_rate"],
        "task_losses": ["experiment", "seed", "step", "loss", "dev_loss", "learning_rate"],
        "homotopy": ["experiment", "seed", "step", "connection", "quantity", "value"],
        "scores": ["experiment", "adapter", "BLEU"],
    }
    with replaced_directory(output / "plots") as folder:
        for name, data in (
            ("losses", losses),
            ("task_losses", task_losses),
            ("homotopy", homotopy),
            ("scores", scores),
        ):
            frame = pd.DataFrame(data, columns=columns[name])
            write_text(folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))


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
        plus = [variant for variant in found if _method(variant) == "weight_lora_plus"]
        drawn = [
            *(importance_weights(variant) for variant in found),
            selected_map(found, self.authors),
            overlap(found, self.authors),
            score_against_parameters(self.study),
            memory_against_adapters(self.bench.memory, self.authors, self.bench.profile),
            rank_growth(plus, {variant.backbone: count for variant in plus if (count := self._lora(variant))}),
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

    def values(self, drawings: Sequence[object]) -> dict[str, object]:
        """Template values other than tables."""
        return {
            "contents": CONTENTS,
            "ran": bool(self.study.rows and any(row.status != "missing" for row in self.study.rows)),
            "figures": drawings,
            "unreadable": self.authors.facts.unreadable,
            "faults": self.authors.facts.faults,
        }

    def _lora(self, variant: Variant) -> int | None:
        """Adapter parameters of LoRA on the variant's backbone."""
        for row in self.study.rows:
            if row.backbone == variant.backbone and row.method == "lora" and row.counts:
                return row.counts["adapter"]
        return None


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


TITLE = "Solo Connection and WeightLoRA, replicated"
PARTS = ("tables", "figures", "plots", "cost.html", "cost.csv", "index.html")


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
    below the papers; by default what the design can detect and those of `page.FURTHER`. `processes` draw the figures.
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
    overview = [drawing for drawing in (forest(found.bench),) if drawing is not None]
    drawings = overview, [*draw_all(found.bench.study), *draw_judged(found.bench)], found.weightlora.drawings()
    every = [
        *(drawing for part in drawings for drawing in part),
        *(drawing for section in added for drawing in section.drawings),
    ]
    print_all(every, processes)
    warnings = [
        _portable(warning, folders, profile)
        for warning in page.warnings(
            loaded, found.bench.study.generation.rows, found.bench.broken, tolerance_warnings(loaded, published)
        )
    ]
    text = _page(found, blocks, drawings, added, warnings, deviations)
    with replaced_parts(output, PARTS) as aside:
        section_blocks = [block for section in added for block in section.named_blocks]
        _write_tables(aside / "tables", [*blocks.values(), *section_blocks])
        write_text(aside / "tables" / "scores.csv", scores_csv(found.bench.study))
        write_text(aside / "tables" / "published.csv", published_csv(found.bench.published.tables))
        found.weightlora.write_data(aside / "tables")
        (aside / "figures").mkdir()
        for drawing in every:
            drawing.write(aside / "figures")
        write_plots(aside, found.experiments, found.bench.study)
        write_judged_plots(aside / "plots", designs, found.bench)
        _write_costs(aside, profile, found.experiments)
        write_text(aside / "index.html", text)
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
        """The section of the WeightLoRA paper."""
        return WeightLora(self.bench)

    @cached_property
    def claims(self) -> dict[PaperName, list[ClaimRow]]:
        """The verdicts by paper."""
        seeds_of = {experiment.name: experiment.seeds for experiment in self.experiments}
        return {paper: claim_rows(self.bench.of_paper(paper), self.profile, seeds_of) for paper in PAPERS}


def _blocks(found: _Found) -> dict[str, Block]:
    """Every table of the page but those of further sections, by its name in the template."""
    experiments, bench, published = found.experiments, found.bench, found.bench.published
    study, tables = bench.study, published.tables
    records, solo_records = record_paths(experiments), record_paths(study.generation.experiments)
    judged = judge_cells(study, published)
    beside_published = comparison_block(compared_cells(study, published, judged), tables, bench.why_not)
    quoted = _published_files(published.directory, [table.id for table in tables])
    scores = {f"scores_{block.key}": block for block in found.weightlora.scores}
    return {
        "results": results_block(study),
        "beside": replace(beside_published, records=(*solo_records, *quoted)),
        "cells": replace(page.cells_block(judged, experiments, tables), records=solo_records),
        "claims_table": claims_block([row for rows in found.claims.values() for row in rows]),
        **{f"comparisons_{paper}": _comparisons(paper, rows, found) for paper, rows in found.claims.items()},
        "sensitivity": replace(sensitivity_block(bench.sensitivity, found.profile), records=records),
        "corpora": corpora_block(experiments),
        "cost": replace(run_tables.count_block(experiments), records=records),
        "seeds": replace(run_tables.seeds_block(experiments), records=records),
        "search": run_tables.search_block(study.searches, experiments),
        **scores,
        **{f"weightlora_{name}": block for name, block in found.weightlora.tables.items()},
    }


def _comparisons(paper: PaperName, claims: Sequence[ClaimRow], found: _Found) -> Block:
    """The comparisons of a paper's claims, with the records of the runs that they compare."""
    names = {run for claim in claims for row in claim.comparisons for run in row.case.runs}
    records = record_paths([experiment for experiment in found.experiments if experiment.name in names])
    return replace(comparisons_block(paper, claims, found.profile), records=records)


def _page(
    found: _Found,
    blocks: Mapping[str, Block],
    drawings: tuple[list[Drawing], list[Drawing], list[Drawing]],
    added: Sequence[Section],
    warnings: Sequence[str],
    deviations: Sequence[str],
) -> str:
    """index.html; `drawings` are those of all claims and of the two papers."""
    profile, experiments, study = found.profile, found.experiments, found.bench.study
    published = found.bench.published
    checks = quick_checks(study.generation.rows) if profile == "quick" else []
    overview, solo_figures, weightlora_figures = ([_shown(drawing) for drawing in part] for part in drawings)
    return render(
        "report.html",
        title=f"{TITLE}: {profile} profile",
        profile=profile,
        subtitle=page.subtitle(profile, experiments),
        contents=page.contents(added),
        solo_contents=page.SOLO_CONTENTS,
        tally=page.tally(profile, counts_line([row for claims in found.claims.values() for row in claims])),
        solo_claims=found.claims["solo"],
        weightlora_claims=found.claims["weightlora"],
        about=page.about(profile),
        warnings=warnings,
        quick_checks=checks,
        quick_checks_hold=all(check.holds for check in checks),
        reading=page.reading(found.bench.why_not),
        decision_rule=page.decision_rule(published),
        overview=overview,
        figures=solo_figures,
        examples=page.examples(study),
        examples_note=page.examples_note(study),
        weightlora=found.weightlora.values(weightlora_figures),
        weightlora_scores=[block for name, block in blocks.items() if name.startswith("scores_")],
        weightlora_tables={name: blocks[f"weightlora_{name}"] for name in found.weightlora.tables},
        sections=_sections(added, len(overview) + len(solo_figures) + len(weightlora_figures)),
        conditions=run_tables.conditions(experiments),
        deviations=list(deviations),
        sources=page.sources(published.tables, published.authors.sources),
        **{name: block for name, block in blocks.items() if not name.startswith(("scores_", "weightlora_"))},
    )


def _write_tables(folder: Path, blocks: Sequence[Block]) -> None:
    """Every table that has rows as csv, Markdown and LaTeX, by its key."""
    for block in blocks:
        if block.rows:
            write_text(folder / f"{block.key}.csv", to_csv(block))
            write_text(folder / f"{block.key}.md", to_markdown([block]))
            write_text(folder / f"{block.key}.tex", to_latex([block]))


def _sections(sections: Sequence[Section], before: int) -> list[dict[str, object]]:
    """Template values of further sections; figure numbers continue from `before`."""
    shown = []
    for section in sections:
        figures = [_shown(drawing) for drawing in section.drawings]
        shown.append({"key": section.key, "title": section.title, "intro": section.intro, "figures": figures,
                      "blocks": section.named_blocks, "before": before})  # fmt: skip
        before += len(figures)
    return shown


def _published_files(folder: str | Path, names: Sequence[str]) -> list[str]:
    return [f"paper_results/{path.name}" for path in sorted(Path(folder).iterdir()) if path.stem in names]


def _portable(text: str, folders: Sequence[str | Path | None], profile: str) -> str:
    """A warning without this machine's folders: the page is under version control."""
    for folder, name in zip(folders, ("runs", "searches", "measurements"), strict=True):
        if folder is not None:
            text = text.replace(str(folder), f"{name}/{profile}")
    return text


def _shown(drawing: Drawing) -> dict[str, object]:
    return {
        "name": drawing.name,
        "title": drawing.title,
        "caption": drawing.caption,
        "svg": page.inline_svg(drawing),
    }


def _write_costs(output: Path, profile: str, experiments: Sequence[Experiment]) -> None:
    entries, problems = collect_costs(experiments)
    title = f"Cost of the {profile} profile's runs"
    text = render("cost.html", title=title, block=cost_block(entries, experiments), problems=problems)
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
