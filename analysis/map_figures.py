"""Figures of what was selected, beside the authors' logs: a map of adapters, and overlap between tasks as sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.authors import PROJECTION_ORDER, Authors, LogRow
from analysis.drawing import COLOURS, Drawing, styled
from analysis.importance_figures import Variant, task_of
from analysis.labels import backbone_name, task_name
from analysis.selection import ROLE_LETTERS, agreement_of_seeds, position_agreement, shared_fraction

ROW = 0.17  # inches of one row of a map
ABOVE = 0.66  # inches for a map's title and its axis
FAINT = 0.05  # opacity of an empty cell
OVERLAP_KEEPS = (5, 10)  # at K=1 both ways of comparing say the same
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Map:
    """Counts of selection: a row a task, a column an adapter, grouped by projection and ordered by block."""

    title: str
    rows: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]
    counts: Floats
    most: int


@dataclass(frozen=True)
class Overlaps:
    """A square of overlaps between 0 and 1; NaN where there is nothing to compare."""

    title: str
    names: tuple[str, ...]
    values: Floats


@styled
def selected_map(variants: Sequence[Variant], authors: Authors) -> Drawing:
    """Left: how many seeds kept each adapter, per task; right: the authors' logged runs at K = 1, 5, 10."""
    ours, theirs = [_our_map(variant) for variant in variants], [_log_map(authors, keep) for keep in authors.logs.keeps]
    heights = [sum(ABOVE + ROW * len(found.rows) for found in maps) for maps in (ours, theirs)]
    height = max(heights)
    figure = Figure(figsize=(7.6, height), layout="constrained")
    FigureCanvasAgg(figure)
    sides = figure.add_gridspec(1, 2, width_ratios=(1.0, 1.5))
    for maps, side, colour in ((ours, 0, COLOURS["weight_lora_plus"]), (theirs, 1, COLOURS["full"])):
        own = sum(ABOVE + ROW * len(found.rows) for found in maps)
        spare = [height - own] if height - own > 0.01 else []
        ratios = [ABOVE + ROW * len(found.rows) for found in maps] + spare
        if not maps:
            axes = figure.add_subplot(sides[side])
            axes.text(0.5, 0.5, "not run\nin this profile", ha="center", va="center", transform=axes.transAxes)
            axes.set_axis_off()
            continue
        cells = sides[side].subgridspec(len(ratios), 1, height_ratios=ratios)
        for index, found in enumerate(maps):
            _draw_map(figure.add_subplot(cells[index]), found, colour)
    profile = variants[0].experiments[0].profile if variants else None
    ours_text = (
        f"Left, {profile} profile: the number in a cell says how many seeds kept that adapter. "
        + " ".join(dict.fromkeys(variant.source for variant in variants))
        if profile
        else "Left: nothing was run in this profile."
    )
    logged = authors.logs
    return Drawing(
        "selected_map",
        "Selected adapters: runs and the authors' logs",
        f"Adapters kept at the end, one row a task, columns by projection and, within it, by block. {ours_text} "
        "Right: the "
        f"authors' logs at K = {', '.join(map(str, logged.keeps))}, one run a cell ({logged.setup}); their RTE runs "
        "did not "
        f"train. Source: {logged.sources['log'].citation}.",
        "Maps of the adapters kept, per task: the runs on the left, the authors' logged runs on the right.",
        figure,
    )


@styled
def overlap(variants: Sequence[Variant], authors: Authors) -> Drawing:
    """Overlap between tasks as sets, for runs and the authors' logs, beside the logs compared position by position."""
    ours = [found for variant in variants if (found := _our_overlaps(variant)) is not None]
    lines = [ours[start : start + 3] for start in range(0, len(ours), 3)]
    lines += [
        [
            _log_overlaps(authors, keep, f"Authors' logs, K={keep}, as sets", shared_fraction),
            _log_overlaps(authors, keep, f"Authors' logs, K={keep}, by position", position_agreement),
        ]
        for keep in OVERLAP_KEEPS
    ]
    sizes = [1.3 + 0.22 * max(max(len(found.names) for found in line), 4) for line in lines]
    figure = Figure(figsize=(7.6, sum(sizes)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.add_gridspec(len(lines), 1, height_ratios=sizes)
    for index, line in enumerate(lines):
        cells = rows[index].subgridspec(1, len(line))
        for place, found in enumerate(line):
            by_position = found.title.endswith("by position")
            _draw_overlaps(figure.add_subplot(cells[place]), found, "#D55E00" if by_position else "#0072B2")
    logs = authors.logs
    first, second = (logs.row(task, 5) for task in ("cola", "mnli"))
    assert first is not None
    assert second is not None
    a, b = first.selected.value, second.selected.value
    example = (
        f"CoLA and MNLI at K=5 share {len(set(a) & set(b))} of 5 adapters ({shared_fraction(a, b):.1f}), and by "
        "position the "
        f"same two lists agree in {position_agreement(a, b):.1f}"
    )
    chance = f"{5 / (logs.adapters.blocks * len(logs.adapters.projections)):.2f}"
    mine = (
        "Runs: mean over seeds of the overlap between tasks at the same seed; on the diagonal, between the seeds of "
        "one task, or 'one' with a single seed. Where only one task was run, its seeds are compared. "
    )
    return Drawing(
        "overlap",
        "Overlap of the selected adapters between tasks",
        "Shared adapters over K, as sets; 1 is the same set. "
        + (mine if ours else "No run of this profile has two sets to compare. ")
        + "Below: the authors' logs, as sets and recomputed as in the authors' figure, which compares the two sorted "
        "lists "
        "position by position: one adapter more near the front shifts all that follow, so it understates agreement. "
        f"{example}. "
        f"Two random sets of 5 of 36 share {chance} on average. "
        + " ".join(dict.fromkeys(variant.source for variant in variants))
        + f" Logs: {logs.sources['log'].citation}.",
        "Squares of overlap between tasks: runs, the authors' logs as sets, and the authors' logs position by "
        "position.",
        figure,
    )


def _our_map(variant: Variant) -> Map:
    adapters = next(iter(variant.experiments[0].selections.values())).adapters
    placed = next(iter(variant.experiments[0].selections.values())).blocks
    stacks = list(dict.fromkeys(group.rpartition(" ")[0] for group, _ in placed))
    groups = sorted(
        {group for group, _ in placed},
        key=lambda group: (stacks.index(group.rpartition(" ")[0]), "qkvo".find(group[-1]), group),
    )
    order = sorted(range(len(adapters)), key=lambda index: (groups.index(placed[index][0]), placed[index][1]))
    counts = np.array(
        [
            [sum(adapters[index].key in found.kept for found in experiment.selections.values()) for index in order]
            for experiment in variant.experiments
        ],
        dtype=np.float64,
    )
    most = max(len(experiment.selections) for experiment in variant.experiments)
    rows = tuple(task_of(experiment) for experiment in variant.experiments)
    return Map(_two_lines(variant), rows, tuple(placed[index] for index in order), counts, most)


def _log_map(authors: Authors, keep: int) -> Map:
    logs = authors.logs
    columns = [(name, block) for name in PROJECTION_ORDER for block in range(logs.adapters.blocks)]
    rows = [row for task in logs.tasks if (row := logs.row(task, keep)) is not None]
    counts = np.array([[f"{name}#{block}" in row.selected.value for name, block in columns] for row in rows])
    groups = tuple((ROLE_LETTERS[name], block) for name, block in columns)
    names = tuple(task_name(row.task) for row in rows)
    return Map(f"Authors' logs, K={keep}\n{backbone_name(logs.backbone)}", names, groups, counts.astype(np.float64), 1)


def _draw_map(axes: Axes, found: Map, colour: str) -> None:
    rows, columns = found.counts.shape
    shades = np.zeros((rows, columns, 4))
    shades[...] = to_rgba(colour)
    shades[..., 3] = np.where(found.counts > 0, 0.2 + 0.6 * found.counts / found.most, FAINT)
    _cells(axes, shades)
    if found.most > 1:
        for row, column in zip(*np.nonzero(found.counts), strict=True):
            axes.text(
                column + 0.5, row + 0.5, f"{found.counts[row, column]:.0f}", ha="center", va="center", fontsize=5.5
            )
    axes.set_title(found.title, fontsize=8)
    axes.set_yticks(np.arange(rows) + 0.5, found.rows, fontsize=7)
    start, ticks, names = 0, [], []
    for group, members in groupby(found.groups, key=lambda place: place[0]):
        blocks = [block for _, block in members]
        ticks.append(start + len(blocks) / 2)
        names.append(f"{group} {blocks[0]}–{blocks[-1]}" if len(blocks) > 1 else f"{group} {blocks[0]}")
        start += len(blocks)
        if start < columns:
            axes.axvline(start, color="#888888", linewidth=0.8)
    axes.set_xticks(ticks, names, fontsize=6.5 if len(names) <= 4 else 5.5, rotation=0 if len(names) <= 4 else 35)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.invert_yaxis()
    for spine in axes.spines.values():
        spine.set_visible(False)


def _cells(axes: Axes, shades: Floats) -> None:
    """A faint ground and one rectangle a filled cell, with gaps that show the page, light or dark."""
    rows, columns, _ = shades.shape
    axes.add_patch(Rectangle((0, 0), columns, rows, facecolor=(*shades[0, 0, :3], FAINT), linewidth=0))
    places = [(row, column) for row in range(rows) for column in range(columns) if shades[row, column, 3] > FAINT]
    corners = [Rectangle((column + 0.04, row + 0.04), 0.92, 0.92) for row, column in places]
    axes.add_collection(PatchCollection(corners, facecolors=[shades[place] for place in places], linewidths=0))
    axes.set_xlim(0, columns)
    axes.set_ylim(0, rows)


def _our_overlaps(variant: Variant) -> Overlaps | None:
    """Tasks against tasks; with a single task its seeds against each other; None with nothing to compare."""
    experiments = variant.experiments
    if len(experiments) == 1:
        kept = {f"seed {seed}": found.kept for seed, found in experiments[0].selections.items() if found.kept}
        if len(kept) < 2:
            return None
        values = np.array([[shared_fraction(a, b) for b in kept.values()] for a in kept.values()])
        return Overlaps(f"{_two_lines(variant)}, {task_of(experiments[0])}", tuple(kept), values)
    sets = [{seed: found.kept for seed, found in e.selections.items() if found.kept} for e in experiments]
    values = np.full((len(sets), len(sets)), np.nan)
    for i, first in enumerate(sets):
        for j, second in enumerate(sets):
            if i == j:
                agreement = agreement_of_seeds(list(first.values()))
                values[i, j] = np.nan if agreement is None else agreement
            elif shared := sorted(set(first) & set(second)):
                values[i, j] = np.mean([shared_fraction(first[seed], second[seed]) for seed in shared])
    return Overlaps(_two_lines(variant), tuple(task_of(experiment) for experiment in experiments), values)


def _log_overlaps(
    authors: Authors, keep: int, title: str, compare: Callable[[Sequence[str], Sequence[str]], float]
) -> Overlaps:
    rows: list[LogRow] = [row for task in authors.logs.tasks if (row := authors.logs.row(task, keep)) is not None]
    values = np.array([[compare(a.selected.value, b.selected.value) for b in rows] for a in rows])
    return Overlaps(title, tuple(task_name(row.task) for row in rows), values)


def _draw_overlaps(axes: Axes, found: Overlaps, colour: str) -> None:
    count = len(found.names)
    shades = np.zeros((count, count, 4))
    shades[...] = to_rgba(colour)
    shades[..., 3] = FAINT + 0.7 * np.nan_to_num(found.values)
    _cells(axes, shades)
    for (row, column), value in np.ndenumerate(found.values):
        text = "one" if np.isnan(value) else f"{value:.2f}".replace("0.", ".").replace("1.00", "1")
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=6.5)
    axes.set_title(found.title, fontsize=8)
    axes.set_xticks(np.arange(count) + 0.5, found.names, fontsize=7, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(count) + 0.5, found.names, fontsize=7)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _two_lines(variant: Variant) -> str:
    return f"{variant.label}\n{backbone_name(variant.backbone)}"
