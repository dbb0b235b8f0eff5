"""`replicate preflight`: what would stop the trainings of a profile, before any of them starts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.selection import ONLY, select, settings_of
from pipelines.shared.settings import load_settings
from pipelines.shared.stage import say
from replication.errors import ConfigError, DataError, ReplicationError
from replication.fileio import read_json
from replication.terminal import examples, working

if TYPE_CHECKING:
    from pipelines.shared.experiment import Experiment
    from pipelines.shared.preflight import Report


def register(app: typer.Typer) -> None:
    """Add `preflight` to the `replicate` command."""
    epilog = examples("replicate preflight --only lora", "replicate preflight --only 'qa-*' --json")
    app.command("preflight", epilog=epilog)(main)


def main(
    profile: Annotated[
        str | None, typer.Option(help="quick, cpu or paper (default: quick, or as in --params).")
    ] = None,
    params: Annotated[Path | None, typer.Option(help="The profile's params.yaml, instead of its name.")] = None,
    only: Annotated[list[str] | None, typer.Option(help=ONLY)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, one object an experiment.")] = False,
) -> None:
    """Try all that each training of a profile needs and writes, without training; exit code 1 if one would fail.

    Corpora must be prepared and backbones fetched.
    """
    from pipelines.shared.experiment import resolve
    from pipelines.shared.preflight import Report

    settings = settings_of(profile, params)
    reports = []
    for key in select(settings, only or []):
        try:
            chosen = resolve(settings, key)
        except ConfigError as error:
            reports.append(Report(key, [str(error)]))
        else:
            with working(key):
                reports.append(examined(chosen))
        if not as_json:
            tell(reports[-1])
    failed = [report for report in reports if report.problems]
    if as_json:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        say(f"{settings.profile}: {len(reports) - len(failed)} of {len(reports)} experiments can train")
    raise typer.Exit(1 if failed else 0)


def tell(report: Report) -> None:
    """One experiment for a person: a line, or a line a problem."""
    from pipelines.shared.preflight import shown

    if not report.problems:
        say(f"ok      {report.experiment}: {shown(report)}")
    for problem in report.problems:
        say(f"problem {report.experiment}: {problem}")


def examined(experiment: Experiment) -> Report:
    """The preflight of the stage, then what only the analysis reads: that it can read what the run will write."""
    from pipelines.shared.preflight import preflight

    report = preflight(experiment)
    if not report.problems:
        try:
            read_by_analysis(experiment)
        except ReplicationError as error:
            report.problems.append(str(error))
    return report


def require_readable(params: Path, key: str) -> None:
    """`examined` for one experiment; DataError lists all problems."""
    from pipelines.shared.experiment import resolve
    from pipelines.shared.preflight import shown

    report = examined(resolve(load_settings(params), key))
    if report.problems:
        raise DataError(f"{key}: preflight: {'; '.join(report.problems)}")
    say(f"{key}: preflight {shown(report)}")


def read_by_analysis(experiment: Experiment) -> None:
    """DataError names the file that the analysis cannot read."""
    from analysis.load.runs import read_curves
    from analysis.load.selection import read_selection
    from pipelines.shared.preflight import build, write_outputs

    model = None if experiment.baseline is not None else build(experiment)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_outputs(experiment, model, folder)
        read_curves(folder / "curves.csv")
        if (folder / "selection.json").is_file():
            read_selection(folder / "selection.json")
        read_json(folder / "decoding.json")
