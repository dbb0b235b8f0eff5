"""cost.html and cost.csv: time and memory of a profile's runs, on the machines they ran on. Not versioned."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from analysis.records import Experiment, read_all_costs
from analysis.results import experiment_labels
from analysis.tables import Block
from replication.errors import DataError

HEADERS = (
    "Experiment",
    "Stage",
    "Seed",
    "Seconds",
    "Tokens a second",
    "Peak memory",
    "Machine",
    "Git revision",
)
FIELDS = ("profile", "experiment", "stage", "seed", "seconds", "tokens_per_second", "peak_memory_bytes",
          "peak_cuda_memory_bytes", "machine", "git_revision")  # fmt: skip


def collect_costs(experiments: Sequence[Experiment]) -> tuple[list[dict[str, Any]], list[str]]:
    """One entry per experiment, stage and seed, and what could not be read."""
    entries: list[dict[str, Any]] = []
    problems: list[str] = []
    for experiment in experiments:
        try:
            stages = read_all_costs(experiment.directory)
        except DataError as error:
            problems.append(str(error))
            continue
        for stage, costs in stages.items():
            for seed, cost in sorted(costs.items()):
                entry = cost.model_dump()
                entry["machine"] = ", ".join(f"{name} {value}" for name, value in cost.machine.items())
                entries.append(
                    {
                        "profile": experiment.profile,
                        "experiment": experiment.name,
                        "stage": stage,
                        "seed": seed,
                        **entry,
                    }
                )
    return entries, problems


def cost_block(entries: Sequence[dict[str, Any]], experiments: Sequence[Experiment]) -> Block:
    """The entries as a table for people."""
    labels = experiment_labels(experiments)
    rows = tuple(
        (
            labels[entry["experiment"]],
            entry["stage"],
            str(entry["seed"]),
            f"{entry['seconds']:.1f}",
            "not measured" if entry["tokens_per_second"] is None else f"{entry['tokens_per_second']:,.0f}",
            format_bytes(entry["peak_memory_bytes"]),
            entry["machine"],
            (entry["git_revision"] or "not in git")[:12],
        )
        for entry in entries
    )
    notes = ("A process's peak memory never falls: seeds that shared a process share its peak.",) if rows else ()
    return Block("Time and memory", HEADERS, rows, notes)


def cost_csv(entries: Sequence[dict[str, Any]]) -> str:
    """The entries as they are."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return buffer.getvalue()


def format_bytes(count: int) -> str:
    """`912 MB`: powers of 1000, three significant digits."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
