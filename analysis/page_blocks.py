"""Small tables of the report page that hold for both papers: cost by count, seeds, searches, conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.blocks import Block
from analysis.costs import cost_note, cpu_seconds, format_bytes, format_flop, training_compute
from analysis.labels import backbone_name, experiment_labels, score_name, task_name
from analysis.records import Experiment
from analysis.searches import Search, case_of
from analysis.tables import format_count


def count_block(experiments: Sequence[Experiment]) -> Block:
    """What a run costs by count: the same on every machine."""
    labels = experiment_labels(experiments)
    rows = []
    for experiment in experiments:
        record = experiment.record
        if record is None:
            continue
        compute, seconds = training_compute(experiment), cpu_seconds(experiment)
        losses = [r.result.dev_loss for r in experiment.records.values() if r.result.dev_loss is not None]
        rows.append(
            (
                labels[experiment.name],
                format_count(record.result.steps),
                format_count(record.result.tokens_seen),
                "none" if compute is None else format_flop(compute),
                "not versioned" if seconds is None else f"{seconds:,.0f} s",
                format_count(record.counts.trainable),
                format_count(record.counts.total),
                format_bytes(record.adapter.bytes) if record.adapter else "none",
                f"{sum(losses) / len(losses):.4f}" if losses else "not measured",
            )
        )
    headers = (
        "Experiment",
        "Steps",
        "Tokens seen",
        "Training compute, estimated",
        "Training, CPU seconds",
        "Trainable parameters",
        "Total parameters",
        "Adapter file",
        "Final dev loss, mean over seeds",
    )
    notes = tuple(cost_note(profile) for profile in dict.fromkeys(e.profile for e in experiments))
    return Block("Cost, each seed", headers, tuple(rows), notes, key="cost")


def seeds_block(experiments: Sequence[Experiment]) -> Block:
    """Which seeds each experiment has, with the primary score of each."""
    labels = experiment_labels(experiments)
    rows = []
    for experiment in experiments:
        metrics = experiment.metrics
        scores = metrics.seeds if metrics else {}
        metric = metrics.primary if metrics else ""
        shown = [
            f"{seed}: {value:.4f}" if (value := scores.get(seed, {}).get(metric)) is not None else f"{seed}: not scored"
            for seed in experiment.seeds
        ]
        named = score_name(metric) if metric else "not scored"
        rows.append((labels[experiment.name], experiment.status, named, ", ".join(shown) or "none"))
    headers = ("Experiment", "Status", "Score", "Seed: score")
    return Block("Primary score of each seed", headers, tuple(rows), key="seeds")


EDGE = " (edge)"
EDGE_NOTE = (
    "(edge): the best is still the outermost of what was tried, the one candidate beyond the edge that any method may "
    "have included: a rate farther out was not tried and may be better."
)


def search_block(searches: Mapping[str, Search], experiments: Sequence[Experiment]) -> Block:
    """Which learning rates were tried, on what, and which experiments use the outcome."""
    users: dict[str, list[str]] = {}
    for experiment in experiments:
        case = case_of(experiment, searches)
        if case is not None:
            users.setdefault(case, []).append(experiment.name)
    rows = []
    for case, search in searches.items():
        if not search.tried:
            continue
        tried = ", ".join(
            f"{entry.learning_rate:g}: "
            f"{'diverged' if entry.held_out_loss is None else format(entry.held_out_loss, '.4f')}"
            for entry in search.tried
        )
        where = [task_name(search.task)] if search.task else []
        where += [backbone_name(search.backbone)] if search.backbone else []
        rows.append(
            (
                case,
                " on ".join(where) or "the experiment's own task",
                "unknown" if search.steps is None else str(search.steps),
                f"{search.best:g}{EDGE if search.at_edge else ''}" if search.best else "none",
                tried,
                ", ".join(users.get(case, [])) or "none",
            )
        )
    return Block(
        "Learning rates: the same candidates for every method, compared on a held-out part of the training split",
        ("Search", "On", "Steps", "Best", "Tried: loss on the held-out part", "Used by"),
        tuple(rows),
        (EDGE_NOTE,) if any(search.at_edge for search in searches.values()) else (),
        key="learning_rates",
    )


def conditions(experiments: Sequence[Experiment]) -> list[tuple[str, str]]:
    """What the results were computed with; several values stand side by side where runs differ."""
    found: dict[str, set[str]] = {}
    corpora = {record.corpus.name for experiment in experiments for record in experiment.records.values()}
    for experiment in experiments:
        for record in experiment.records.values():
            values: dict[str, Any] = {**record.conditions.model_dump(), **record.versions}
            values["sha256 of the tolerances"] = record.tolerances_sha256
            for name, digest in record.corpus.sha256.items():
                of = f"{record.corpus.name}: {name}" if len(corpora) > 1 else name
                values[f"sha256 of {of}"] = digest
            for name, value in values.items():
                found.setdefault(name.replace("_", " "), set()).add(str(value))
    return [(name, "; ".join(sorted(values))) for name, values in found.items()]
