"""Stage `score`: the task's official metrics of every seed's predictions. Imports no torch.

Writes two files in runs/<profile>/<experiment>/: metrics.json, the mean of each metric over seeds, for
`dvc metrics`; and scores.json, with the spread (sample standard deviation), each seed, the hash of each seed's
predictions, and the evaluation protocol in a line where the metrics' names do not say it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.shared.lock import held
from pipelines.shared.settings import Settings, load_settings
from pipelines.shared.stage import DryRun, Params, run_stage, say
from replication.corpora.evaluation import evaluation_line
from replication.corpora.registry import describe
from replication.errors import DataError
from replication.fileio import read_json, remove_leftovers, sha256_file, write_json
from replication.metrics import leading, score_systems
from replication.predictions import full_rows, read_predictions


@dataclass(frozen=True)
class Scored:
    """Scores of every seed on the same examples."""

    metrics: tuple[str, ...]
    primary: str
    items: int
    values: Mapping[int, Mapping[str, float | None]]
    approximate: Sequence[str] = ()
    missing: Sequence[str] = ()
    notes: Sequence[str] = ()


def main(
    params: Params,
    experiment: Annotated[str, typer.Option(help="A name under `experiments`.")],
    dry_run: DryRun = False,
) -> None:
    """Score one experiment."""
    settings = load_settings(params)
    chosen = settings.experiment(experiment)
    task, run = settings.task(chosen.task), Path("runs") / settings.profile / experiment
    if dry_run:
        say(f"would score {experiment} ({task.form}) for seeds {', '.join(map(str, chosen.seeds))}")
        return
    with held(Path("checkpoints") / settings.profile / experiment / "lock", experiment):
        remove_leftovers(run)
        score(settings, experiment, run)


def score(settings: Settings, experiment: str, run: Path) -> None:
    """Score every seed's predictions and write both files."""
    chosen = settings.experiment(experiment)
    task = settings.task(chosen.task)
    card = describe(task.corpus)
    scored = score_seeds(run, chosen.seeds, task.form, card["metric"])
    decoding = run / "predictions" / "decoding.json"
    options = read_json(decoding).get("decoding", {}) if decoding.is_file() else {}
    hashes = {str(seed): sha256_file(predictions_of(run, seed)) for seed in chosen.seeds}
    found = {**summarise(settings, experiment, task.form, scored), "predictions_sha256": hashes}
    if line := evaluation_line(card, options):
        found["evaluation"] = line
    write_json(run / "scores.json", found)
    write_json(run / "metrics.json", {name: found[name] for name in scored.metrics if found[name] is not None})
    shown = {name: over_seeds([scored.values[seed][name] for seed in chosen.seeds], statistics.fmean)
             for name in scored.metrics}  # fmt: skip
    say(f"{experiment}: " + ", ".join(f"{name} {show(value)}" for name, value in shown.items()))


def predictions_of(run: Path, seed: int) -> Path:
    """One seed's predictions."""
    return run / "predictions" / f"seed-{seed}.jsonl"


def score_seeds(run: Path, seeds: tuple[int, ...], form: str, protocol: str) -> Scored:
    """A task's official metrics; DataError if the seeds have different examples."""
    rows = {seed: read_rows(predictions_of(run, seed), form) for seed in seeds}
    items = [_item(row) for row in rows[seeds[0]]]
    for seed in seeds[1:]:
        if [_item(row) for row in rows[seed]] != items:
            raise DataError(
                f"{run}/predictions: seeds {seeds[0]} and {seed} hold different examples; predict this experiment again"
            )
    scores = score_systems(protocol, {f"seed {seed}": rows[seed] for seed in seeds}, progress=say)
    first = scores[f"seed {seeds[0]}"]
    return Scored(
        metrics=tuple(first.values),
        primary=leading(protocol).name,
        items=len(items),
        values={seed: scores[f"seed {seed}"].values for seed in seeds},
        approximate=first.approximate,
        missing=first.missing,
        notes=[f"seed {seed}: {note}" for seed in seeds for note in scores[f"seed {seed}"].notes],
    )


def read_rows(path: Path, form: str) -> Sequence[Mapping[str, Any]]:
    """Full prediction rows; those of generated texts are checked line by line."""
    return read_predictions(path) if form == "generation" else full_rows(path)


def _item(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Which item a row answers."""
    return (row["mr"], *row["references"]) if "mr" in row else (row["id"],)


def summarise(settings: Settings, experiment: str, form: str, scored: Scored) -> dict[str, Any]:
    """The content of scores.json."""
    by_metric = {name: [values[name] for values in scored.values.values()] for name in scored.metrics}
    return {
        "profile": settings.profile,
        "experiment": experiment,
        "form": form,
        "items": scored.items,
        "metrics": list(scored.metrics),
        "primary": scored.primary,
        **{name: over_seeds(values, statistics.fmean) for name, values in by_metric.items()},
        "spread": {
            name: over_seeds(values, statistics.stdev) if len(values) > 1 else None
            for name, values in by_metric.items()
        },
        "seeds": {str(seed): dict(values) for seed, values in scored.values.items()},
        "approximate": list(scored.approximate),
        "missing": list(scored.missing),
        "notes": list(scored.notes),
    }


def over_seeds(values: list[float | None], statistic: Any) -> float | None:
    """A statistic over seeds; None if any seed has no value."""
    present = [value for value in values if value is not None]
    return statistic(present) if len(present) == len(values) else None


def show(value: float | None) -> str:
    """A score for a person."""
    return "not measured" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    run_stage(main)
