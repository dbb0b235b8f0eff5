"""What a run cost: a column that repeats, and cost.html with the times and memory of the machines it ran on.

Timings never repeat. Where a profile's cost files are committed (cpu), they are an input like any other and the tables
show CPU seconds. Those of the quick profile are not: its tables show the training compute instead, estimated from the
record, so that its page is the same on every machine.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from analysis.blocks import Block
from analysis.labels import experiment_labels
from analysis.records import Experiment, read_all_costs
from replication.errors import DataError
from replication.records import Cost, RunRecord

COST_HEADER = "Training cost, each seed"
UNTIMED_PROFILES = ("quick",)  # their cost files are not committed (.gitignore)
FLOP_UNITS = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP")
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


def training_cost(experiment: Experiment) -> str:
    """`1,363 s` of one processor where the timing is committed, else an estimate (`0.62 TFLOP`); mean over seeds."""
    seconds = cpu_seconds(experiment)
    if seconds is not None:
        return f"{seconds:,.0f} s"
    compute = training_compute(experiment)
    return "not measured" if compute is None else format_flop(compute)


def training_costs(experiments: Sequence[Experiment]) -> dict[str, str]:
    """Experiment -> `training_cost`."""
    return {experiment.name: training_cost(experiment) for experiment in experiments}


def cost_note(profile: str) -> str:
    """What the cost column holds, in one line."""
    estimate = "(4 x all + 2 x trained parameters) x tokens seen, which leaves attention scores out"
    if profile in UNTIMED_PROFILES:
        return (
            f"Training cost: floating-point operations, estimated as {estimate}. CPU seconds never repeat, so this "
            "profile's stand in cost.html alone, beside the page."
        )
    return (
        "Training cost: CPU seconds, wall time x threads, from the run's committed cost file; where there is none, "
        f"floating-point operations, estimated as {estimate}."
    )


def cpu_seconds(experiment: Experiment) -> float | None:
    """Wall time x threads of training, mean over seeds; None without a committed cost file for every seed."""
    if experiment.profile in UNTIMED_PROFILES or not experiment.records:
        return None
    try:
        costs = read_all_costs(experiment.directory).get("training", {})
    except DataError:  # the cost page names it
        return None
    if not set(experiment.records) <= set(costs):
        return None
    return sum(_cpu_seconds(costs[seed]) for seed in experiment.records) / len(experiment.records)


def _cpu_seconds(cost: Cost) -> float:
    threads = cost.machine.get("threads")
    return cost.seconds * (threads if isinstance(threads, int) else 1)


def training_compute(experiment: Experiment) -> float | None:
    """Floating-point operations of training, mean over seeds: 2 x parameters x tokens forward, as many for the gradient
    of activations, and 2 x trained parameters x tokens for theirs (Kaplan et al. 2020, appendix B, for 6 N per token).
    """
    if not experiment.records:
        return None
    return sum(_compute(record) for record in experiment.records.values()) / len(experiment.records)


def _compute(record: RunRecord) -> float:
    counts = record.counts_at_start or record.counts
    return float((4 * counts.total + 2 * counts.trainable) * record.result.tokens_seen)


def format_flop(count: float) -> str:
    """`0.618 TFLOP`: powers of 1000, three significant digits."""
    for unit in FLOP_UNITS[:-1]:
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {FLOP_UNITS[-1]}"


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
