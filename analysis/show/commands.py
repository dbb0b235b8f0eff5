"""`replicate runs` and `replicate compare`.

`runs` lists every run with its status, scores and disk use; `compare` shows the claims' verdicts, and what was measured
compared with what was published.

`compare --json` prints one object with these keys, which do not change within `schema_version` 3:

- `profile`; `comparable` (whether its figures may be compared with published ones) and `why_not_comparable`;
- `claims`: id, paper, number, claim, verdict (`decision.Verdict`), outcome (of a count), reason, profile, published and
  measured (texts), why (the verdict's ground in a few words), comparison (what the effect is of), metric, effect,
  interval and adjusted_interval (the wider of both tests), over_items and over_seeds (each alone), adjusted_p,
  detectable, target, seeds_needed, items_needed, seeds, seed_count, cases (sentences), comparisons, counted, runs,
  needs, rule, source, standing;
- `comparisons` of a claim, one a comparison of a case: comparison, case, role (primary or secondary), profile, tested,
  runs, and the numbers of `decision.Finding.to_dict`;
- `sensitivity`: claim id -> analysis -> verdict;
- `published_vs_measured`: published_row, method, metric, published, published_spread, standing, standing_means,
  source, measured, experiment, verdict (within_tolerance, direction_only, not_reproduced, not_comparable, not_run,
  unreadable);
- `problems`: what could not be read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replication.terminal import console as stdout
from replication.terminal import examples, working

if TYPE_CHECKING:
    from rich.console import Console


PROFILES = ("quick", "cpu", "paper")


def check_profile(runs: Path, profile: str | None) -> None:
    """DataError for a profile that is neither known nor has runs in the folder, or a root that does not exist."""
    from replication.errors import DataError

    if not runs.is_dir() and not runs.parent.is_dir():
        raise DataError(f"{runs.parent}: no such folder")
    if profile is None:
        return
    if len(Path(profile).parts) != 1 or profile in ("..", "."):
        raise DataError(f"--profile {profile!r}: a profile is one name, such as quick")
    if profile not in PROFILES and not (runs / profile).is_dir():
        raise DataError(f"--profile {profile!r}: no such profile; valid profiles: {', '.join(PROFILES)}")


def register_runs(app: typer.Typer) -> None:
    """Add `runs` to the `replicate` command."""
    epilog = examples("replicate runs --profile cpu", "replicate runs --json")
    app.command("runs", epilog=epilog)(runs)


def runs(
    profile: Annotated[str | None, typer.Option(help="Only this profile (quick, cpu, paper).")] = None,
    root: Annotated[Path, typer.Option(help="Folder that holds <profile>/<experiment>/.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the runs: profile, experiment, seeds, status, scores, disk use."""
    from analysis.load.runs import discover
    from replication.errors import DataError

    check_profile(root, profile)
    if not root.is_dir():
        raise DataError(empty_state(root, profile))
    with working("reading runs"):
        listed = [summary(experiment) for experiment in discover(root, profile)]
    if as_json:
        print(json.dumps(listed, indent=2, ensure_ascii=False))
    elif not listed:
        print(empty_state(root, profile))
    else:
        show(listed)


def summary(experiment: Any) -> dict[str, Any]:
    """One experiment as a JSON value; scores are means over seeds on the metric scripts' own scale."""
    from analysis.load.constant import constant_mark, constant_seeds
    from analysis.load.names import method_label
    from analysis.load.runs import disk_use

    record, metrics = experiment.record, experiment.metrics
    return {
        "profile": experiment.profile,
        "experiment": experiment.name,
        "status": experiment.status,
        "problems": list(experiment.problems),
        "seeds": list(experiment.seeds),
        "scored_seeds": list(metrics.seeds) if metrics else [],
        "method": record.method if record else None,
        "label": method_label(record.method, record.method_config) if record else None,
        "backbone": record.backbone if record else None,
        "corpus": record.corpus.label if record else None,
        "adapter_parameters": {seed: one.counts.adapter for seed, one in experiment.records.items()},
        "form": experiment.form,
        "primary": metrics.primary if metrics else None,
        "scores": dict(metrics.means) if metrics else None,
        "spread": dict(metrics.spread) if metrics else None,
        "items": metrics.items if metrics else None,
        "constant_seeds": list(constant_seeds(experiment)),
        "constant": constant_mark(experiment),
        "bytes": disk_use(experiment.directory),
        "directory": experiment.directory.as_posix(),
    }


def empty_state(root: Path, profile: str | None) -> str:
    """Message if there are no runs."""
    targets = {"quick": "make reproduce", "cpu": "make reproduce-cpu", "paper": "make reproduce-paper"}
    command = targets.get(profile or "quick")
    where = root / profile if profile else root
    if command is None:
        return f"No runs under {where}. Profiles that can be made: {', '.join(targets)}."
    return f"No runs under {where} yet. `{command}` makes those of the {profile or 'quick'} profile."


def show(listed: list[dict[str, Any]]) -> None:
    """A table of the generation runs, one of the others with their primary score, then every problem on a line."""
    from analysis.load.names import score_name
    from analysis.load.paper_files import METRICS
    from analysis.load.runs import GENERATION

    console = stdout()
    generation = [run for run in listed if run["form"] == GENERATION]
    if generation:
        rows = [(run, [_shown((run["scores"] or {}).get(metric)) for metric in METRICS]) for run in generation]
        console.print(_table([score_name(metric) for metric in METRICS], rows))  # `show` has a run's further metrics
    others = [run for run in listed if run["form"] != GENERATION]
    if others:
        rows = [
            (run, [score_name(run["primary"] or "–"), _shown((run["scores"] or {}).get(run["primary"]))])
            for run in others
        ]
        console.print(_table(["Metric", "Score"], rows))
    for run in listed:
        if run["constant"]:
            text = f"{run['profile']}/{run['experiment']}: predicts {run['constant']}"
            console.print(text, markup=False, soft_wrap=True)
        for problem in run["problems"]:
            console.print(f"{run['profile']}/{run['experiment']}: {problem}", markup=False, soft_wrap=True)


def _shown(score: float | None) -> str:
    return "–" if score is None else f"{score:.4f}"


def _table(headers: list[str], rows: list[tuple[dict[str, Any], list[str]]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    from analysis.judge.number_format import format_bytes

    colours = {"complete": "green", "incomplete": "yellow", "stale": "red", "failed": "red"}
    colours |= {"missing": "yellow", "removed": "yellow"}
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("Run", no_wrap=True)
    for header in ("Status", "Seeds", *headers, "Disk"):
        left = header in ("Status", "Metric")
        table.add_column(header, justify="left" if left else "right", no_wrap=header != "Metric")
    for run, cells in rows:
        status = f"[{colours[run['status']]}]{run['status']}[/]"
        name = escape(f"{run['profile']}/{run['experiment']}")
        table.add_row(name, status, str(len(run["scored_seeds"] or run["seeds"])), *cells, format_bytes(run["bytes"]))
    return table


COLOURS = {"supported": "green", "contradicted": "red", "counted": "cyan", "not_tested": "default"}  # others yellow


def register_compare(app: typer.Typer) -> None:
    """Add `compare` to the `replicate` command."""
    epilog = examples("replicate compare --profile cpu", "replicate compare --profile cpu --full")
    app.command("compare", epilog=epilog)(compare)


def compare(
    profile: Annotated[str, typer.Option(help="The profile to compare: quick, cpu or paper.")] = "quick",
    root: Annotated[Path, typer.Option(help="Folder that holds runs/, searches/ and measurements/.")] = Path(),
    full: Annotated[bool, typer.Option("--full", help="Also why, the intervals, and every published figure.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare the papers' claims and published figures with the measurements."""
    from replication.errors import DataError

    runs = root / "runs"
    check_profile(runs, profile)
    if not runs.is_dir():
        raise DataError(empty_state(runs, profile))
    if not (runs / profile).is_dir() and not as_json:
        print(empty_state(runs, profile))
        return
    with working(f"comparing {profile} (up to a minute after the runs have changed)"):
        from analysis.show.comparison import comparison

        found = comparison(profile, root)
    if as_json:
        print(json.dumps(found["comparison"], indent=2, ensure_ascii=False))
    else:
        show_comparison(found, full)


def show_comparison(found: dict[str, Any], full: bool = False) -> None:
    """Print the verdicts, or with `full` everything, for a terminal of 80 columns or more."""
    console, content = stdout(), found["comparison"]
    _show_claims(console, content, found["lines"], full)
    if found["decisive"]:
        console.print(f"\n{found['decisive']}", markup=False)
    if full:
        _show_cells(console, content["published_vs_measured"], content["why_not_comparable"])
    else:
        console.print(f"\nWhy, with intervals: replicate compare --profile {content['profile']} --full", style="dim")
    for problem in content["problems"]:
        console.print(problem, markup=False, style="yellow", soft_wrap=True)


def _show_claims(console: Console, content: dict[str, Any], lines: Sequence[dict[str, str]], full: bool) -> None:
    from rich.markup import escape

    counts = Counter(row["verdict"] for row in content["claims"])
    overview = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.items())
    console.print(f"[bold]{escape(content['profile'])} profile: {overview}[/]")
    paper = ""
    for row, line in zip(content["claims"], lines, strict=True):
        if row["paper"] != paper:
            paper = row["paper"]
            console.print(f"\n[bold underline]{escape(paper)}[/]")
        colour, shown = COLOURS.get(row["verdict"], "yellow"), row["verdict"].replace("_", " ")
        outcome = f", {row['outcome']}" if row["outcome"] else ""
        console.print(f"{row['number']}. [bold {colour}]{shown}{outcome}[/]: {escape(row['claim'])}")
        if not full:
            _indented(console, _numbers(row), "dim")
            continue
        seeds = f" [{line['seeds']}, {row['profile']} profile]" if line["seeds"] else f" [{row['profile']} profile]"
        if line["headline"]:
            _indented(console, line["headline"] + seeds)
        _indented(console, row["reason"], "dim")


def _numbers(row: dict[str, Any]) -> str:
    """What was published, measured, and could have been detected, in a line."""
    detectable = f"could detect {row['detectable']:.3f}" if row["detectable"] is not None else None
    published = f"the paper: {row['published'] or 'no figure'}"
    measured = "not measured" if row["measured"] in (None, "not measured") else f"measured {row['measured']}"
    return "; ".join(filter(None, (published, measured, detectable, row["why"])))


def _show_cells(console: Console, cells: Sequence[dict[str, Any]], why_not: str | None) -> None:
    """A table for each published row: five metrics fit 80 columns, thirteen columns do not."""
    from rich.table import Table
    from rich.text import Text

    from analysis.load.names import score_name
    from analysis.load.paper_files import letter, meaning

    if not cells:
        return
    console.print("\n[bold underline]Published and measured, on the scripts' scale[/]")
    if why_not is not None:
        console.print(Text(f"Not comparable with this profile. {why_not}", style="dim"))
    for source, row in dict.fromkeys((cell["source"], cell["published_row"]) for cell in cells):
        group = [cell for cell in cells if (cell["source"], cell["published_row"]) == (source, row)]
        run = next((cell["experiment"] for cell in group if cell["experiment"]), None)
        console.print(Text(f"\n{row} ({source}) and {run or 'no run'}", style="bold"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for name, justify in (("Metric", "left"), ("Published", "right"), ("Measured", "right"), ("Verdict", "left")):
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for cell in group:
            spread = cell["published_spread"]
            published = cell["published"] if spread is None else f"{cell['published']} ± {spread}"
            verdict = cell["verdict"].replace("_", " ")
            measured = cell["measured"] or "not measured"
            table.add_row(score_name(cell["metric"]), f"{published} {letter(cell['standing'])}", measured, verdict)
        console.print(table)
    legend = "; ".join(f"{letter(name)} {meaning(name)}" for name in dict.fromkeys(cell["standing"] for cell in cells))
    console.print(Text(f"\nStanding of a published figure: {legend}.", style="dim"))


def _indented(console: Console, text: str, style: str = "") -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(text, style=style), (0, 0, 0, 3), expand=False))
