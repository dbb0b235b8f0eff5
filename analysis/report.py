"""Build the report of one profile: `python -m analysis.report --profile quick`.

The same inputs give the same bytes in index.html, tables/, figures/ and plots/. Timings of the machine at hand go to
cost.html and cost.csv only. Everything is written aside and takes its place together.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from analysis import page, page_blocks
from analysis.beside import beside_block, beside_cells
from analysis.blocks import Block, to_csv, to_latex, to_markdown
from analysis.cells import judge_cells, tolerance_warnings
from analysis.claim_rows import ClaimRow, claim_rows, claims_block, comparisons_block, counts_line
from analysis.claims import PaperName
from analysis.corpora import corpora_block
from analysis.costs import collect_costs, cost_block, cost_csv, training_costs
from analysis.drawing import Drawing, print_all
from analysis.figures import draw_all
from analysis.further_sections import further_sections
from analysis.plot_data import write_plots
from analysis.provenance import page_command, record_paths
from analysis.publish import replaced_parts
from analysis.published import DIRECTORY, PublishedTable, Tolerances, load_claims, load_tables, load_tolerances
from analysis.records import Experiment, Plan, load_profile, of_generation
from analysis.render import render
from analysis.results import ResultRow, result_rows
from analysis.sanity import sanity_checks
from analysis.sections import Section
from analysis.tables import published_csv, results_block, results_csv
from analysis.verdicts import judge
from analysis.weightlora_section import WeightLora, load_weightlora
from replication.errors import DataError, ReplicationError
from replication.fileio import write_text

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
    searches and memory measurements; without them the page says that nothing was searched or measured. `sections` stand
    below the papers; by default those of `further_sections.FURTHER`. `processes` draw the figures. DataError only for a
    folder of another profile or broken published figures, and then nothing that stood under `output` has changed.
    """
    runs, output = Path(runs), Path(output)
    folders = (runs, searches, measurements)
    for folder in folders:
        if folder is not None and Path(folder).name != profile:
            raise DataError(
                f"{folder}: holds profile {Path(folder).name!r}, not {profile!r}; give the folder <...>/{profile}"
            )
    found = _load(profile, load_profile(runs, experiments), published, searches, measurements)
    blocks = {name: replace(block, command=page_command(profile)) for name, block in _blocks(found).items()}
    added = further_sections(profile) if sections is None else list(sections)
    drawings = draw_all(found.experiments, found.rows), found.weightlora.drawings()
    every = [*drawings[0], *drawings[1], *(drawing for section in added for drawing in section.drawings)]
    print_all(every, processes)
    warnings = [
        _portable(warning, folders, profile)
        for warning in page.warnings(
            found.experiments, found.rows, found.weightlora.broken, tolerance_warnings(found.experiments, published)
        )
    ]
    text = _page(found, blocks, drawings, added, warnings, deviations)
    with replaced_parts(output, PARTS) as aside:
        section_blocks = [block for section in added for block in section.named_blocks]
        _write_tables(aside / "tables", [*blocks.values(), *section_blocks])
        write_text(aside / "tables" / "results.csv", results_csv(found.rows, profile))
        write_text(aside / "tables" / "published.csv", published_csv(found.tables))
        found.weightlora.write_data(aside / "tables")
        (aside / "figures").mkdir()
        for drawing in every:
            drawing.write(aside / "figures")
        write_plots(aside, found.experiments, found.rows)
        _write_costs(aside, profile, found.experiments)
        write_text(aside / "index.html", text)
    return output / "index.html"


@dataclass(frozen=True)
class _Found:
    """Everything the page is made from."""

    profile: str
    experiments: list[Experiment]
    rows: list[ResultRow]
    tables: list[PublishedTable]
    tolerances: Tolerances
    published: Path
    weightlora: WeightLora
    solo_claims: list[ClaimRow]
    weightlora_claims: list[ClaimRow]

    @property
    def why_not(self) -> str | None:
        """Why the profile may not be set against printed figures."""
        return self.tolerances.why_not_comparable(self.profile)


def _load(
    profile: str,
    experiments: list[Experiment],
    published: str | Path,
    searches: str | Path | None,
    measurements: str | Path | None,
) -> _Found:
    """Published figures and verdicts for the experiments; DataError for broken published figures."""
    tables, tolerances = load_tables(published), load_tolerances(published)
    weightlora = load_weightlora(profile, experiments, searches, measurements, published)
    seeds_of = {experiment.name: experiment.seeds for experiment in experiments}
    solo_claims = claim_rows(judge(experiments, load_claims(published), tolerances), profile, seeds_of)
    weightlora_claims = claim_rows(weightlora.verdicts, profile, seeds_of)
    rows = result_rows(experiments)
    return _Found(
        profile, experiments, rows, tables, tolerances, Path(published), weightlora, solo_claims, weightlora_claims
    )


def _blocks(found: _Found) -> dict[str, Block]:
    """Every table of the page but those of further sections, by the name that the template gives it."""
    experiments, tables, why_not = found.experiments, found.tables, found.why_not
    records, solo_records = record_paths(experiments), record_paths(of_generation(experiments))
    judged = judge_cells(experiments, tables, found.tolerances, found.profile, found.published)
    beside = beside_block(beside_cells(tables, found.rows, judged), tables, why_not)
    quoted = _published_files(found.published, [table.id for table in tables])
    scores = {f"scores_{block.key}": block for block in found.weightlora.scores}
    return {
        "results": replace(results_block(found.rows, found.profile, training_costs(experiments)), records=solo_records),
        "beside": replace(beside, records=(*solo_records, *quoted)),
        "cells": replace(page.cells_block(judged, experiments, tables), records=solo_records),
        "claims_table": claims_block([*found.solo_claims, *found.weightlora_claims]),
        "comparisons_solo": _comparisons("solo", found.solo_claims, found),
        "comparisons_weightlora": _comparisons("weightlora", found.weightlora_claims, found),
        "corpora": corpora_block(experiments),
        "cost": replace(page_blocks.count_block(experiments), records=records),
        "seeds": replace(page_blocks.seeds_block(experiments), records=records),
        "search": page_blocks.search_block(found.weightlora.searches, experiments),
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
    drawings: tuple[list[Drawing], list[Drawing]],
    added: Sequence[Section],
    warnings: Sequence[str],
    deviations: Sequence[str],
) -> str:
    """index.html; `drawings` are those of the two papers."""
    profile, experiments, rows = found.profile, found.experiments, found.rows
    checks = sanity_checks(rows) if profile == "quick" else []
    solo_figures, weightlora_figures = ([_shown(drawing) for drawing in part] for part in drawings)
    return render(
        "report.html",
        title=f"{TITLE}: {profile} profile",
        profile=profile,
        subtitle=page.subtitle(profile, experiments),
        contents=page.contents(added),
        solo_contents=page.SOLO_CONTENTS,
        tally=page.tally(profile, counts_line([*found.solo_claims, *found.weightlora_claims])),
        solo_claims=found.solo_claims,
        weightlora_claims=found.weightlora_claims,
        about=page.about(profile),
        warnings=warnings,
        sanity=checks,
        sanity_holds=all(check.holds for check in checks),
        reading=page.reading(found.why_not),
        decision_rule=page.decision_rule(),
        figures=solo_figures,
        examples=page.examples(experiments),
        examples_note=page.examples_note(experiments),
        weightlora=found.weightlora.values(weightlora_figures),
        weightlora_scores=[block for name, block in blocks.items() if name.startswith("scores_")],
        weightlora_tables={name: blocks[f"weightlora_{name}"] for name in found.weightlora.tables},
        sections=_sections(added, len(solo_figures) + len(weightlora_figures)),
        conditions=page_blocks.conditions(experiments),
        deviations=list(deviations),
        sources=page.sources(found.tables, found.weightlora.authors.sources),
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
    """What the template shows of further sections; figures are numbered on from `before`."""
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
