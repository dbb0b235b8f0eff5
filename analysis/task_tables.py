"""Tables of the task forms: scores by method and task, what was learned, parameters; and the scores as csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.authors import Authors
from analysis.blocks import Block, csv_text, with_best
from analysis.costs import COST_HEADER, cost_note, training_costs
from analysis.counted import reduction
from analysis.labels import backbone_name, score_name
from analysis.names import BASELINES
from analysis.provenance import record_paths
from analysis.statistics import SeedSummary
from analysis.tables import format_count, format_ratio, format_score, rounded
from analysis.task_results import TaskRow, TaskStudy, place_title
from analysis.wording import percent, span
from replication.metrics import named

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
    False: "not the official split: compares with no printed figure",
    None: "comparable or not is not stated",
}


def score_blocks(study: TaskStudy, authors: Authors, group: str) -> list[Block]:
    """Tables of one group of `GROUPS`, one per backbone: method x task, with counts, seeds, steps and rates."""
    forms, title, every_metric = GROUPS[group]
    rows = [row for row in study.rows if row.form in forms]
    return [
        _score_block(study, authors, [row for row in rows if row.backbone == backbone], title, every_metric).named(
            f"{group}_{backbone}".replace("-", "_")
        )
        for backbone in dict.fromkeys(row.backbone for row in rows)
    ]


def _score_block(study: TaskStudy, authors: Authors, rows: Sequence[TaskRow], title: str, every_metric: bool) -> Block:
    tasks = _tasks(study, rows)
    columns = [(task, metric) for task in tasks for metric in _metrics(rows, task, every_metric)]
    headers = tuple(_header(study, rows, task, metric, every_metric) for task, metric in columns)
    costs = training_costs(study.experiments)
    lines = []
    for label, found in grouped(rows).items():
        scores = [_score(found.get(task), metric) for task, metric in columns]
        cost = _same({row.task_title: costs[row.experiment] for row in found.values() if row.counts})
        lines.append((label, *scores, *_counts(found), cost, *_conditions(found)))
    scored = {
        number: direction
        for number, (task, metric) in enumerate(columns, start=1)
        if (direction := _higher_is_better(rows, task, metric)) is not None
    }
    profile, backbone = rows[0].profile, backbone_name(rows[0].backbone)
    caption = f"Measured here: {profile} profile, {backbone}, {title}"
    if why := authors.facts.why_not_comparable(profile):
        caption += f"; not comparable with the authors' figures. {why}"
    return Block(
        caption,
        ("Method", *headers, "Adapter parameters", "Importance weights", "Head parameters", COST_HEADER,
         "Seeds", "Steps", "Learning rate", "How the rate was found"),
        with_best(lines, scored),
        (*_notes(study, rows, tasks), cost_note(profile)),
        records=record_paths([e for e in study.experiments if e.name in {row.experiment for row in rows}]),
    )  # fmt: skip


def learned_block(study: TaskStudy, authors: Authors) -> Block:
    """Per backbone and task: LoRA minus frozen, both intervals, and whether the task tests a claim."""
    lines = []
    for place in study.places:
        learned = study.learned(place)
        difference = learned.difference
        over_items = difference.over_items if difference else None
        over_seeds = difference.over_seeds if difference else None
        effect = "not measured"
        if difference is not None:
            effect = f"{difference.effect:+.3f} {score_name(difference.metric)}".replace("-", "−")
        verdict = {"did not learn": "inconclusive: did not learn", "not known": f"not known: {learned.reason}"}
        lines.append(
            (
                place_title(study.experiments, place),
                effect,
                span(over_items) if over_items else "not measured",
                span(over_seeds) if over_seeds else "not measured",
                str(len(difference.seeds)) if difference else "none",
                verdict.get(learned.word, learned.word),
            )
        )
    headers = ("Task", "LoRA minus frozen", "95 % over items", "95 % over seeds", "Shared seeds", "Verdict")
    return Block(
        "Was the task learned? Only then does it test a claim", headers, tuple(lines), (authors.facts.rules.learned,),
        key="learned", records=record_paths(study.experiments),
    )  # fmt: skip


def parameters_block(study: TaskStudy) -> Block:
    """Trained parameters per backbone and method, adapter, importance weights and head apart, beside LoRA's."""
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


def scores_csv(study: TaskStudy) -> str:
    """One line per experiment and metric: numbers as they are (six decimals), blanks where there is none."""
    records: list[Mapping[str, Any]] = []
    learned = {place: study.learned(place).word for place in study.places}
    for row in study.rows:
        for metric in row.metrics or ("",):
            summary = row.scores.get(metric)
            records.append(
                {
                    "profile": row.profile, "experiment": row.experiment, "method": row.method, "label": row.label,
                    "backbone": row.backbone, "task": row.task, "corpus": row.corpus, "corpus_label": row.corpus_label,
                    "split": row.split, "comparable": "" if row.comparable is None else str(row.comparable).lower(),
                    "licence": row.licence, "form": row.form, "status": row.status, "metric": metric,
                    "primary": str(metric == row.primary).lower(),
                    "mean": rounded(summary.mean if summary else None),
                    "spread": rounded(summary.standard_deviation if summary else None),
                    "items": row.items, "seeds": " ".join(map(str, row.seeds)),
                    "adapter": row.counts.get("adapter"), "importance": row.counts.get("importance"),
                    "head": row.counts.get("head"), "trainable": row.counts.get("trainable"),
                    "adapter_in_phase_1": (row.counts_at_start or row.counts).get("adapter"), "steps": row.steps,
                    "learning_rate": row.learning_rate, "rate_found": row.rate_found, "learned": learned[row.place],
                }
            )  # fmt: skip
    return csv_text(records)


def grouped(rows: Sequence[TaskRow]) -> dict[str, dict[str, TaskRow]]:
    """Method label -> task -> row; a second experiment of the same label and task gets its name added."""
    found: dict[str, dict[str, TaskRow]] = {}
    for row in rows:
        label = row.label if row.task not in found.get(row.label, {}) else f"{row.label} [{row.experiment}]"
        found.setdefault(label, {})[row.task] = row
    return found


def _tasks(study: TaskStudy, rows: Sequence[TaskRow]) -> list[str]:
    order = [task for _, task in study.places]
    return sorted({row.task for row in rows}, key=order.index)


def _metrics(rows: Sequence[TaskRow], task: str, every: bool) -> tuple[str, ...]:
    scored = next((row for row in rows if row.task == task and row.metrics), None)
    if scored is None or scored.primary is None:
        return ("",)
    return scored.metrics if every else (scored.primary,)


def _higher_is_better(rows: Sequence[TaskRow], task: str, metric: str) -> bool | None:
    """None where the task was not scored."""
    row = next((row for row in rows if row.task == task and metric in row.metrics), None)
    return named(metric, row.form, row.protocol).higher_is_better if row else None


def _header(study: TaskStudy, rows: Sequence[TaskRow], task: str, metric: str, every: bool) -> str:
    row = next((row for row in rows if row.task == task and row.corpus), rows[0])
    mark = f" {DAGGER}" if study.learned((row.backbone, task)).word != "learned" else ""
    return f"{row.task_title}{mark}, {score_name(metric)}" if metric else f"{row.task_title}{mark}"


def _score(row: TaskRow | None, metric: str) -> str:
    if row is None or row.status == "missing":
        return "not run"
    summary: SeedSummary | None = row.scores.get(metric)
    text = format_score(summary)
    return text if row.status == "complete" else f"{text} ({row.status})"


def _counts(found: Mapping[str, TaskRow]) -> tuple[str, str, str]:
    known = [row for row in found.values() if row.counts]
    adapter, importance, head = (
        _same({row.task_title: format_count(row.counts[name]) for row in known})
        for name in ("adapter", "importance", "head")
    )
    return adapter, importance, head


def _conditions(found: Mapping[str, TaskRow]) -> tuple[str, str, str, str]:
    ran = [row for row in found.values() if row.status != "missing"]
    seeds = {row.task_title: "one seed" if len(row.seeds) == 1 else str(len(row.seeds)) for row in ran}
    steps = {row.task_title: format_count(row.steps) for row in ran}
    rates = {row.task_title: _rate(row) for row in ran}
    return _same(seeds), _same(steps), _same(rates), _same({row.task_title: row.rate_found for row in ran})


def _rate(row: TaskRow) -> str:
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


def _notes(study: TaskStudy, rows: Sequence[TaskRow], tasks: Sequence[str]) -> list[str]:
    notes = []
    for task in tasks:
        row = next((row for row in rows if row.task == task and row.corpus_label), None)
        if row is None:
            continue
        whole = COMPARABLE[row.comparable]
        items = "not scored" if row.items is None else f"{row.items:,} items"
        notes.append(
            f"{row.task_title}: {row.corpus_label}, {row.split} split, {items}; licence {row.licence or 'not stated'}; "
            f"{whole}." + (f" {row.note}" if row.note else "")
        )
        steps = {found.steps for found in rows if found.task == task and found.steps}  # a baseline takes none
        if len(steps) > 1:
            notes.append(
                f"{row.task_title}: UNEQUAL steps, {', '.join(map(str, sorted(steps)))}; those runs are not compared."
            )
    if any(study.learned((rows[0].backbone, task)).word != "learned" for task in tasks):
        notes.append(
            f"{DAGGER} LoRA does not clearly beat the frozen backbone there, or that is not known: it tests no claim."
        )
    if any(len(row.seeds) > 1 for row in rows):
        notes.append("Mean ± sample standard deviation over seeds; fractions and correlations. One seed has no spread.")
    return notes


def _lora_counts(rows: Sequence[TaskRow], row: TaskRow) -> Mapping[str, int]:
    lora = next((other for other in rows if other.method == "lora" and other.place == row.place), None)
    return lora.counts if lora else {}


def _ratio(counts: Mapping[str, int], lora: Mapping[str, int], name: str) -> str:
    return format_ratio(counts[name] / lora[name]) if lora.get(name) else "unknown"


def against_logs_block(study: TaskStudy, authors: Authors) -> Block:
    """Runs beside the authors' logs, only where profile, corpus and log row all say that they may be compared."""
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
    note = "One logged run without a spread: no tolerance is fixed, so the difference stands without a verdict."
    return Block(
        "Beside the authors' own logs", headers, tuple(lines), (note,) if lines else (), key="beside_logs",
        records=record_paths(study.experiments),
    )  # fmt: skip
