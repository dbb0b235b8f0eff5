"""Tables about the runs themselves: cost, corpora, seeds, searches, conditions, and where each table comes from.

Timings never repeat. Where a profile's cost files are committed (cpu), they are an input like any other and the tables
show CPU seconds. Those of the quick profile are not: its tables show the training compute instead, estimated from the
record, so that its page is the same on every machine; cost.html has the times and memory of the machines.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from analysis.judge.number_format import format_bytes, format_count, format_counts, format_flop
from analysis.load.names import backbone_name, score_name, task_name
from analysis.load.runs import Experiment, experiment_labels, read_all_costs
from analysis.load.searches import Search, case_of
from analysis.show.blocks import Block, no_formula
from replication.errors import DataError
from replication.records import Corpus, RunRecord


def page_command(profile: str) -> str:
    """The command that makes a profile's page, tables and figures from its runs."""
    params = "params.yaml" if profile == "quick" else f"pipelines/{profile}/params.yaml"
    return f"python -m pipelines.report --params {params}"


def record_paths(experiments: Sequence[Experiment]) -> tuple[str, ...]:
    """One line per experiment: `runs/quick/lora/training/seed-{18,52}/record.json`; none for one without records."""
    lines = []
    for experiment in experiments:
        if experiment.records:
            seeds = ",".join(map(str, experiment.records))
            seeds = f"{{{seeds}}}" if len(experiment.records) > 1 else seeds
            lines.append(f"runs/{experiment.profile}/{experiment.name}/training/seed-{seeds}/record.json")
    return tuple(lines)


COST_HEADER = "Training cost, each seed"
UNTIMED_PROFILES = ("quick",)  # their cost files are not committed (.gitignore)
HEADERS = (
    "Experiment",
    "Stage",
    "Seed",
    "Seconds by the clock",
    "CPU seconds",
    "Tokens a second",
    "Peak memory",
    "Machine",
    "Git revision",
)
FIELDS = ("profile", "experiment", "stage", "seed", "seconds", "cpu_seconds", "tokens_per_second", "peak_memory_bytes",
          "peak_cuda_memory_bytes", "machine", "git_revision")  # fmt: skip


def training_cost(experiment: Experiment) -> str:
    """`1,363 s` of processor time if it is committed, else an estimate (`0.62 TFLOP`); mean over seeds."""
    seconds = cpu_seconds(experiment)
    if seconds is not None:
        return f"{seconds:,.0f} s"
    compute = training_compute(experiment)
    return "not measured" if compute is None else format_flop(compute)


def training_costs(experiments: Sequence[Experiment]) -> dict[str, str]:
    """Experiment -> `training_cost`."""
    return {experiment.name: training_cost(experiment) for experiment in experiments}


def cost_note(profile: str) -> str:
    """Description of the cost column."""
    estimate = "(4 x all + 2 x trained parameters) x tokens seen, which leaves attention scores out"
    if profile in UNTIMED_PROFILES:
        return (
            f"Training cost: floating-point operations, estimated as {estimate}. CPU seconds never repeat, so this "
            "profile's are only in cost.html."
        )
    return (
        "Training cost: CPU seconds of the process, from the run's committed cost file; if they were not measured, "
        f"floating-point operations, estimated as {estimate}. Time by the clock is on the cost page: other work shared "
        "the machine."
    )


def cpu_seconds(experiment: Experiment) -> float | None:
    """Processor time of training, mean over seeds; None unless every seed's is committed."""
    if experiment.profile in UNTIMED_PROFILES or not experiment.records:
        return None
    try:
        costs = read_all_costs(experiment.directory).get("training", {})
    except DataError:  # the cost page names it
        return None
    found = [costs[seed].cpu_seconds for seed in experiment.records if seed in costs]
    measured = [seconds for seconds in found if seconds is not None]
    return sum(measured) / len(measured) if len(measured) == len(experiment.records) else None


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
            "not measured" if entry["cpu_seconds"] is None else f"{entry['cpu_seconds']:.1f}",
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
    writer.writerows({name: no_formula(value) for name, value in entry.items()} for entry in entries)
    return buffer.getvalue()


# Of the two corpora whose records name none: the E2E dataset's own README (github.com/tuetschek/e2e-dataset), and this
# repository's licence for what it generates.
LICENCES = {"e2e": "CC BY-SA 4.0", "microworld": "Apache-2.0"}
FORMS = {
    "generation": "generation",
    "classification": "classification",
    "regression": "similarity",
    "question_answering": "question answering",
    "summarisation": "summarisation",
    "multiple_choice": "multiple choice",
}


def corpora_block(experiments: Sequence[Experiment]) -> Block:
    """One line per corpus: its label, the rows used, the split measured, its licence and its sha256 or commit."""
    found: dict[tuple[str, int, int, int], Corpus] = {}
    for experiment in experiments:
        if experiment.record is not None:
            corpus = experiment.record.corpus
            sizes = corpus.train_examples, corpus.dev_examples, corpus.test_items
            found.setdefault((corpus.name, *sizes), corpus)
    lines = tuple(
        (
            task_name(corpus.name),
            corpus.label,
            FORMS.get(corpus.form, corpus.form.replace("_", " ")),
            f"{corpus.train_examples:,}",
            f"{corpus.dev_examples:,}",
            f"{corpus.test_items:,}",
            corpus.reported_split,
            licence_of(corpus),
            "; ".join(
                f"{name} {'commit ' if name in corpus.revisions else ''}{identity[:12]}"
                for name, identity in corpus.sha256.items()
            ),
        )
        for corpus in found.values()
    )
    headers = ("Corpus", "What it is", "Form", "Training examples", "Dev examples", "Test examples", "Split",
               "Licence", "sha256, first 12")  # fmt: skip
    return Block("Corpora and their licences", headers, lines, key="corpora", records=record_paths(experiments))


def licence_of(corpus: Corpus) -> str:
    """The licence that the record names, or the one known for its corpus."""
    return corpus.licence or LICENCES.get(corpus.name, "not stated")


def count_block(experiments: Sequence[Experiment]) -> Block:
    """Cost of a run in counts: the same on every machine. Means over seeds; of parameters the fewest and the most."""
    labels = experiment_labels(experiments)
    rows = []
    for experiment in experiments:
        record = experiment.record
        if record is None:
            continue
        compute, seconds = training_compute(experiment), cpu_seconds(experiment)
        records = list(experiment.records.values())
        losses = [one.result.dev_loss for one in records if one.result.dev_loss is not None]
        rows.append(
            (
                labels[experiment.name],
                format_count(record.result.steps),
                format_count(round(fmean(one.result.tokens_seen for one in records))),
                "none" if compute is None else format_flop(compute),
                "not measured" if seconds is None else f"{seconds:,.0f} s",
                format_counts(one.counts.trainable for one in records),
                format_counts(one.counts.total for one in records),
                format_bytes(max(one.adapter.bytes if one.adapter else 0 for one in records))
                if record.adapter
                else "none",
                f"{fmean(losses):.4f}" if losses else "not measured",
            )
        )
    headers = (
        "Experiment",
        "Steps",
        "Tokens seen, mean over seeds",
        "Training compute, estimated",
        "Training, CPU seconds",
        "Trainable parameters",
        "Total parameters",
        "Largest adapter file",
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
    """Hardware and versions of the results; several values if runs differ."""
    found: dict[str, set[str]] = {}
    corpora = {record.corpus.name for experiment in experiments for record in experiment.records.values()}
    for experiment in experiments:
        for record in experiment.records.values():
            values: dict[str, Any] = {**record.conditions.model_dump(), **record.versions}
            values["sha256 of the tolerances"] = record.tolerances_sha256
            for name, digest in record.corpus.sha256.items():
                of = f"{record.corpus.name}: {name}" if len(corpora) > 1 else name
                values[f"{'commit' if name in record.corpus.revisions else 'sha256'} of {of}"] = digest
            for name, value in values.items():
                found.setdefault(name.replace("_", " "), set()).add(str(value))
    return [(name, "; ".join(sorted(values))) for name, values in found.items()]
