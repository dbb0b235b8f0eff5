"""Tables of scores: by metric, by task, whether a task was learned; and the same as csv.

A number is never shown with more digits than it carries: a spread has two significant digits and sets the
places of its mean; one seed has no spread; a published figure keeps its published digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.judge.best import RULE, best, unbeaten_baselines
from analysis.judge.comparable import Setting, setting_title
from analysis.judge.number_format import (
    LEVEL,
    format_count,
    format_counts,
    format_interval,
    format_ratios,
    format_score,
    rounded,
    span,
)
from analysis.judge.study import Row, Study, learned_rule
from analysis.load.authors import Authors
from analysis.load.names import (
    ARROW,
    BASELINES,
    SELECTING,
    backbone_name,
    is_growing,
    planned_end,
    score_name,
)
from analysis.load.paper_files import METRICS
from analysis.load.runs import GENERATION, Experiment
from analysis.show.blocks import Block, Cell, csv_text
from analysis.show.run_tables import COST_HEADER, cost_note, record_paths, training_costs
from analysis.stats.bootstrap import Interval
from analysis.stats.seeds import SeedSummary


def measured_metrics(rows: Sequence[Row]) -> list[str]:
    """The published metrics, then whatever else any of the rows was scored by."""
    return list(dict.fromkeys([*METRICS, *(metric for row in rows for metric in row.scores)]))


def table_headers(metrics: Sequence[str]) -> tuple[str, ...]:
    """Columns of the main table; the first metric with its interval."""
    first, *others = map(score_name, metrics)
    return (
        "Method",
        first,
        f"{LEVEL} over items",
        *others,
        "Trainable parameters",
        "Adapter parameters",
        "of LoRA's adapter",
        "of full's adapter",
        COST_HEADER,
        "Seeds",
    )


def results_block(study: Study, earlier: bool = False) -> Block:
    """The generation runs of one profile: every metric, what was trained, and its cost. `earlier`: those of an earlier
    grid, which had another budget and enter no verdict, instead of the rest.
    """
    profile = study.profile
    compared = {run.name for run in study.compared}
    experiments = [run for run in study.generation.experiments if (run.name not in compared) == earlier]
    names = {run.name for run in experiments}
    rows = [row for row in study.generation.rows_as_given if row.experiment in names]
    costs = training_costs(experiments)
    corpora = sorted({row.corpus_label for row in rows if row.corpus_label}) or ["unknown corpus"]
    items = sorted({row.items for row in rows if row.items is not None})
    counted = f", {' / '.join(map(str, items))} test examples" if items else ""
    metrics = measured_metrics(rows)
    marks = {metric: NO_MARKS if earlier else marks_of(study.generation, rows, metric) for metric in metrics}
    return Block(
        caption=f"{'Earlier runs, in no verdict' if earlier else 'Measured here'}: {profile} profile, "
        f"{'; '.join(corpora)}{counted}",
        headers=table_headers(metrics),
        rows=tuple(_result_cells(study, row, metrics, costs[row.experiment], marks) for row in rows),
        notes=(
            *(_budget(experiments) if earlier else ()),
            *_result_notes(rows),
            *((cost_note(profile),) if rows else ()),
        ),
        key="results_earlier" if earlier else "results",
        records=record_paths(experiments),
        rules=() if earlier else _rules(rows),
    )


def _budget(experiments: Sequence[Experiment]) -> list[str]:
    """How long the runs of an earlier grid trained, where they all did for as long."""
    steps = {run.record.training["steps"] for run in experiments if run.record is not None}
    return [f"Trained for {steps.pop()} steps: not comparable with the runs of the grid."] if len(steps) == 1 else []


def _rules(rows: Sequence[Row]) -> tuple[str, ...]:
    """The explanations that the tables of scores share."""
    return (RULE, *([ARROW] if any(is_growing(row.label) for row in rows) else [])) if rows else ()


@dataclass(frozen=True)
class Marks:
    """What one column of scores says beside its numbers, by experiment."""

    best: frozenset[str]
    unbeaten: frozenset[str]

    def cell(self, row: Row, text: str, first: bool = True) -> Cell:
        """The cell; the first column of a row's task also names predictions that are all alike."""
        words = [row.constant] if first and row.constant else []
        words += ["unbeaten"] if row.experiment in self.unbeaten else []
        return Cell(f"{text} ({', '.join(words)})" if words else text, best=row.experiment in self.best)


NO_MARKS = Marks(frozenset(), frozenset())


def marks_of(study: Study, rows: Sequence[Row], metric: str) -> Marks:
    """The marks of the scores of these rows in one metric."""
    return Marks(best(study, rows, metric), unbeaten_baselines(rows, metric))


def _result_cells(
    study: Study, row: Row, metrics: Sequence[str], cost: str, marks: Mapping[str, Marks]
) -> tuple[str, ...]:
    first, *others = (marks[metric].cell(row, _approximated(row, metric), metric == metrics[0]) for metric in metrics)
    return (
        row.title if row.status == "complete" else f"{row.title} ({row.status})",
        first,
        format_interval(_over_items(study, row)),
        *others,
        format_counts(row.counts.get("trainable")),
        format_counts(row.counts.get("adapter")),
        format_ratios(row.to_lora),
        format_ratios(row.to_full),
        cost,
        {0: "none", 1: "one seed"}.get(len(row.seeds), str(len(row.seeds))),
    )


def _most(ends: tuple[float, float] | None) -> float | None:
    return ends[1] if ends else None


def _over_items(study: Study, row: Row) -> Interval | None:
    experiment = study.named(row.experiment)
    return study.over_items(experiment) if experiment is not None and row.scores else None


def _approximated(row: Row, metric: str) -> str:
    summary = row.scores.get(metric)
    return f"≈ {format_score(summary)}" if metric in row.approximate and summary else format_score(summary)


def _result_notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    if any(len(row.seeds) > 1 for row in rows):
        notes.append("Mean ± sample standard deviation over seeds. A row with one seed has no spread.")
    if any(row.scores for row in rows):
        notes.append(
            f"{LEVEL} over items: bootstrap (BCa) of the seeds' mean BLEU over test items; not a spread over seeds."
        )
    notes.append("Both ratios are of adapter parameters; full's adapter is the whole backbone.")
    approximate = sorted({score_name(name) for row in rows for name in row.approximate})
    if approximate:
        notes.append(
            f"≈ {' and '.join(approximate)} with a pure-Python tokenizer, because there was no Java: approximate."
        )
    notes += [f"{row.experiment}, {note}." for row in rows for note in row.score_notes]
    missing = sorted({score_name(name) for row in rows for name in row.missing})
    if missing:
        notes.append(
            f"{' and '.join(missing)} not measured: the official program needs Java, and there is no substitute."
        )
    return notes


# key -> forms (none: those of no other group), caption, whether every metric of a task has a column, or the primary one
GROUPS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "glue": (("classification", "regression"), "sentence classification and similarity", False),
    "qa": (("question_answering",), "extractive question answering", True),
    "summaries": (("summarisation",), "summarisation", True),
    "choice": (("multiple_choice",), "multiple choice by likelihood", True),
    "other": ((), "other forms", True),
}
DAGGER = "†"
COMPARABLE = {
    True: "the whole official split",
    False: "not the official split: not comparable with published figures",
    None: "comparable or not is not stated",
}


def score_blocks(study: Study, authors: Authors, group: str) -> list[Block]:
    """Tables of one group of `GROUPS`, one per backbone: method x task, with counts, seeds, steps and rates."""
    forms, title, every_metric = GROUPS[group]
    named = {GENERATION, *(form for others, _, _ in GROUPS.values() for form in others)}
    rows = [row for row in study.rows if (row.form in forms if forms else row.form not in named)]
    return [
        _score_block(study, authors, [row for row in rows if row.backbone == backbone], title, every_metric).named(
            f"{group}_{backbone}".replace("-", "_")
        )
        for backbone in dict.fromkeys(row.backbone for row in rows)
    ]


def _score_block(study: Study, authors: Authors, rows: Sequence[Row], title: str, every_metric: bool) -> Block:
    tasks = _tasks(study, rows)
    columns = [(task, metric) for task in tasks for metric in _metrics(rows, task, every_metric)]
    headers = tuple(_header(study, rows, task, metric, every_metric) for task, metric in columns)
    costs = training_costs(study.experiments)
    marks = {
        (task, metric): marks_of(study, [row for row in rows if row.task == task], metric) for task, metric in columns
    }
    lines = []
    for label, found in grouped(rows).items():
        scores = [
            score_text(found.get(task), metric, marks[task, metric], metric == _metrics(rows, task, every_metric)[0])
            for task, metric in columns
        ]
        cost = same({row.task_title: costs[row.experiment] for row in found.values() if row.counts})
        lines.append((label, *scores, *counts_at_end(found), cost, *_conditions(found)))
    profile, backbone = rows[0].profile, backbone_name(rows[0].backbone)
    caption = f"Measured here: {profile} profile, {backbone}, {title}"
    if why := authors.facts.why_not_comparable(profile):
        caption += f"; not comparable with the authors' figures. {why}"
    return Block(
        caption,
        ("Method", *headers, "Adapter parameters", "Importance weights", "Head parameters", COST_HEADER,
         "Seeds", "Steps", "Learning rate", "How the rate was found"),
        tuple(lines),
        (*_task_notes(study, rows, tasks), cost_note(profile)),
        records=record_paths([e for e in study.experiments if e.name in {row.experiment for row in rows}]),
        rules=_rules(rows),
    )  # fmt: skip


def learned_block(study: Study) -> Block:
    """Per backbone and task: LoRA minus frozen, both intervals, and whether the task tests a claim."""
    lines = []
    for setting in study.settings:
        learned = study.learned(setting)
        difference = learned.difference
        over_items = difference.over_items if difference else None
        over_seeds = difference.over_seeds if difference else None
        effect = "not measured"
        if difference is not None:
            effect = f"{difference.effect:+.3f} {score_name(difference.metric)}".replace("-", "−")
        verdict = {"did not learn": "did not learn", "not known": f"not known: {learned.reason}"}
        lines.append(
            (
                setting_title(study.experiments, setting),
                effect,
                span(over_items) if over_items else "not measured",
                span(over_seeds) if over_seeds else "not measured",
                str(len(difference.seeds)) if difference else "none",
                verdict.get(learned.verdict, learned.verdict),
            )
        )
    headers = ("Task", "LoRA minus frozen", f"{LEVEL} over items", f"{LEVEL} over seeds", "Shared seeds", "Verdict")
    return Block(
        "Was the task learned? Only then does it test a claim", headers, tuple(lines),
        (learned_rule(study.judgement),),
        key="learned", records=record_paths(study.experiments),
    )  # fmt: skip


def scores_csv(study: Study) -> str:
    """One line per experiment and metric, of every form: numbers as they are (six decimals), blanks where none is.

    `items_low` and `items_high` are the ends of the interval over test items, of a generation task's primary metric.
    Parameter counts and their ratios are the most of any seed.
    `best` and `unbeaten` are the marks of the tables, `constant_seeds` the seeds that predict the same for every
    example.
    """
    records: list[Mapping[str, Any]] = []
    marks = _all_marks(study)
    learned = {row.setting: study.learned(row.setting).verdict for row in study.rows}
    for row in study.rows:
        for metric in row.metrics or ("",):
            summary = row.scores.get(metric)
            interval = _over_items(study, row) if row.form == GENERATION and metric == row.primary else None
            records.append(
                {
                    "profile": row.profile, "experiment": row.experiment, "method": row.method, "label": row.label,
                    "backbone": row.backbone, "task": row.task, "corpus": row.corpus, "corpus_label": row.corpus_label,
                    "split": row.split, "comparable": "" if row.comparable is None else str(row.comparable).lower(),
                    "licence": row.licence, "form": row.form, "status": row.status, "metric": metric,
                    "primary": str(metric == row.primary).lower(),
                    "mean": rounded(summary.mean if summary else None),
                    "spread": rounded(summary.standard_deviation if summary else None),
                    "items_low": rounded(interval.low if interval else None),
                    "items_high": rounded(interval.high if interval else None),
                    "approximate": str(metric in row.approximate).lower(),
                    "items": row.items, "seeds": " ".join(map(str, row.seeds)),
                    "to_lora": rounded(_most(row.to_lora)), "to_full": rounded(_most(row.to_full)),
                    **{name: _most(row.counts.get(name)) for name in ("adapter", "importance", "head", "trainable")},
                    "adapter_in_phase_1": _most((row.counts_at_start or row.counts).get("adapter")), "steps": row.steps,
                    "learning_rate": row.learning_rate, "rate_found": row.rate_found, "learned": learned[row.setting],
                    "best": str(row.experiment in marks[row.setting, metric].best).lower(),
                    "unbeaten": str(row.experiment in marks[row.setting, metric].unbeaten).lower(),
                    "constant_seeds": " ".join(map(str, row.constant_seeds)),
                }
            )  # fmt: skip
    return csv_text(records)


def _all_marks(study: Study) -> dict[tuple[Setting, str], Marks]:
    """Backbone and task, metric -> marks."""
    found = {}
    for setting in dict.fromkeys(row.setting for row in study.rows):
        rows = [row for row in study.rows if row.setting == setting]
        for metric in dict.fromkeys(metric for row in rows for metric in row.metrics or ("",)):
            found[setting, metric] = marks_of(study, rows, metric)
    return found


def grouped(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Method label -> task -> row; a second experiment of the same label and task gets its name added."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        label = row.label if row.task not in found.get(row.label, {}) else f"{row.label} [{row.experiment}]"
        found.setdefault(label, {})[row.task] = row
    return found


def _tasks(study: Study, rows: Sequence[Row]) -> list[str]:
    return list(
        dict.fromkeys(
            task for _, task in study.settings + [row.setting for row in rows] if task in {row.task for row in rows}
        )
    )


def _metrics(rows: Sequence[Row], task: str, every: bool) -> tuple[str, ...]:
    scored = next((row for row in rows if row.task == task and row.metrics), None)
    if scored is None or scored.primary is None:
        return ("",)
    return scored.metrics if every else (scored.primary,)


def _header(study: Study, rows: Sequence[Row], task: str, metric: str, every: bool) -> str:
    row = next((row for row in rows if row.task == task and row.corpus), rows[0])
    mark = f" {DAGGER}" if study.learned((row.backbone, task)).verdict != "learned" else ""
    return f"{row.task_title}{mark}, {score_name(metric)}" if metric else f"{row.task_title}{mark}"


def score_text(row: Row | None, metric: str, marks: Marks, first: bool) -> str:
    """A cell of scores with its marks; `first` of the row's columns for this task."""
    if row is None or row.status == "missing":
        return "not run"
    summary: SeedSummary | None = row.scores.get(metric)
    text = format_score(summary)
    return marks.cell(row, text if row.status == "complete" else f"{text} ({row.status})", first)


def counts_at_end(found: Mapping[str, Row]) -> tuple[str, str, str]:
    """Adapter, importance and head parameters of one method, by task where they differ."""
    known = [row for row in found.values() if row.counts]
    adapter, importance, head = (
        same({row.task_title: format_counts(row.counts[name]) for row in known})
        for name in ("adapter", "importance", "head")
    )
    return adapter, importance, head


def _conditions(found: Mapping[str, Row]) -> tuple[str, str, str, str]:
    ran = [row for row in found.values() if row.status != "missing"]
    seeds = {row.task_title: "one seed" if len(row.seeds) == 1 else str(len(row.seeds)) for row in ran}
    steps = {row.task_title: format_count(row.steps) for row in ran}
    rates = {row.task_title: _rate(row) for row in ran}
    return same(seeds), same(steps), same(rates), same({row.task_title: row.rate_found for row in ran})


def _rate(row: Row) -> str:
    if row.learning_rate is None:
        return "none" if row.method in BASELINES else "unknown"
    return f"{row.learning_rate:g}"


def same(values: Mapping[str, str]) -> str:
    """One value if all tasks have the same, else each with its tasks."""
    if not values:
        return "not run"
    tasks: dict[str, list[str]] = {}
    for task, value in values.items():
        tasks.setdefault(value, []).append(task)
    return next(iter(tasks)) if len(tasks) == 1 else "; ".join(f"{', '.join(n)}: {value}" for value, n in tasks.items())


def _held_out(run: Experiment | None) -> str:
    corpus = run.record.corpus if run and run.record else None
    if corpus is None or not corpus.dev_examples:
        return ""
    dev, train = f"{corpus.dev_examples:,}", f"{corpus.train_examples:,}"
    return f" Of the training rows {dev} give the dev loss, the updates draw on {train}."


def _task_notes(study: Study, rows: Sequence[Row], tasks: Sequence[str]) -> list[str]:
    notes = []
    for task in tasks:
        row = next((row for row in rows if row.task == task and row.corpus_label), None)
        if row is None:
            continue
        whole = COMPARABLE[row.comparable]
        items = "not scored" if row.items is None else f"{row.items:,} examples"
        notes.append(
            f"{row.task_title}: {row.corpus_label}, {row.split} split, {items}; licence {row.licence or 'not stated'}; "
            f"{whole}." + (f" {row.note.rstrip('.')}." if row.note else "") + _held_out(study.named(row.experiment))
        )
        lines = dict.fromkeys(found.evaluation for found in rows if found.task == task and found.evaluation)
        notes += [f"{row.task_title}, evaluation: {line}." for line in lines]
        steps = {found.steps for found in rows if found.task == task and found.steps}  # a baseline takes none
        if len(steps) > 1:
            notes.append(
                f"{row.task_title}: UNEQUAL steps, {', '.join(map(str, sorted(steps)))}; those runs are not compared."
            )
    notes += [note for row in rows if (run := study.named(row.experiment)) for note in unplanned_ends(run)]
    if any(study.learned((rows[0].backbone, task)).verdict != "learned" for task in tasks):
        notes.append(
            f"{DAGGER} LoRA does not clearly beat the frozen backbone there, or that is not known: it tests no claim."
        )
    if any(len(row.seeds) > 1 for row in rows):
        notes.append("Mean ± sample standard deviation over seeds; fractions and correlations. One seed has no spread.")
    return notes


def unplanned_ends(experiment: Experiment) -> list[str]:
    """A note on each seed whose adapters at the end are not those of its label: a survivor with weight zero leaves."""
    record = experiment.record
    if record is None or record.method not in SELECTING:
        return []
    keep, rank = planned_end(record.method, record.method_config)
    notes = []
    for seed, selection in experiment.selections.items():
        count, ranks = len(selection.survivors), {selection.final_ranks[index] for index in selection.survivors
                                                  if index in selection.final_ranks}  # fmt: skip
        if (keep is not None and count != keep) or (rank is not None and ranks - {rank}):
            found = " and ".join(f"r={rank}" for rank in sorted(ranks)) or "unknown rank"
            notes.append(f"{experiment.name}, seed {seed}: {count} adapters at {found} are left at the end.")
    return notes
