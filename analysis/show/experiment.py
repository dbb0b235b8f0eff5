"""`replicate show EXPERIMENT`: one experiment at a glance: settings, curves as sparklines, scores, files.

`replicate show --json` prints one object with these keys: profile, experiment, status, problems, label, backbone, task,
settings (of the method), training, counts (seed -> count -> value), seeds, curves (seed -> {loss, dev_loss} -> first,
lowest, last), scores (metric -> seed -> value), primary, files (path -> bytes).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replication.terminal import console, examples, sparkline, working

if TYPE_CHECKING:
    from analysis.load.runs import Experiment

CURVES = ("loss", "dev_loss")


def register(app: typer.Typer) -> None:
    """Add `show` to the `replicate` command."""
    epilog = examples("replicate show quick/solo_connection", "replicate show cpu/mrpc-600-lora --json")
    app.command("show", epilog=epilog)(show)


def show(
    experiment: Annotated[str, typer.Argument(help="PROFILE/EXPERIMENT, as `replicate runs` lists it.")],
    root: Annotated[Path, typer.Option(help="Folder that holds <profile>/<experiment>/.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show one experiment: settings, curves, scores, files."""
    with working(f"reading {experiment}"):
        found = load(experiment, root)
    if as_json:
        print(json.dumps(as_dict(found), indent=2, ensure_ascii=False))
    else:
        print_experiment(found)


def load(name: str, root: Path) -> Experiment:
    """The experiment `profile/name`; a bare name is looked for in every profile. ConfigError names what is near."""
    import difflib

    from analysis.load.runs import load_profile
    from replication.errors import ConfigError

    names = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*") if path.is_dir())
    chosen = [one for one in names if name in (one, one.partition("/")[2])]
    if len(chosen) > 1:
        raise ConfigError(f"{name}: is in more than one profile; name one of {', '.join(chosen)}")
    if not chosen:
        bare = {one.partition("/")[2]: one for one in names}
        near = [*difflib.get_close_matches(name, names), *map(bare.get, difflib.get_close_matches(name, bare))]
        fix = f"did you mean {', '.join(dict.fromkeys(map(str, near)))}?" if near else "`replicate runs` lists them"
        raise ConfigError(f"{name}: no such experiment in {root}; {fix}")
    profile, _, folder = chosen[0].partition("/")
    return load_profile(root / profile, [folder])[0]


def as_dict(found: Experiment) -> dict[str, Any]:
    """The JSON form; scores on the metric scripts' own scale."""
    from analysis.load.names import method_label

    record, metrics = found.record, found.metrics
    return {
        "profile": found.profile,
        "experiment": found.name,
        "status": found.status,
        "problems": list(found.problems),
        "label": method_label(record.method, record.method_config) if record else None,
        "backbone": record.backbone if record else None,
        "task": record.task if record else None,
        "settings": record.method_config if record else None,
        "training": record.training if record else None,
        "counts": {seed: one.counts.model_dump() for seed, one in found.records.items()},
        "seeds": list(found.seeds),
        "curves": {
            seed: {name: {"first": values[0], "lowest": min(values), "last": values[-1]} for name, values in lines}
            for seed, lines in curves(found).items()
        },
        "scores": {name: {seed: scores[name] for seed, scores in metrics.seeds.items()} for name in metrics.metrics}
        if metrics
        else None,
        "primary": metrics.primary if metrics else None,
        "files": {path.as_posix(): path.stat().st_size for path in files(found.directory)},
    }


def curves(found: Experiment) -> dict[int, list[tuple[str, list[float]]]]:
    """Seed -> the losses that its curve has, without gaps."""
    return {
        seed: [(name, values) for name in CURVES if name in curve and (values := curve[name].dropna().tolist())]
        for seed, curve in found.curves.items()
    }


def files(directory: Path) -> list[Path]:
    """Every file of the run, in order."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def print_experiment(found: Experiment) -> None:
    """The experiment on a terminal of 80 columns or more."""
    from rich.text import Text

    from analysis.judge.number_format import format_bytes, format_counts

    out, record, content = console(), found.record, as_dict(found)
    out.print(Text(f"{found.profile}/{found.name}", style="bold").append(f"  {found.status}", style="default"))
    if record is not None:
        counts = [one.counts for one in found.records.values()]
        adapter, whole = format_counts(one.adapter for one in counts), format_counts(one.total for one in counts)
        trained = f"{adapter} adapter parameters of {whole}"
        out.print(f"{content['label']} on {record.backbone}, {record.corpus.label}: {trained}", markup=False)
        _settings(out, "method", record.method_config)
        _settings(out, "training", record.training)
    for seed, lines in curves(found).items():
        for name, values in lines:
            text = f"{sparkline(values):<28} {values[0]:.3f} → {values[-1]:.3f}, lowest {min(values):.3f}"
            out.print(f"seed {seed:<6} {name:<9} {text}", markup=False, soft_wrap=True)
    if found.metrics is not None:
        out.print(scores_table(content))
    listed = files(found.directory)
    total = format_bytes(sum(path.stat().st_size for path in listed))
    out.print(f"files: {len(listed)} in {found.directory.as_posix()}, {total}", markup=False)
    for problem in found.problems:
        out.print(problem, markup=False, style="yellow", soft_wrap=True)


def _settings(out: Any, title: str, values: Mapping[str, Any]) -> None:
    shown = ", ".join(f"{name} {_text(value)}" for name, value in values.items() if value is not None)
    out.print(f"{title}: {shown}", markup=False)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "+".join(map(_text, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def scores_table(content: Mapping[str, Any]) -> Any:
    """Metrics in rows, seeds in columns while they fit, and the mean."""
    from rich.table import Table

    from analysis.load.names import score_name

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    seeds = content["seeds"] if len(content["seeds"]) <= 5 else []
    scored = len(next(iter(content["scores"].values()), {}))
    table.add_column("score", no_wrap=True)
    for seed in seeds:
        table.add_column(f"seed {seed}", justify="right")
    table.add_column("mean" if seeds and scored == len(seeds) else f"mean of {scored} seeds", justify="right")
    for name, values in content["scores"].items():
        known = [value for value in values.values() if value is not None]
        mean = "–" if len(known) < len(values) else f"{sum(known) / len(known):.4f}"
        cells = ["–" if values.get(seed) is None else f"{values[seed]:.4f}" for seed in seeds]
        table.add_row(score_name(name), *cells, mean, style="bold" if name == content["primary"] else "")
    return table
