"""Build the report of one profile: `python -m analysis.report --profile quick`.

The same inputs give the same bytes in index.html, tables/, figures/ and plots/. Timings go to cost.html and
cost.csv only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis import page, page_blocks
from analysis.cells import compare_cells
from analysis.costs import collect_costs, cost_block, cost_csv
from analysis.drawing import Drawing
from analysis.figures import draw_all
from analysis.plot_data import write_plots
from analysis.published import DIRECTORY, load_claims, load_tables, load_tolerances
from analysis.records import Experiment, Plan, load_profile
from analysis.results import ResultRow, result_rows
from analysis.sanity import sanity_checks
from analysis.tables import (
    Block,
    published_block,
    published_csv,
    results_block,
    results_csv,
    to_latex,
    to_markdown,
)
from analysis.verdicts import judge
from analysis.weightlora_section import WeightLora, load_weightlora
from replication.errors import DataError, ReplicationError
from replication.fileio import replaced_directory, write_text

# The browser itself refuses whatever the page would fetch: what it needs is inside it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
TITLE = "Solo Connection and WeightLoRA, replicated"


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
) -> Path:
    """Read `runs` (one profile's folder), write the report under `output`, return the path of index.html.

    `experiments` names the rows and their order, and one without runs appears as missing; as a mapping to `Planned` it
    also says where such a row belongs. Without it every folder under `runs` is a row. An experiment that is incomplete
    or broken is shown with the reason. `searches` and `measurements` are the profile's folders of learning-rate
    searches and memory measurements; without them the page says that nothing was searched or measured. DataError only
    for a folder of another profile or broken published figures.
    """
    runs, output = Path(runs), Path(output)
    for folder in (runs, searches, measurements):
        if folder is not None and Path(folder).name != profile:
            raise DataError(
                f"{folder}: holds profile {Path(folder).name!r}, not {profile!r}; give the folder <...>/{profile}"
            )
    loaded = load_profile(runs, experiments)
    rows = result_rows(loaded)
    drawings = draw_all(loaded, rows)
    tables, tolerances = load_tables(published), load_tolerances(published)
    measured = results_block(rows, profile)
    methods = {row.method for row in rows if row.method}
    printed = published_block(tables, tolerances.why_not_comparable(profile), methods)
    weightlora = load_weightlora(profile, loaded, searches, measurements, published)
    further = weightlora.drawings()

    _write_tables(output, rows, profile, [measured, printed], published_csv(tables), weightlora)
    with replaced_directory(output / "figures") as folder:
        for drawing in (*drawings, *further):
            drawing.write(folder)
    write_plots(output, loaded, rows)
    _write_costs(output, profile, loaded)

    checks = sanity_checks(rows) if profile == "quick" else []
    warnings = page.warnings(loaded, rows, weightlora.broken)
    return write_text(
        output / "index.html",
        _render(
            "report.html",
            title=f"{TITLE}: {profile} profile",
            subtitle=page.subtitle(profile, loaded),
            contents=page.CONTENTS,
            solo_contents=page.SOLO_CONTENTS,
            about=page.about(profile),
            warnings=[_portable(text, (runs, searches, measurements), profile) for text in warnings],
            sanity=checks,
            sanity_holds=all(check.holds for check in checks),
            results=measured,
            published=printed,
            cells=page.cells_block(compare_cells(loaded, tables, tolerances)),
            reading=page.reading(tolerances.why_not_comparable(profile)),
            figures=[_shown(drawing) for drawing in drawings],
            verdicts=judge(loaded, load_claims(published), tolerances),
            examples=page.examples(loaded),
            examples_note=page.examples_note(loaded),
            weightlora=weightlora.values([_shown(drawing) for drawing in further]),
            cost=page_blocks.count_block(loaded),
            seeds=page_blocks.seeds_block(loaded),
            search=page_blocks.search_block(weightlora.searches, loaded),
            conditions=page_blocks.conditions(loaded),
            deviations=list(deviations),
            sources=page.sources(tables, weightlora.authors.sources),
        ),
    )


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


def _write_tables(
    output: Path, rows: Sequence[ResultRow], profile: str, blocks: Sequence[Block], printed: str, weightlora: WeightLora
) -> None:
    with replaced_directory(output / "tables") as folder:
        write_text(folder / "results.csv", results_csv(rows, profile))
        write_text(folder / "published.csv", printed)
        write_text(folder / "results.md", to_markdown(blocks))
        write_text(folder / "results.tex", to_latex(blocks))
        weightlora.write_tables(folder)


def _write_costs(output: Path, profile: str, experiments: Sequence[Experiment]) -> None:
    entries, problems = collect_costs(experiments)
    title = f"Cost of the {profile} profile's runs"
    text = _render("cost.html", title=title, block=cost_block(entries, experiments), problems=problems)
    write_text(output / "cost.html", text)
    write_text(output / "cost.csv", cost_csv(entries))


def _render(template: str, **values: object) -> str:
    environment = Environment(
        loader=PackageLoader("analysis"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["tied"] = page.tied
    style = (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    text = environment.get_template(template).render(style=Markup(style), policy=Markup(POLICY), **values)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


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
