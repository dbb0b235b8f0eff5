"""Where a table comes from: the command that makes it and the files it was made from."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.records import Experiment


def page_command(profile: str) -> str:
    """The command that makes a profile's page, tables and figures from its runs."""
    params = "params.yaml" if profile == "quick" else f"pipelines/{profile}/params.yaml"
    return f"python -m pipelines.report --params {params}"


def record_paths(experiments: Sequence[Experiment]) -> tuple[str, ...]:
    """One line an experiment: `runs/quick/lora/training/seed-{18,52}/record.json`; none for one without records."""
    lines = []
    for experiment in experiments:
        if experiment.records:
            seeds = ",".join(map(str, experiment.records))
            seeds = f"{{{seeds}}}" if len(experiment.records) > 1 else seeds
            lines.append(f"runs/{experiment.profile}/{experiment.name}/training/seed-{seeds}/record.json")
    return tuple(lines)
