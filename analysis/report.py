"""Build the report of one profile: `python -m analysis.report --profile quick`.

The same inputs give the same bytes in index.html, tables/, figures/ and plots/. Timings go to cost.html and
cost.csv only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis import page
from analysis.cells import compare_cells
from analysis.costs import collect_costs, cost_block, cost_csv
from analysis.drawing import Drawing
from analysis.figures import draw_all
from analysis.published import DIRECTORY, load_claims, load_tables, load_tolerances
from analysis.records import Experiment, load_profile, read_searches
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
from replication.errors import DataError, ReplicationError
from replication.fileio import replaced_directory, write_text

# The browser itself refuses whatever the page would fetch: what it needs is inside it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
TITLE = "Solo Connection and LoRA on E2E NLG"


def build_report(
    *,
    profile: str,
    runs: str | Path,
    output: str | Path,
    experiments: Sequence[str] | None = None,
    deviations: Sequence[str] = (),
    published: str | Path = DIRECTORY,
) -> Path:
    """Read `runs` (one profile's folder), write the report under `output`, return the path of index.html.

    `experiments` names the rows and their order, and one without runs appears as missing; without it every
    folder under `runs` is a row. An experiment that is incomplete or broken is shown with the reason.
    DataError only for a `runs` folder of another profile or broken published figures.
    """
    runs, output = Path(runs), Path(output)
    if runs.name != profile:
        raise DataError(f"{runs}: holds profile {runs.name!r}, not {profile!r}; give the folder runs/{profile}")
    loaded = load_profile(runs, experiments)
    rows = result_rows(loaded)
    drawings = draw_all(loaded, rows)
    tables, tolerances = load_tables(published), load_tolerances(published)
    measured = results_block(rows, profile)
    methods = {row.method for row in rows if row.method}
    printed = published_block(tables, tolerances.why_not_comparable(profile), methods)

    _write_tables(output, rows, profile, [measured, printed], published_csv(tables))
    with replaced_directory(output / "figures") as folder:
        for drawing in drawings:
            drawing.write(folder)
    _write_plots(output, loaded, rows)
    _write_costs(output, profile, loaded)

    searches, broken = read_searches(loaded)
    checks = sanity_checks(rows) if profile == "quick" else []
    return write_text(
        output / "index.html",
        _render(
            "report.html",
            title=f"{TITLE}: {profile} profile",
            subtitle=page.subtitle(profile, loaded),
            contents=page.CONTENTS,
            about=page.about(profile),
            warnings=[text.replace(str(runs), f"runs/{profile}") for text in page.warnings(loaded, rows, broken)],
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
            cost=page.cost_block(loaded),
            seeds=page.seeds_block(loaded),
            search=page.search_block(searches, loaded),
            conditions=page.conditions(loaded),
            deviations=list(deviations),
            sources=page.sources(tables),
        ),
    )


def _shown(drawing: Drawing) -> dict[str, object]:
    return {
        "name": drawing.name,
        "title": drawing.title,
        "caption": drawing.caption,
        "svg": page.inline_svg(drawing),
    }


def _write_tables(output: Path, rows: Sequence[ResultRow], profile: str, blocks: Sequence[Block], printed: str) -> None:
    with replaced_directory(output / "tables") as folder:
        write_text(folder / "results.csv", results_csv(rows, profile))
        write_text(folder / "published.csv", printed)
        write_text(folder / "results.md", to_markdown(blocks))
        write_text(folder / "results.tex", to_latex(blocks))


def _write_plots(output: Path, experiments: Sequence[Experiment], rows: Sequence[ResultRow]) -> None:
    """The data behind the figures, one observation a line: for `dvc plots` and for anyone's own drawing."""
    losses, homotopy = [], []
    for experiment in experiments:
        for seed, curve in experiment.curves.items():
            where = {"experiment": experiment.name, "seed": seed}
            for record in curve.to_dict("records"):
                losses.append({**where, **{k: record[k] for k in ("step", "loss", "dev_loss", "learning_rate")}})
                for name, value in record.items():
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
        for row in rows
        if (summary := row.scores["BLEU"])
    ]
    columns = {
        "losses": ["experiment", "seed", "step", "loss", "dev_loss", "learning_rate"],
        "homotopy": ["experiment", "seed", "step", "connection", "quantity", "value"],
        "scores": ["experiment", "adapter", "BLEU"],
    }
    with replaced_directory(output / "plots") as folder:
        for name, data in (("losses", losses), ("homotopy", homotopy), ("scores", scores)):
            frame = pd.DataFrame(data, columns=columns[name])
            write_text(folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))


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
) -> None:
    """Build the report page, tables and figures of one profile."""
    path = build_report(
        profile=profile,
        runs=runs or Path("runs") / profile,
        output=output or Path("reports") / profile,
        experiments=experiment or None,
        deviations=deviation or (),
    )
    print(path)


if __name__ == "__main__":
    try:
        typer.run(main)
    except ReplicationError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
