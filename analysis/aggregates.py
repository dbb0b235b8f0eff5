"""Scores over several tasks at once: the interquartile mean of a method on one backbone. It decides nothing.

A mean over tasks is moved by one task that did not learn; the middle half of all seeds and tasks is not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.blocks import Block
from analysis.decision import LEAST_SEEDS
from analysis.labels import backbone_name, method_label, method_order
from analysis.provenance import record_paths
from analysis.records import Experiment
from analysis.statistics import Interval, stratified_bootstrap
from analysis.tables import format_interval
from analysis.task_results import TaskStudy, place_of

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


def aggregates(study: TaskStudy) -> list[Aggregate]:
    """Every method that ran with three or more shared seeds on all tasks that LoRA ran on, where those are several."""
    found = []
    for backbone in dict.fromkeys(place[0] for place in study.places):
        tasks = tuple(place[1] for place in study.places if place[0] == backbone and study.at(place, "lora"))
        runs: dict[str, dict[str, Experiment]] = {}
        for experiment in study.experiments:
            record = experiment.record
            if record is not None and record.backbone == backbone and experiment.status == "complete":
                label = method_label(record.method, record.method_config)
                runs.setdefault(label, {}).setdefault(place_of(experiment)[1], experiment)
        for label, by_task in runs.items():
            if len(tasks) >= LEAST_TASKS and all(task in by_task for task in tasks):
                entry = _aggregate(backbone, label, tasks, [by_task[task] for task in tasks])
                found += [entry] if entry else []
    return sorted(found, key=lambda entry: (entry.backbone, method_order(entry.method), entry.label))


def aggregates_block(study: TaskStudy) -> Block:
    """Interquartile means by backbone and method; a backbone with a single method has nothing to set beside it."""
    found = aggregates(study)
    methods = Counter(entry.backbone for entry in found)
    entries = [entry for entry in found if methods[entry.backbone] > 1]
    titles = {row.place: row.task_title for row in study.rows}
    rows = tuple(
        (
            entry.label,
            backbone_name(entry.backbone),
            f"{entry.over_tasks.estimate:.4f}",
            format_interval(entry.over_tasks),
            ", ".join(titles[entry.backbone, task] for task in entry.tasks),
            str(len(entry.seeds)),
        )
        for entry in entries
    )
    headers = ("Method", "Backbone", "Interquartile mean", "95 %, stratified bootstrap", "Tasks", "Seeds")
    few = min((len(entry.tasks) for entry in entries), default=0)
    notes = (
        "Interquartile mean of the primary scores of all seeds and tasks: the lowest and the highest quarter are left "
        "out. The interval draws seeds anew within every task; with few seeds it is too narrow.",
        f"Descriptive: with few tasks (here {few}), whose scores are of different kinds, it ranks nothing, and no "
        "verdict rests on it.",
    )
    return Block("Over tasks: interquartile mean by method", headers, rows, notes, key="aggregates",
                 records=record_paths(study.experiments) if rows else ())  # fmt: skip


def _aggregate(backbone: str, label: str, tasks: tuple[str, ...], runs: list[Experiment]) -> Aggregate | None:
    metrics, first = [run.metrics for run in runs if run.metrics is not None], runs[0].record
    seeds = tuple(sorted(set.intersection(*(set(found.seeds) for found in metrics)))) if metrics else ()
    if first is None or len(metrics) < len(runs) or len(seeds) < LEAST_SEEDS:
        return None
    scores = [[found.seeds[seed][found.primary] for found in metrics] for seed in seeds]
    if any(score is None for row in scores for score in row):
        return None
    interval = stratified_bootstrap(np.array(scores, dtype=np.float64))
    return Aggregate(backbone, first.method, label, tasks, seeds, interval)
