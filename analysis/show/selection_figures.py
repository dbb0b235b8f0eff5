"""Figures of what was selected: importance weights, maps of kept adapters, overlap of seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from textwrap import fill

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.judge.comparable import setting_of
from analysis.load.authors import PROJECTION_ORDER, Authors, LogRow
from analysis.load.names import backbone_name, method_label, task_name
from analysis.load.runs import Experiment
from analysis.load.selection import (
    ROLE_LETTERS,
    Selection,
    agreement_of_seeds,
    position_agreement,
    shared_fraction,
)
from analysis.show.drawing import (
    COLOURS,
    INK,
    Drawing,
    add_legend,
    heat_map,
    new_grid,
    scale_beside,
    set_layout,
    styled,
)

MOST_COLUMNS = 160  # of a heat map: a long phase 1 is thinned
COLUMNS = 3
NONE = "–"


@dataclass(frozen=True)
class Variant:
    """The experiments of one method with the same settings on one backbone, one per task."""

    backbone: str
    label: str
    experiments: tuple[Experiment, ...]

    @property
    def name(self) -> str:
        """For file names."""
        raw = f"{self.backbone}_{self.label}".lower().replace("+", "_plus")
        return "".join(character if character.isalnum() else "_" for character in raw).strip("_").replace("__", "_")

    @property
    def title(self) -> str:
        """`WeightLoRA (r=8, K=3), MiniLM-L6`."""
        return f"{self.label}, {backbone_name(self.backbone)}"

    @property
    def source(self) -> str:
        """Where the numbers come from: files, profile, corpora, seeds."""
        seeds = sorted({seed for experiment in self.experiments for seed in experiment.selections})
        corpora = sorted({e.record.corpus.label for e in self.experiments if e.record})
        listed = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
        return f"Source: selection.json of the {self.experiments[0].profile} profile, {'; '.join(corpora)}, {listed}."


def task_of(experiment: Experiment) -> str:
    """The experiment's task name in figures."""
    return task_name(experiment.record.corpus.name if experiment.record else setting_of(experiment)[1])


def titles_of(experiments: Sequence[Experiment]) -> list[str]:
    """Their tasks' names, each with its key where two share a corpus: `MRPC [mrpc-600]`."""
    names = [task_of(experiment) for experiment in experiments]
    return [
        f"{name} [{setting_of(experiment)[1]}]" if names.count(name) > 1 else name
        for name, experiment in zip(names, experiments, strict=True)
    ]


def variants(experiments: Sequence[Experiment], methods: Sequence[str]) -> list[Variant]:
    """Experiments with selections, grouped by backbone and label, in their order."""
    found: dict[tuple[str, str], list[Experiment]] = {}
    for experiment in experiments:
        record = experiment.record
        if record is not None and record.method in methods and experiment.selections:
            found.setdefault((record.backbone, method_label(record.method, record.method_config)), []).append(
                experiment
            )
    return [Variant(backbone, label, tuple(group)) for (backbone, label), group in found.items()]


@styled
def importance_weights(variant: Variant) -> Drawing | None:
    """Importance weights in phase 1 as heat maps, an adapter a row: one panel per task, or a seed of a single task."""
    shown = _panels(variant)
    if not shown:
        return None
    columns = min(COLUMNS, len(shown)) if len(shown) != 4 else 2
    rows = -(-len(shown) // columns)
    most = max(len(selection.adapters) for _, selection in shown)
    figure, grid = new_grid(rows, columns, (7.6, 0.5 + rows * (0.75 + min(0.07 * most, 2.6))))
    set_layout(figure, rect=(0.01, 0, 0.985, 1))
    panels = [axes for row in grid for axes in row]
    weights = [weight for _, selection in shown for row in selection.trace.weights for weight in row if weight]
    low, high = min(weights, default=0.0), max(weights, default=1.0)
    high = high if high > low else low + 1e-6
    for number, (axes, (title, selection)) in enumerate(zip(panels, shown, strict=False)):
        _trace(axes, selection, low, high)
        axes.set_title(title)
        if number % columns == columns - 1 or number == len(shown) - 1:
            scale_beside(axes, low, high, "importance weight")
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(shown) - columns) : len(shown)]:
        axes.set_xlabel("step")
    add_legend(figure, panels[: len(shown)])
    acted = sorted({len(selection.projections) for _, selection in shown})
    caption = (
        f"{variant.title}: importance weight of every adapter after each step of phase 1. A row is an adapter, by "
        "projection and, within it, by block from the top; grey: its weight is zero. Triangles at the right: the "
        f"adapters kept. The projection acted {' or '.join(map(str, acted))} times. "
    )
    if len(variant.experiments) > 1:
        seeds = sorted({next(iter(experiment.selections)) for experiment in variant.experiments})
        caption += f"One panel per task, seed {', '.join(map(str, seeds))}. "
    return Drawing(
        f"importance_{variant.name}",
        f"Importance weights, {variant.title}",
        caption + variant.source,
        f"Heat maps of the importance weights of all adapters over training steps, {len(shown)} panels; the adapters "
        "kept are marked.",
        figure,
    )


def _panels(variant: Variant) -> list[tuple[str, Selection]]:
    traced = [
        (experiment, {seed: found for seed, found in experiment.selections.items() if found.trace.steps})
        for experiment in variant.experiments
    ]
    traced = [(experiment, found) for experiment, found in traced if found]
    if len(traced) == 1:
        experiment, found = traced[0]
        return [(f"{task_of(experiment)}, seed {seed}", selection) for seed, selection in found.items()]
    titles = titles_of([experiment for experiment, _ in traced])
    return [(title, next(iter(found.values()))) for title, (_, found) in zip(titles, traced, strict=True)]


def _trace(axes: Axes, selection: Selection, low: float, high: float) -> None:
    order, groups = _order(selection)
    steps = np.array(selection.trace.steps, dtype=np.float64)
    weights = np.array(selection.trace.weights, dtype=np.float64)
    chosen = np.unique(np.linspace(0, len(steps) - 1, MOST_COLUMNS).round().astype(int))
    shown = np.where(weights == 0, np.nan, weights)[chosen][:, order].T
    end = float(steps[-1])
    heat_map(axes, shown, low, high, end)
    kept = _kept_at_the_end(selection)
    places = [order.index(index) + 0.5 for index in kept]
    axes.plot([1.015] * len(places), places, "<", transform=axes.get_yaxis_transform(), color=COLOURS["lora"],
              markersize=4, clip_on=False, label="kept")  # fmt: skip
    _group_ticks(axes, groups)
    for number, expansion in enumerate(step for step in selection.expansions if step.step <= end):
        label = "_" if number else "expansion"
        axes.axvline(expansion.step, color=INK, linestyle=":", linewidth=1.6, label=label)


def _group_ticks(axes: Axes, groups: Sequence[tuple[str, int]]) -> None:
    """Name each projection's rows at their middle, with a line between projections."""
    start, ticks, names = 0, [], []
    for group, members in groupby(groups, key=lambda entry: entry[0]):
        blocks = [block for _, block in members]
        ticks.append(start + len(blocks) / 2)
        names.append(f"{group} {blocks[0]}–{blocks[-1]}" if len(blocks) > 1 else f"{group} {blocks[0]}")
        start += len(blocks)
        if start < len(groups):
            axes.axhline(start, color=INK, linewidth=0.8)
    axes.set_yticks(ticks, names, fontsize=7.5 if len(names) <= 4 else 6.5)
    axes.tick_params(axis="y", length=0)


def _order(selection: Selection) -> tuple[list[int], tuple[tuple[str, int], ...]]:
    """The adapters by stack, projection and block, and the projection and block of each."""
    placed = selection.blocks
    stacks = list(dict.fromkeys(group.rpartition(" ")[0] for group, _ in placed))
    groups = sorted(
        {group for group, _ in placed},
        key=lambda group: (stacks.index(group.rpartition(" ")[0]), "qkvo".find(group[-1]), group),
    )
    order = sorted(range(len(placed)), key=lambda index: (groups.index(placed[index][0]), placed[index][1]))
    return order, tuple(placed[index] for index in order)


def _kept_at_the_end(selection: Selection) -> list[int]:
    """The adapters with a weight at the end of the trace; the survivors where nothing was ever projected."""
    alive = [index for index, weight in enumerate(selection.trace.weights[-1]) if weight != 0]
    return alive if len(alive) < len(selection.adapters) else sorted(selection.survivors)


ROW = 0.17  # inches of one row of a map
ABOVE = 0.66  # inches for a map's title and its axis
FAINT = 0.05  # opacity of an empty cell
OVERLAP_KEEPS = (5, 10)  # at K=1 both ways of comparing agree
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
        f"Left, {profile} profile: the number in a cell is how many seeds kept that adapter. "
        + " ".join(dict.fromkeys(variant.source for variant in variants))
        if profile
        else "Left: nothing was run in this profile."
    )
    logged = authors.logs
    return Drawing(
        "selected_map",
        "Selected adapters: runs and the authors' logs",
        f"Adapters kept at the end, one row per task, columns by projection and, within it, by block. {ours_text} "
        "Right: the "
        f"authors' logs at K = {', '.join(map(str, logged.keeps))}, one run per cell ({logged.setup}); their RTE runs "
        "did not "
        f"train. Source: {logged.sources['log'].citation}.",
        "Maps of the adapters kept, per task: the runs on the left, the authors' logged runs on the right.",
        figure,
    )


@styled
def overlap(variants: Sequence[Variant], authors: Authors) -> Drawing:
    """Overlap between tasks as sets, for runs and the authors' logs, and the logs compared by position."""
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
        for column, found in enumerate(line):
            by_position = found.title.endswith("by position")
            _draw_overlaps(figure.add_subplot(cells[column]), found, "#D55E00" if by_position else "#0072B2")
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
        "one task (none with a single seed). Where only one task was run, its seeds are compared. "
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
    first = next(iter(variant.experiments[0].selections.values()))
    adapters, (order, groups) = first.adapters, _order(first)
    counts = np.array(
        [
            [sum(adapters[index].key in found.kept for found in experiment.selections.values()) for index in order]
            for experiment in variant.experiments
        ],
        dtype=np.float64,
    )
    most = max(len(experiment.selections) for experiment in variant.experiments)
    rows = tuple(titles_of(variant.experiments))
    return Map(_two_lines(variant), rows, groups, counts, most)


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
    axes.set_title("\n".join(fill(line, 27) for line in found.title.splitlines()), fontsize=7.5)
    axes.set_yticks(np.arange(rows) + 0.5, found.rows, fontsize=7)
    start, ticks, names = 0, [], []
    for group, members in groupby(found.groups, key=lambda entry: entry[0]):
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
    """A faint ground and one rectangle per filled cell, with gaps that show the page, light or dark."""
    rows, columns, _ = shades.shape
    axes.add_patch(Rectangle((0, 0), columns, rows, facecolor=(*shades[0, 0, :3], FAINT), linewidth=0))
    squares = [(row, column) for row in range(rows) for column in range(columns) if shades[row, column, 3] > FAINT]
    corners = [Rectangle((column + 0.04, row + 0.04), 0.92, 0.92) for row, column in squares]
    axes.add_collection(PatchCollection(corners, facecolors=[shades[square] for square in squares], linewidths=0))
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
    return Overlaps(_two_lines(variant), tuple(titles_of(experiments)), values)


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
        text = NONE if np.isnan(value) else f"{value:.2f}".replace("0.", ".").replace("1.00", "1")
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
