"""One table of results a paper, for the first page: scores, what they cost in parameters, how many seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.judge.best import RULE
from analysis.judge.number_format import format_counts
from analysis.judge.study import Row, Study
from analysis.load.names import ARROW, backbone_name, is_growing, score_name
from analysis.show.blocks import Block
from analysis.show.tables import grouped, marks_of, score_text

SOLO_LEFT_OUT = ("Trainable parameters", "of full's adapter", "Training cost, each seed")
NOT_RUN = "–"


def solo_overview(block: Block) -> Block:
    """`results_block` without the columns and notes that its own page has."""
    kept = [index for index, header in enumerate(block.headers) if header not in SOLO_LEFT_OUT]
    return replace(
        block,
        caption=f"Solo Connection: {block.caption}",
        headers=tuple(block.headers[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in block.rows),
        notes=(),
    )


def tasks_overview(study: Study) -> Block:
    """Primary score by method and task, over all backbones; experiments of an earlier grid are elsewhere."""
    rows = [row for row in study.tasks.rows if row.primary is not None and row.scores]
    scored = {row.setting for row in rows}
    settings = [setting for setting in study.tasks.settings if setting in scored]
    rows = [row for row in rows if row.setting in settings]
    of = {setting: [row for row in rows if row.setting == setting] for setting in settings}
    marks = {setting: marks_of(study, of[setting], of[setting][0].primary or "") for setting in settings}
    several = len({backbone for backbone, _ in settings}) > 1
    lines = []
    for label, found in _by_label(rows).items():
        scores = [
            score_text(row, row.primary or "", marks[setting], True) if (row := found.get(setting)) else NOT_RUN
            for setting in settings
        ]
        lines.append((label, *scores, _counts(list(found.values()))))
    headers = [f"{_title(of[setting][0], several)}, {score_name(of[setting][0].primary or '')}" for setting in settings]
    return Block(
        f"WeightLoRA: measured here, {study.profile} profile, primary score of each task",
        ("Method", *headers, "Adapter parameters"),
        tuple(lines),
        rules=(*((ARROW,) if any(is_growing(row.label) for row in rows) else ()), *((RULE,) if rows else ())),
        key="tasks",
    )


def _counts(rows: Sequence[Row]) -> str:
    """The fewest and the most over tasks and seeds."""
    counts = [count for row in rows if row.counts for count in row.counts["adapter"]]
    return format_counts(counts) if counts else NOT_RUN


def _by_label(rows: Sequence[Row]) -> dict[str, dict[tuple[str, str], Row]]:
    """Method label -> backbone and task -> row."""
    found: dict[str, dict[tuple[str, str], Row]] = {}
    for backbone in dict.fromkeys(row.backbone for row in rows):
        for label, by_task in grouped([row for row in rows if row.backbone == backbone]).items():
            found.setdefault(label, {}).update({(backbone, task): row for task, row in by_task.items()})
    return found


def _title(row: Row, several: bool) -> str:
    return f"{row.task_title} on {backbone_name(row.backbone)}" if several else row.task_title
