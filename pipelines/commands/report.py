"""`replicate report`: where the report of a profile is; `--open` shows it in a browser, `--build` renews it."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from replication.errors import DataError
from replication.terminal import examples, working


def register(app: typer.Typer) -> None:
    """Add `report` to the `replicate` command."""
    app.command("report", epilog=examples("replicate report --profile cpu", "replicate report --open"))(report)


def report(
    profile: Annotated[str | None, typer.Option(help="quick, cpu or paper.")] = None,
    build: Annotated[bool, typer.Option("--build", help="Renew it from the records first, in seconds.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say where a profile's report is, and open it."""
    from pipelines.commands.sweep import settings_of

    with working("reading settings"):
        settings = settings_of(profile, None)
    page = Path("reports") / settings.profile / "index.html"
    if build:
        from pipelines.report import build as build_report

        with working(f"building {page}"):
            build_report(settings)
    if not page.is_file():
        raise DataError(f"{page}: no such file; `replicate report --profile {settings.profile} --build` makes it")
    if show and not webbrowser.open(page.resolve().as_uri()):
        raise DataError(f"{page}: no browser was found; open the file by hand")
    typer.echo(json.dumps({"profile": settings.profile, "page": page.as_posix()}) if as_json else page.as_posix())
