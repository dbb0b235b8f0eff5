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
        "form": experiment.form,
        "primary": metrics.primary if metrics else None,
        "scores": dict(metrics.means) if metrics else None,
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
    """A table of the generation runs, one of the others with their primary score, then every problem on a line."""
    from rich.console import Console

    from analysis.labels import score_name
    from analysis.published import METRICS
    from analysis.scores import GENERATION

    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no width to keep to
        console.width = max(console.width, 160)
    generation = [run for run in listed if run["form"] == GENERATION]
    if generation:
        metrics = list(dict.fromkeys([*METRICS, *(name for run in generation for name in run["scores"] or {})]))
        rows = [(run, [_shown((run["scores"] or {}).get(metric)) for metric in metrics]) for run in generation]
        console.print(_table([score_name(metric) for metric in metrics], rows))
    others = [run for run in listed if run["form"] != GENERATION]
    if others:
        rows = [
            (run, [score_name(run["primary"] or "–"), _shown((run["scores"] or {}).get(run["primary"]))])
            for run in others
        ]
        console.print(_table(["Metric", "Score"], rows))
    for run in listed:
        for problem in run["problems"]:
            console.print(f"{run['profile']}/{run['experiment']}: {problem}", markup=False, soft_wrap=True)


def _shown(score: float | None) -> str:
    return "–" if score is None else f"{score:.4f}"


def _table(headers: list[str], rows: list[tuple[dict[str, Any], list[str]]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    from analysis.costs import format_bytes

    colours = {"complete": "green", "incomplete": "yellow", "failed": "red", "missing": "yellow"}
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("Run", overflow="fold")
    for header in ("Status", "Seeds", *headers, "Disk"):
        table.add_column(header, justify="left" if header in ("Status", "Metric") else "right", no_wrap=True)
    for run, cells in rows:
        status = f"[{colours[run['status']]}]{run['status']}[/]"
        name = escape(f"{run['profile']}/{run['experiment']}")
        table.add_row(name, status, str(len(run["seeds"])), *cells, format_bytes(run["bytes"]))
    return table
