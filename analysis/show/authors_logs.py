"""Differences between values of K: the WeightLoRA authors' logs and the runs measured here, side by side.

The two sides have other backbones, lengths and test items, so scores are never compared; only what a smaller K costs
within each side is shown.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from analysis.judge.number_format import difference_text
from analysis.judge.study import Row, Study, keep_of
from analysis.load.authors import Authors, LogRow
from analysis.load.names import backbone_name, score_name, task_name
from analysis.load.runs import Experiment
from analysis.show.blocks import Block, Cell
from analysis.show.run_tables import record_paths

NONE = "–"
UNTRAINED = "‡"
ALL = Decimal("Infinity")  # stands for the comparison with LoRA on every adapter, which sorts last
# What a K is set against: the larger K over the smaller one, or ALL.
_Ratio = Decimal


def differences_block(study: Study, authors: Authors) -> Block:
    """Per task and pair of K: the authors' difference, and ours with its intervals; a dash where a side has none."""
    ours, logged = _ours(study), _logged(authors)
    titles = {row.corpus or row.task: row.task_title for row in study.rows}
    lines = []
    for task in dict.fromkeys((*authors.logs.tasks, *(task for task, _ in ours))):
        ratios = {ratio for name, ratio in (*ours, *logged) if name == task}
        for ratio in sorted(ratios):
            theirs = logged.get((task, ratio), (NONE, NONE, NONE))
            for mine in ours.get((task, ratio), [(NONE, NONE, NONE)]):
                lines.append((titles.get(task, task_name(task)), *theirs, *mine))
    headers = ("Task", "Authors: adapters kept", "Authors: difference", "Authors: metric",
               "Here: backbone", "Here: adapters kept", "Here: difference")  # fmt: skip
    measured = [experiment for runs in _complete(study).values() for _, experiment in runs]
    return Block("What a smaller K costs: the authors' logs and the runs here", headers, tuple(lines),
                 _notes(authors), "authors_differences", records=record_paths(measured))  # fmt: skip


def _notes(authors: Authors) -> tuple[str, ...]:
    logs = authors.logs
    projections = ", ".join(logs.adapters.projections)
    untrained = dict.fromkeys(row.why_not for row in logs.rows if row.why_not)
    return (
        f"Authors: {backbone_name(logs.backbone)}, {logs.adapters.blocks * len(logs.adapters.projections)} adapters "
        f"({projections}), r={logs.adapters.rank}; one run a cell, so a difference of two runs without any spread.",
        "Here: another backbone, with its own number of adapters and its own training length. A row sets pairs of K "
        "with the same quotient beside each other. The scores themselves may not be compared, only the direction of a "
        "difference may be read, and no verdict rests on it.",
        "`all`: LoRA with every adapter, which the authors' logs do not have.",
        *(f"{UNTRAINED} {reason}" for reason in untrained),
    )


def _logged(authors: Authors) -> dict[tuple[str, _Ratio], tuple[str, str, str]]:
    """By task and quotient: the pair of K, the difference of the logs, the metric."""
    logs, found = authors.logs, dict[tuple[str, _Ratio], tuple[str, str, str]]()
    for task in logs.tasks:
        rows = [row for keep in logs.keeps if (row := logs.row(task, keep))]
        for row in rows[:-1]:
            largest = rows[-1]
            name, first, second = _scores(row, largest)
            text = f"{first - second:+}".replace("-", "−") + (
                "" if row.comparable and largest.comparable else f" {UNTRAINED}"
            )
            standing = row.cells[name].standing
            split = " (mismatched split)" if row.split == "validation_mismatched" else ""
            found[task, Decimal(largest.keep) / row.keep] = (
                f"K={row.keep} − K={largest.keep}", Cell(text, standing=standing), score_name(name) + split,
            )  # fmt: skip
    return found


def _scores(row: LogRow, largest: LogRow) -> tuple[str, Decimal, Decimal]:
    """The primary metric of two logs of a task, and both values."""
    order = ("matthews_correlation", "pearson", "accuracy")
    name = next(name for name in order if name in row.cells and name in largest.cells)
    first, second = row.cells[name].value, largest.cells[name].value
    assert first is not None
    assert second is not None
    return name, first, second


def _complete(study: Study) -> dict[tuple[str, str, int | None], list[tuple[Row, Experiment]]]:
    """Scored LoRA and WeightLoRA runs (the paper's two phases) by backbone, corpus and training length."""
    found = defaultdict(list)
    for row in study.tasks.rows:
        experiment = study.named(row.experiment)
        record = experiment.record if experiment is not None else None
        if experiment is None or record is None or row.status != "complete" or experiment.metrics is None:
            continue
        if row.method == "lora" or (
            row.method == "weight_lora" and record.method_config.get("preset") in (None, "paper")
        ):
            found[row.backbone, row.corpus or row.task, row.steps].append((row, experiment))
    return dict(found)


def _ours(study: Study) -> dict[tuple[str, _Ratio], list[tuple[str, str, str]]]:
    """By task and quotient: backbone, pair of K, and the difference with its intervals."""
    found = defaultdict(list)
    for (backbone, task, _), runs in _complete(study).items():
        kept = {keep: run for row, run in runs if row.method == "weight_lora" and (keep := keep_of(run)) is not None}
        lora = next((run for row, run in runs if row.method == "lora"), None)
        if not kept:
            continue
        largest = max(kept)
        pairs = [(Decimal(largest) / keep, kept[keep], kept[largest], f"K={keep} − K={largest}")
                 for keep in sorted(kept, reverse=True) if keep != largest]  # fmt: skip
        if lora is not None:
            pairs.append((ALL, kept[largest], lora, f"K={largest} − all"))
        for ratio, first, second, text in pairs:
            difference = study.difference(first, second)
            if difference is not None:
                found[task, ratio].append((backbone_name(backbone), text, difference_text(difference)))
    return dict(found)
