"""Each method over all tasks of a backbone: interquartile means with a stratified bootstrap."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.judge.comparable import setting_of
from analysis.judge.decision import CONFIDENCE, LEAST_SEEDS
from analysis.judge.number_format import LEVEL, format_interval
from analysis.judge.study import Study
from analysis.load.names import BASELINES, backbone_name, method_key, method_label, method_order
from analysis.load.runs import Experiment
from analysis.show.blocks import Block
from analysis.show.run_tables import record_paths
from analysis.stats.bootstrap import Interval
from analysis.stats.seeds import interquartile_mean, stratified_bootstrap

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
    return Aggregate(backbone, method_key(first.method, first.method_config), label, tasks, seeds, interval)
