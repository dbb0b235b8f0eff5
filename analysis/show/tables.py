"""Tables of results: scores, parameters, what was learned and selected, means over tasks; and the same as csv.

A number is never shown with more digits than it carries: a spread has two significant digits and sets the
places of its mean; one seed has no spread; a published figure keeps its published digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.judge.best import RULE, best, unbeaten_baselines
from analysis.judge.decision import CONFIDENCE, LEAST_SEEDS
from analysis.judge.number_format import (
    LEVEL,
    format_count,
    format_interval,
    format_ratio,
    format_score,
    percent,
    rounded,
    span,
)
from analysis.judge.study import Row, Setting, Study, learned_rule, setting_of, setting_title
from analysis.load.authors import Authors
from analysis.load.names import (
    ARROW,
    BASELINES,
    SELECTING,
    backbone_name,
    is_growing,
    method_label,
    method_order,
    planned_end,
    score_name,
)
from analysis.load.paper_files import METRICS, Figure
from analysis.load.published import PublishedTable, reduction
from analysis.load.runs import GENERATION, Experiment, experiment_labels
from analysis.load.selection import Selection, agreement_of_seeds, short_names
from analysis.show.blocks import Block, Cell, csv_text
from analysis.show.run_tables import COST_HEADER, cost_note, record_paths, training_costs
from analysis.stats.bootstrap import Interval
from analysis.stats.seeds import SeedSummary, interquartile_mean, stratified_bootstrap


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


def results_block(study: Study) -> Block:
    """The generation runs of one profile: every metric, what was trained, and its cost."""
    rows, profile = study.generation.rows_as_given, study.profile
    costs = training_costs(study.generation.experiments)
    corpora = sorted({row.corpus_label for row in rows if row.corpus_label}) or ["unknown corpus"]
    items = sorted({row.items for row in rows if row.items is not None})
    counted = f", {' / '.join(map(str, items))} test examples" if items else ""
    metrics = measured_metrics(rows)
    marks = {metric: marks_of(study.generation, rows, metric) for metric in metrics}
    return Block(
        caption=f"Measured here: {profile} profile, {'; '.join(corpora)}{counted}",
        headers=table_headers(metrics),
        rows=tuple(_result_cells(study, row, metrics, costs[row.experiment], marks) for row in rows),
        notes=(*_result_notes(rows), *((cost_note(profile),) if rows else ())),
        key="results",
        records=record_paths(study.generation.experiments),
        rules=_rules(rows),
    )


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


def marks_of(study: Study, rows: Sequence[Row], metric: str) -> Marks:
    """The marks of the scores of these rows in one metric."""
    return Marks(best(study, rows, metric), unbeaten_baselines(rows, metric))


def published_csv(tables: Sequence[PublishedTable]) -> str:
    """Every published row: digits as published, on the scripts' own scale, with each figure's standing."""
    records = []
    for table in tables:
        for row in table.rows:
            record: dict[str, Any] = {
                "table": table.id,
                "row": row.id,
                "label": row.label,
                "backbone": row.backbone,
                "method": row.method,
                "parameters_printed": row.parameters.text if row.parameters else None,
            }
            for metric in METRICS:
                value, spread = table.scaled(row, metric)
                record |= {
                    metric: value,
                    f"{metric}_spread": spread,
                    f"{metric}_standing": row.cells[metric].standing,
                }
            records.append(record)
    return csv_text(records)


def _result_cells(
    study: Study, row: Row, metrics: Sequence[str], cost: str, marks: Mapping[str, Marks]
) -> tuple[str, ...]:
    first, *others = (marks[metric].cell(row, _approximated(row, metric), metric == metrics[0]) for metric in metrics)
    return (
        row.title if row.status == "complete" else f"{row.title} ({row.status})",
        first,
        format_interval(_over_items(study, row)),
        *others,
        format_count(row.counts.get("trainable")),
        format_count(row.adapter),
        format_ratio(row.to_lora),
        format_ratio(row.to_full),
        cost,
        {0: "none", 1: "one seed"}.get(len(row.seeds), str(len(row.seeds))),
    )


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


# key -> forms, caption, whether a column is a task (its primary metric) or every metric of a task
GROUPS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "glue": (("classification", "regression"), "sentence classification and similarity", False),
    "qa": (("question_answering",), "extractive question answering", True),
    "summaries": (("summarisation",), "summarisation", True),
    "choice": (("multiple_choice",), "multiple choice by likelihood", True),
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
    rows = [row for row in study.rows if row.form in forms]
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
            _score(found.get(task), metric, marks[task, metric], metric == _metrics(rows, task, every_metric)[0])
            for task, metric in columns
        ]
        cost = _same({row.task_title: costs[row.experiment] for row in found.values() if row.counts})
        lines.append((label, *scores, *_counts(found), cost, *_conditions(found)))
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


def parameters_block(study: Study) -> Block:
    """Trained parameters per backbone and method: adapter, importance weights and head, and the ratio to LoRA's."""
    lines = []
    rows = [row for row in study.rows if row.counts and row.method not in BASELINES]
    for backbone in dict.fromkeys(row.backbone for row in rows):
        for label, found in grouped([row for row in rows if row.backbone == backbone]).items():
            start = {task: row.counts_at_start or row.counts for task, row in found.items()}
            lora = {task: _lora_counts(rows, row) for task, row in found.items()}
            lines.append(
                (
                    f"{label}, {backbone_name(backbone)}",
                    _same({row.task_title: format_count(start[task]["adapter"]) for task, row in found.items()}),
                    _same({row.task_title: format_count(start[task]["importance"]) for task, row in found.items()}),
                    *_counts(found),
                    _same({row.task_title: format_count(row.counts["trainable"]) for row in found.values()}),
                    _same({r.task_title: _ratio(r.counts, lora[task], "adapter") for task, r in found.items()}),
                    _same({r.task_title: _ratio(r.counts, lora[task], "trainable") for task, r in found.items()}),
                )
            )
    headers = ("Method", "Adapter parameters in phase 1", "Importance weights in phase 1",
               "Adapter parameters at the end", "Importance weights at the end", "Head parameters", "Trainable in all",
               "of LoRA's adapter", "of LoRA's trainable")  # fmt: skip
    notes = (
        "A ratio of adapter parameters leaves the task head out; a ratio of all trainable parameters includes it. Both "
        "are of counts at the end of training. In phase 1 WeightLoRA trains every adapter and its importance weight.",
    )
    return Block(
        "Trained parameters, exact counts", headers, tuple(lines), notes if lines else (), key="parameters",
        records=record_paths(study.experiments),
    )  # fmt: skip


def counted_block(authors: Authors) -> Block:
    """Counts at DeBERTaV3-base's shapes, by arithmetic: nothing was trained for them."""
    counted = authors.facts.counted
    whole, head = counted.all.number, counted.head.number
    lines = [("LoRA on all", str(counted.adapters), f"{int(whole):,}", "0 %", f"{int(whole + head):,}", "0 %")]
    for keep, figure in counted.kept.items():
        kept = figure.number
        lines.append((
            f"WeightLoRA, K={keep}", str(keep), f"{int(kept):,}", percent(reduction(kept, whole)),
            f"{int(kept + head):,}", percent(reduction(kept + head, whole + head)),
        ))  # fmt: skip
    headers = ("Method", "Adapters", "Adapter parameters", "fewer", "With the task head", "fewer")
    caption = f"Counted, not trained: {backbone_name(counted.backbone)}, r={counted.rank}, query, key and value"
    return Block(
        caption, headers, tuple(lines), (f"The head has {int(head):,} parameters. Standing: {counted.all.standing}.",),
        key="parameters_counted",
    )  # fmt: skip


def scores_csv(study: Study) -> str:
    """One line per experiment and metric, of every form: numbers as they are (six decimals), blanks where none is.

    `items_low` and `items_high` are the ends of the interval over test items, of a generation task's primary metric.
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
                    "to_lora": rounded(row.to_lora), "to_full": rounded(row.to_full),
                    "adapter": row.counts.get("adapter"), "importance": row.counts.get("importance"),
                    "head": row.counts.get("head"), "trainable": row.counts.get("trainable"),
                    "adapter_in_phase_1": (row.counts_at_start or row.counts).get("adapter"), "steps": row.steps,
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


def _score(row: Row | None, metric: str, marks: Marks, first: bool) -> str:
    if row is None or row.status == "missing":
        return "not run"
    summary: SeedSummary | None = row.scores.get(metric)
    text = format_score(summary)
    return marks.cell(row, text if row.status == "complete" else f"{text} ({row.status})", first)


def _counts(found: Mapping[str, Row]) -> tuple[str, str, str]:
    known = [row for row in found.values() if row.counts]
    adapter, importance, head = (
        _same({row.task_title: format_count(row.counts[name]) for row in known})
        for name in ("adapter", "importance", "head")
    )
    return adapter, importance, head


def _conditions(found: Mapping[str, Row]) -> tuple[str, str, str, str]:
    ran = [row for row in found.values() if row.status != "missing"]
    seeds = {row.task_title: "one seed" if len(row.seeds) == 1 else str(len(row.seeds)) for row in ran}
    steps = {row.task_title: format_count(row.steps) for row in ran}
    rates = {row.task_title: _rate(row) for row in ran}
    return _same(seeds), _same(steps), _same(rates), _same({row.task_title: row.rate_found for row in ran})


def _rate(row: Row) -> str:
    if row.learning_rate is None:
        return "none" if row.method in BASELINES else "unknown"
    return f"{row.learning_rate:g}"


def _same(values: Mapping[str, str]) -> str:
    """One value where all tasks have the same, else each with its tasks."""
    if not values:
        return "not run"
    tasks: dict[str, list[str]] = {}
    for task, value in values.items():
        tasks.setdefault(value, []).append(task)
    return next(iter(tasks)) if len(tasks) == 1 else "; ".join(f"{', '.join(n)}: {value}" for value, n in tasks.items())


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
            f"{whole}." + (f" {row.note}" if row.note else "")
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


def _lora_counts(rows: Sequence[Row], row: Row) -> Mapping[str, int]:
    lora = next((other for other in rows if other.method == "lora" and other.setting == row.setting), None)
    return lora.counts if lora else {}


def _ratio(counts: Mapping[str, int], lora: Mapping[str, int], name: str) -> str:
    return format_ratio(counts[name] / lora[name]) if lora.get(name) else "unknown"


def against_logs_block(study: Study, authors: Authors) -> Block:
    """Runs and the authors' logs, only if profile, corpus and log row all allow the comparison."""
    lines = []
    logs = authors.logs
    if authors.facts.why_not_comparable(study.profile) is None:
        for row in study.rows:
            record = next((e.record for e in study.experiments if e.name == row.experiment), None)
            config = record.method_config if record else {}
            same = (row.backbone, row.method, config.get("rank")) == (logs.backbone, "weight_lora", logs.adapters.rank)
            logged = logs.row(row.corpus, int(config.get("keep") or 0))
            if not same or logged is None or not logged.comparable or not row.comparable or row.status != "complete":
                continue
            for metric in row.metrics:
                figure, summary = logged.score(metric), row.scores.get(metric)
                if figure is not None and summary is not None:
                    gap = f"{summary.mean - figure.number:+.3f}".replace("-", "−")
                    lines.append(
                        (row.experiment, logged.id, score_name(metric), format_score(summary), figure.text, gap)
                    )
    headers = ("Run", "Log", "Metric", "Measured", "Logged", "Difference")
    note = "One logged run without a spread: no tolerance is fixed, so the difference has no verdict."
    return Block(
        "Compared with the authors' logs", headers, tuple(lines), (note,) if lines else (), key="beside_logs",
        records=record_paths(study.experiments),
    )  # fmt: skip


LEAST_TASKS = 2


@dataclass(frozen=True)
class Aggregate:
    """One method on one backbone over `tasks`: interquartile mean of the primary metrics, stratified 95 % interval."""

    backbone: str
    method: str
    label: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    over_tasks: Interval

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        found = self.over_tasks
        return {
            "backbone": self.backbone,
            "method": self.method,
            "label": self.label,
            "tasks": list(self.tasks),
            "seeds": list(self.seeds),
            "interquartile_mean": found.estimate,
            "interval": [found.low, found.high],
        }


def aggregates(study: Study) -> list[Aggregate]:
    """Every method that ran with three or more shared seeds on all tasks that LoRA ran on, where those are several; and
    the best trivial baseline of each, where every task has one.
    """
    found = []
    for backbone in dict.fromkeys(setting[0] for setting in study.settings):
        tasks = tuple(setting[1] for setting in study.settings if setting[0] == backbone and study.at(setting, "lora"))
        runs: dict[str, dict[str, Experiment]] = {}
        for experiment in study.experiments:
            record = experiment.record
            if record is not None and record.backbone == backbone and experiment.status == "complete":
                label = method_label(record.method, record.method_config)
                runs.setdefault(label, {}).setdefault(setting_of(experiment)[1], experiment)
        for label, by_task in runs.items():
            if len(tasks) >= LEAST_TASKS and all(task in by_task for task in tasks):
                entry = _aggregate(backbone, label, tasks, [by_task[task] for task in tasks])
                found += [entry] if entry else []
        baselines = _baselines_over_tasks(study, backbone, tasks)
        found += [baselines] if baselines else []
    return sorted(found, key=lambda entry: (entry.backbone, method_order(entry.method), entry.label))


def aggregates_block(study: Study) -> Block:
    """Interquartile means by backbone and method; a backbone with a single method is left out."""
    found = aggregates(study)
    methods = Counter(entry.backbone for entry in found)
    entries = [entry for entry in found if methods[entry.backbone] > 1]
    titles = {row.setting: row.task_title for row in study.rows}
    rows = tuple(
        (
            entry.label,
            backbone_name(entry.backbone),
            f"{entry.over_tasks.estimate:.4f}",
            format_interval(entry.over_tasks) if len(entry.seeds) > 1 else "not measured",
            ", ".join(titles[entry.backbone, task] for task in entry.tasks),
            "one seed" if len(entry.seeds) == 1 else str(len(entry.seeds)),
        )
        for entry in entries
    )
    headers = ("Method", "Backbone", "Interquartile mean", f"{LEVEL}, stratified bootstrap", "Tasks", "Seeds")
    few = min((len(entry.tasks) for entry in entries), default=0)
    notes = (
        "Interquartile mean of the primary scores of all seeds and tasks: the lowest and the highest quarter are left "
        "out. The interval redraws seeds within every task; with few seeds it is too narrow.",
        f"Descriptive: with few tasks (here {few}), whose scores are of different kinds, it ranks nothing, and no "
        "verdict rests on it.",
    )
    return Block("Over tasks: interquartile mean by method", headers, rows, notes, key="aggregates",
                 records=record_paths(study.experiments) if rows else ())  # fmt: skip


def _baselines_over_tasks(study: Study, backbone: str, tasks: tuple[str, ...]) -> Aggregate | None:
    """The best trivial baseline of each task; nothing is drawn, so that its interval is a point."""
    found = [
        [(row, row.scores.get(row.primary or "")) for row in study.rows if row.setting == (backbone, task)]
        for task in tasks
    ]
    scores = [
        [summary.mean for row, summary in rows if row.method in BASELINES and row.status == "complete" and summary]
        for rows in found
    ]
    if len(tasks) < LEAST_TASKS or not all(scores):
        return None
    mean = float(interquartile_mean(np.array([[max(values) for values in scores]])))
    return Aggregate(backbone, BASELINES[0], "Best trivial baseline", tasks, (0,), Interval(mean, mean, mean))


def _aggregate(backbone: str, label: str, tasks: tuple[str, ...], runs: list[Experiment]) -> Aggregate | None:
    metrics, first = [run.metrics for run in runs if run.metrics is not None], runs[0].record
    seeds = tuple(sorted(set.intersection(*(set(found.seeds) for found in metrics)))) if metrics else ()
    if first is None or len(metrics) < len(runs) or len(seeds) < LEAST_SEEDS:
        return None
    scores = [[found.seeds[seed][found.primary] for found in metrics] for seed in seeds]
    if any(score is None for row in scores for score in row):
        return None
    interval = stratified_bootstrap(np.array(scores, dtype=np.float64), confidence=CONFIDENCE)
    return Aggregate(backbone, first.method, label, tasks, seeds, interval)


NO_SCORE = ("samples", "peak_memory", "combined_score")


def selected_block(experiments: Sequence[Experiment]) -> Block:
    """The adapters each run kept, seed by seed, and the agreement of seeds."""
    lines, labels = [], experiment_labels(experiments)
    for experiment in experiments:
        if not experiment.selections:
            continue
        selections = experiment.selections
        first = next(iter(selections.values()))
        every = frozenset.intersection(*(selection.kept for selection in selections.values()))
        agreement = agreement_of_seeds([selection.kept for selection in selections.values() if selection.kept])
        lines.append(
            (
                labels[experiment.name],
                f"{len(first.survivors)} of {len(first.adapters)}",
                "; ".join(f"{seed}: {' '.join(kept_names(found)) or 'none'}" for seed, found in selections.items()),
                " ".join(
                    name for name, a in zip(short_names(first.adapters), first.adapters, strict=True) if a.key in every
                )
                or "none",
                "one seed" if agreement is None else f"{agreement:.2f}",
                f"{len(first.survivors) / len(first.adapters):.2f}",
                "never" if first.removed_at is None else str(first.removed_at),
                str(len(first.projections)),
            )
        )
    headers = ("Experiment", "Kept", "By seed", "In every seed", "Agreement of seeds", "By chance",
               "Losers removed at step", "Projections")  # fmt: skip
    notes = (
        "v11: the value projection of block 11; q and k too; enc, dec and cross are stacks of an encoder-decoder.",
        "Agreement of seeds: adapters that two seeds share over K, mean over pairs; random sets share K / n.",
    )
    return Block(
        "What was selected", headers, tuple(lines), notes if lines else (), key="selected",
        records=record_paths([e for e in experiments if e.selections]),
    )  # fmt: skip


def kept_names(selection: Selection) -> list[str]:
    """Short names of the survivors, in the model's order."""
    names = short_names(selection.adapters)
    return [names[index] for index in sorted(selection.survivors)]


def logs_block(authors: Authors) -> Block:
    """The authors' own logs: primary metric and peak memory per task and K."""
    lines = []
    for row in authors.logs.rows:
        shown = {name: figure for name, figure in row.cells.items() if name not in NO_SCORE}
        scores = "; ".join(f"{name.replace('_', ' ')} {figure.text}" for name, figure in shown.items())
        memory = row.cells["peak_memory"]
        kept = " ".join(f"{name[0]}{name.partition('#')[2]}" for name in row.selected.value)
        lines.append(
            (
                row.task,
                row.split,
                str(row.keep),
                Cell(scores, standing=memory.standing),
                Cell(f"{memory.text} {memory.unit}", standing=memory.standing),
                Cell(kept, standing=row.selected.standing),
            )
        )
    caption = f"{authors.logs.title}: {authors.logs.setup}"
    headers = ("Task", "Split", "K", "Figures", "Peak memory", "Selected")
    return Block(caption, headers, tuple(lines), authors.logs.notes, key="authors_logs")


def selected_csv(experiments: Sequence[Experiment]) -> str:
    """One line per experiment, seed and adapter: kept or not, its last importance weight, its final rank."""
    records = []
    for experiment in experiments:
        for seed, selection in experiment.selections.items():
            last = selection.trace.weights[-1] if selection.trace.weights else None
            for adapter, (group, block) in zip(selection.adapters, selection.blocks, strict=True):
                records.append(
                    {
                        "experiment": experiment.name, "seed": seed, "index": adapter.index, "module": adapter.module,
                        "group": group, "block": block, "kept": str(adapter.index in selection.survivors).lower(),
                        "last_weight": None if last is None else last[adapter.index],
                        "final_rank": selection.final_ranks.get(adapter.index),
                    }
                )  # fmt: skip
    return csv_text(records)


def logs_csv(authors: Authors) -> str:
    """Every figure of the authors' files: name, digits as logged, unit, standing and source."""
    records = []

    def add(part: str, item: str, name: str, figure: Figure) -> None:
        records.append({"part": part, "item": item, "name": name, "value": figure.text, "unit": figure.unit,
                        "standing": figure.standing, "sources": " ".join(figure.sources)})  # fmt: skip

    for row in authors.logs.rows:
        for name, figure in row.cells.items():
            add("log", row.id, name, figure)
    for series in authors.memory.series:
        for keep, figure in series.cells.items():
            add("memory", f"rank {series.rank}", f"{keep} adapters", figure)
    for kind, cells in authors.products.cells.items():
        for name, figure in cells.items():
            add("inner product", kind, name, figure)
    for rates in authors.facts.learning_rates:
        for task, figure in rates.cells.items():
            add("learning rate", f"{rates.backbone} {rates.method} {rates.version}".strip(), task, figure)
    for setting in (*authors.facts.settings, *authors.facts.unreadable):
        add("setting", "", setting.name, setting)
    return csv_text(records)
