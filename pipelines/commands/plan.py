"""`replicate plan`: what each experiment of a profile needs, and what one card or eight can run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands.estimates import ASSUMPTION, CARDS, FILE, PRECISIONS, known_cases, predict_case, save_cases
from pipelines.commands.findings import Finding
from pipelines.commands.planning import GIGA, Plan, as_dict, hours_text, make_plan, summary
from pipelines.commands.selection import ONLY, select
from replication.errors import ConfigError
from replication.terminal import console as standard_output
from replication.terminal import examples, working

if TYPE_CHECKING:
    from rich.console import Console

SAVED_PROFILE = "paper"
SHORT = {"bf16_weights": "bf16w"}
"""Columns of 80."""


def register(app: typer.Typer) -> None:
    """Add `plan` to the root command."""
    epilog = examples("replicate plan", "replicate plan --only 'qqp-*' --json")
    app.command("plan", epilog=epilog)(plan)


def plan(
    profile: Annotated[str, typer.Option(help="quick, cpu or paper.")] = "paper",
    only: Annotated[list[str] | None, typer.Option(help=ONLY)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    online: Annotated[
        bool, typer.Option("--online", help="Also ask the hubs whether what is missing is there.")
    ] = False,
    save: Annotated[
        bool,
        typer.Option("--save", help=f"Write the whole {SAVED_PROFILE} profile's predictions to {FILE}, then show."),
    ] = False,
    root: Annotated[
        Path | None, typer.Option(help="The project folder (default: found from the current folder).")
    ] = None,
) -> None:
    """Show what each experiment needs, and what a 24 GB card, an 80 GB card or eight of them can run."""
    from pipelines.commands.doctor import OnlineProbe, project_folder
    from pipelines.commands.readiness import profile_file
    from pipelines.shared.settings import load_settings

    if save and (profile != SAVED_PROFILE or only):
        kept = f"the predictions of the whole {SAVED_PROFILE} profile"
        raise ConfigError(f"--save writes {kept}; leave --only and any other --profile out")
    folder = project_folder(root)
    settings = load_settings(folder / profile_file(folder, profile))
    selected = select(settings, only or [])
    known = known_cases(folder)
    with working(f"planning {profile}") as say:
        if save:
            save_cases(folder, settings, known, say)
            known = known_cases(folder)

        def predict(case: Mapping[str, Any]) -> Mapping[str, Any]:
            say(f"predicting {case['backbone']}, {case['method']}, batch {case['batch']}")
            return predict_case(case)

        found = make_plan(folder, settings, selected, known, OnlineProbe() if online else None, predict)
    if as_json:
        typer.echo(json.dumps(as_dict(found), ensure_ascii=False))
    else:
        show(found)


def show(found: Plan) -> None:
    """Summary, a table of experiments, and how to get what is missing; at most 80 columns but for commands."""
    from rich.markup import escape

    console = standard_output()
    console.print(f"[bold]Profile {found.profile}[/]")
    for line in summary(found):
        console.print(f"  {escape(line)}")
    console.print(escape(f"  {ASSUMPTION}"))
    _table(console, found)
    how_to_fix(console, found.findings)


def _table(console: Console, found: Plan) -> None:
    numbers = {(need.name, need.text): str(number) for number, need in enumerate(found.findings, start=1)}
    columns = " ".join(f"{SHORT.get(name, name):>6}" for name in PRECISIONS)
    console.print(f"\n[bold]{'experiment':30} {columns} {'runs':5} {'24 GB':>5} {'80 GB':>5}  missing[/]")
    for line in found.lines:
        estimate, memory = line.estimate, line.estimate.memory
        about = "~" if estimate.approximate else ""
        gigabytes = " ".join(f"{f'{about}{memory[name] / GIGA:.1f}' if memory else '?':>6}" for name in PRECISIONS)
        hours = ["-" if estimate.fits(card.memory) is False else hours_text(estimate.hours(card)) for card in CARDS]
        marks = " ".join(numbers[need.name, need.text] for need in line.missing)
        runs = SHORT.get(estimate.precision, estimate.precision)
        row = f"{estimate.key:30} {gigabytes} {runs:5} {hours[0]:>5} {hours[1]:>5}"
        console.print(f"{row}  {marks}".rstrip(), soft_wrap=True, markup=False)
    console.print(
        "fp32, bf16 (autocast), bf16w (bf16_weights): GB of GPU memory at the peak of a\n"
        "training step (~ about: as LoRA, or the weights alone); runs: the profile's.\n"
        "24 GB, 80 GB: hours of all seeds on such a card, - too large. missing: numbers\n"
        "of the list below. search@x: trials of a learning rate before the experiments."
    )
    for card in CARDS:
        large = [line.estimate for line in found.lines if line.estimate.fits(card.memory) is False]
        smaller = sum(replace(estimate, precision="bf16_weights").fits(card.memory) is True for estimate in large)
        if large:
            console.print(f"{card.name} card: {len(large)} are too large; with bf16_weights, {smaller} of them fit.")


def how_to_fix(console: Console, findings: Sequence[Finding]) -> None:
    """Each finding once, numbered as in the table, with its commands."""
    from rich.markup import escape

    if not findings:
        console.print("Nothing is missing.")
        return
    console.print("\n[bold]Missing, and how to get it[/]")
    for number, need in enumerate(findings, start=1):
        console.print(f"  {number} {escape(need.name)}: {escape(need.text)}")
        for command in need.fix:
            console.print(f"    [bold]{escape(command)}[/]", soft_wrap=True)
