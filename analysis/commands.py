"""`replicate runs`: every run with its status, scores and disk use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add `runs` to the `replicate` command."""
    app.command("runs")(runs)


def runs(
    profile: Annotated[str | None, typer.Option(help="Only this profile (quick, cpu, paper).")] = None,
    root: Annotated[Path, typer.Option(help="Folder that holds <profile>/<experiment>/.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the runs: profile, experiment, seeds, status, scores, disk use."""
    from analysis.records import discover
    from replication.errors import DataError

    if profile is not None and (root / profile).parent != root:
        raise DataError(f"--profile {profile!r}: a profile is one name, such as quick")
    listed = [summary(experiment) for experiment in discover(root, profile)]
    if as_json:
        print(json.dumps(listed, indent=2, ensure_ascii=False))
    elif not listed:
        print(empty_state(root, profile))
    else:
        show(listed)


def summary(experiment: Any) -> dict[str, Any]:
    """One experiment as a JSON value; scores are means over seeds on the metric scripts' own scale."""
    from analysis.published import METRICS
    from analysis.records import disk_use

    record, metrics = experiment.record, experiment.metrics
    return {
        "profile": experiment.profile,
        "experiment": experiment.name,
        "status": experiment.status,
        "problems": list(experiment.problems),
        "seeds": list(experiment.seeds),
        "method": record.method if record else None,
        "backbone": record.backbone if record else None,
        "corpus": record.corpus.label if record else None,
        "adapter_parameters": record.counts.adapter if record else None,
        "scores": {metric: getattr(metrics, metric) for metric in METRICS} if metrics else None,
        "spread": dict(metrics.spread) if metrics else None,
        "items": metrics.items if metrics else None,
        "bytes": disk_use(experiment.directory),
        "directory": experiment.directory.as_posix(),
    }


def empty_state(root: Path, profile: str | None) -> str:
    """What to do when there are no runs."""
    targets = {"quick": "make reproduce", "cpu": "make reproduce-cpu", "paper": "make reproduce-paper"}
    command = targets.get(profile or "quick")
    where = root / profile if profile else root
    if command is None:
        return f"No runs under {where}. Profiles that can be made: {', '.join(targets)}."
    return f"No runs under {where} yet. `{command}` makes those of the {profile or 'quick'} profile."


def show(listed: list[dict[str, Any]]) -> None:
    """A table, then every problem on a line of its own."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from analysis.costs import format_bytes
    from analysis.tables import METRIC_NAMES

    colours = {"complete": "green", "incomplete": "yellow", "failed": "red", "missing": "yellow"}
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("Run", overflow="fold")
    for header in ("Status", "Seeds", *METRIC_NAMES.values(), "Disk"):
        table.add_column(header, justify="left" if header == "Status" else "right", no_wrap=True)
    for run in listed:
        scores = run["scores"] or {}
        cells = ["–" if scores.get(metric) is None else f"{scores[metric]:.4f}" for metric in METRIC_NAMES]
        status = f"[{colours[run['status']]}]{run['status']}[/]"
        name = escape(f"{run['profile']}/{run['experiment']}")
        table.add_row(name, status, str(len(run["seeds"])), *cells, format_bytes(run["bytes"]))
    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no width to keep to
        console.width = max(console.width, 160)
    console.print(table)
    for run in listed:
        for problem in run["problems"]:
            console.print(f"{run['profile']}/{run['experiment']}: {problem}", markup=False, soft_wrap=True)
