"""Stage `score`: the five E2E metrics of every seed's predictions. Imports no torch.

Writes runs/<profile>/<experiment>/metrics.json: the mean over seeds, the spread (sample standard deviation), each seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.settings import Settings, load_settings
from pipelines.stage import DryRun, Params, run_stage, say
from replication.fileio import write_json
from replication.metrics import METRICS, E2EScores, score_many
from replication.predictions import read_predictions


def main(
    params: Params,
    experiment: Annotated[str, typer.Option(help="A name under `experiments`.")],
    dry_run: DryRun = False,
) -> None:
    """Score one experiment."""
    settings = load_settings(params)
    seeds = settings.experiment(experiment).seeds
    run = Path("runs") / settings.profile / experiment
    if dry_run:
        say(f"would score {experiment} for seeds {', '.join(map(str, seeds))}: {', '.join(METRICS)}")
        return
    scores, items = score_seeds(run, seeds)
    metrics = summarise(settings, experiment, scores, items)
    write_json(run / "metrics.json", metrics)
    say(f"{experiment}: " + ", ".join(f"{name} {show(metrics[name])}" for name in METRICS))


def score_seeds(run: Path, seeds: tuple[int, ...]) -> tuple[dict[int, E2EScores], int]:
    """Scores by seed and the number of items, which all seeds share."""
    rows = {seed: read_predictions(run / "predictions" / f"seed-{seed}.jsonl") for seed in seeds}
    references = [row["references"] for row in rows[seeds[0]]]
    systems = {f"seed {seed}": [row["prediction"] for row in rows[seed]] for seed in seeds}
    scores = score_many(systems, references, progress=say)
    return {seed: scores[f"seed {seed}"] for seed in seeds}, len(references)


def summarise(settings: Settings, experiment: str, scores: Mapping[int, E2EScores], items: int) -> dict[str, Any]:
    """The content of metrics.json."""
    first = next(iter(scores.values()))
    by_metric = {name: [score.values[name] for score in scores.values()] for name in METRICS}
    return {
        "profile": settings.profile,
        "experiment": experiment,
        "items": items,
        **{name: over_seeds(values, statistics.fmean) for name, values in by_metric.items()},
        "spread": {
            name: over_seeds(values, statistics.stdev) if len(values) > 1 else None
            for name, values in by_metric.items()
        },
        "seeds": {str(seed): dict(score.values) for seed, score in scores.items()},
        "approximate": list(first.approximate),
        "missing": list(first.missing),
        "notes": [f"seed {seed}: {note}" for seed, score in scores.items() for note in score.notes],
    }


def over_seeds(values: list[float | None], statistic: Any) -> float | None:
    """A statistic over seeds; None when any seed has no value."""
    present = [value for value in values if value is not None]
    return statistic(present) if len(present) == len(values) else None


def show(value: float | None) -> str:
    """A score for a person."""
    return "not measured" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    run_stage(main)
