"""Figures of what was selected: importance weights, ranks, maps of kept adapters, overlap of seeds."""

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

from analysis.judge.study import setting_of
from analysis.load.authors import PROJECTION_ORDER, Authors, LogRow
from analysis.load.names import backbone_name, method_label, task_name
from analysis.load.runs import Experiment
from analysis.load.selection import (
    ROLE_LETTERS,
    Selection,
    agreement_of_seeds,
    position_agreement,
    shared_fraction,
    short_names,
)
from analysis.show.drawing import (
    COLOURS,
    ROLE_COLOURS,
    Drawing,
    add_legend,
    name_at_right,
    new_figure,
    new_grid,
    styled,
)

LOSER = "#888888"
MOST_POINTS = 160  # of one line: a long phase 1 is thinned, its first steps are not
DENSE_START = 20
COLUMNS = 3
SHADES = (COLOURS["weight_lora_plus"], COLOURS["weight_lora"], COLOURS["random_lora"], COLOURS["adalora"])
NAMES_THAT_FIT = 15  # next to a panel


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
    """Importance weight of every adapter over the steps of phase 1: one panel per task, or a seed of a single task."""
    shown = _panels(variant)
    if not shown:
        return None
    columns = min(COLUMNS, len(shown)) if len(shown) != 4 else 2
    rows = -(-len(shown) // columns)
    figure, grid = new_grid(rows, columns, (7.6, 0.5 + 2.45 * rows))
    panels = [axes for row in grid for axes in row]
    for axes, (title, selection) in zip(panels, shown, strict=False):
        _trace(axes, selection)
        axes.set_title(title)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("importance weight")
    for axes in panels[max(0, len(shown) - columns) : len(shown)]:
        axes.set_xlabel("step")
    add_legend(figure, panels[: len(shown)])
    acted = sorted({len(selection.projections) for _, selection in shown})
    caption = (
        f"{variant.title}: importance weight of every adapter after each step of phase 1. Coloured and named: the "
        "adapters "
        "kept (q, k, v and the block); grey: the others. Ticks on the axis: the steps at which the projection acted "
        f"({' or '.join(map(str, acted))} of them); dashed: the losers leave the model; dotted: WeightLoRA+ expands. "
    )
    if len(variant.experiments) > 1:
        seeds = sorted({next(iter(experiment.selections)) for experiment in variant.experiments})
        caption += f"One panel per task, seed {', '.join(map(str, seeds))}. "
    return Drawing(
        f"importance_{variant.name}",
        f"Importance weights, {variant.title}",
        caption + variant.source,
        f"Importance weights of all adapters over training steps, {len(shown)} panels; the adapters kept are named.",
        figure,
    )


@styled
def rank_growth(group: Sequence[Variant], lora: dict[str, int]) -> Drawing | None:
    """Rank and parameters of the adapters over steps; `lora`: backbone -> adapter parameters of LoRA."""
    paths = [(variant, path, tasks) for variant in group for path, tasks in _distinct_paths(variant).items()]
    if not paths:
        return None
    figure, (left, right) = new_figure(2, (7.6, 3.3))
    several = len({variant.backbone for variant in group}) > 1
    for index, (variant, path, tasks) in enumerate(paths):
        shade = SHADES[index % len(SHADES)]
        label = ", ".join(tasks) + (f", {backbone_name(variant.backbone)}" if several else "")
        left.plot(path.steps, path.ranks, drawstyle="steps-post", color=shade, label=label)
        right.plot(path.steps, path.parameters, drawstyle="steps-post", color=shade, label=label)
        for axes, heights in ((left, path.ranks), (right, path.parameters)):
            for step, height, count in list(zip(path.steps, heights, path.kept, strict=True))[:-1]:
                axes.annotate(f"K={count}", (step, height), xytext=(3, 4), textcoords="offset points", fontsize=7.5)
    for backbone, count in lora.items():
        name = "LoRA on all adapters" + (f", {backbone_name(backbone)}" if several else "")
        right.axhline(count, color=COLOURS["lora"], linestyle="--", linewidth=1.4, label=name)
    left.set_title("Rank of the adapters")
    right.set_title("Adapter parameters")
    left.set_yscale("log", base=2)
    left.yaxis.set_major_formatter("{x:.0f}")
    right.yaxis.set_major_formatter("{x:,.0f}")
    left.margins(y=0.2)
    right.set_ylim(bottom=0, top=1.15 * right.get_ylim()[1])
    for axes in (left, right):
        axes.set_xlabel("step")
    add_legend(figure, (left, right))
    rounds = sorted({len(found.expansions) for v in group for e in v.experiments for found in e.selections.values()})
    return Drawing(
        "rank_growth",
        "Rank growth of WeightLoRA+",
        "WeightLoRA+ expands the adapters that stay: rank and number of adapters (K, next to the line) after each "
        "round, and "
        f"the parameters of all adapters, task head apart. Rounds: {' or '.join(map(str, rounds))}. Equal paths "
        "share a line. " + " ".join(dict.fromkeys(variant.source for variant in group)),
        "Steps of rank and of adapter parameters over training steps.",
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
    return [(task_of(experiment), next(iter(found.values()))) for experiment, found in traced]


def _trace(axes: Axes, selection: Selection) -> None:
    steps = np.array(selection.trace.steps)
    weights = np.array(selection.trace.weights)
    chosen = _thinned(len(steps))
    steps, weights = steps[chosen], weights[chosen]
    kept = _kept_at_the_end(selection)
    losers = [index for index in range(weights.shape[1]) if index not in kept]
    for number, index in enumerate(losers):
        axes.plot(steps, weights[:, index], color=LOSER, linewidth=0.6, alpha=0.5, label="_" if number else "dropped")
    seen = set()
    for index in kept:
        role = selection.adapters[index].role
        label = "_" if role in seen else f"kept, {role}"
        seen.add(role)
        axes.plot(steps, weights[:, index], color=_role_colour(selection, index), linewidth=1.3, label=label)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.06 * (high - low), high)
    if selection.projections:
        bottom = axes.get_xaxis_transform()
        axes.plot(selection.projections, [0.02] * len(selection.projections), "|", transform=bottom, color=LOSER,
                  markersize=5, markeredgewidth=0.6, label="projection")  # fmt: skip
    if selection.removed_at is not None:
        axes.axvline(selection.removed_at, color=LOSER, linestyle="--", linewidth=1.0, label="losers removed")
    for number, expansion in enumerate(selection.expansions):
        label = "_" if number else "expansion"
        axes.axvline(expansion.step, color=COLOURS["weight_lora_plus"], linestyle=":", linewidth=1.2, label=label)
    axes.set_xlim(float(steps[0]), float(steps[-1]) + 0.02 * max(1.0, float(steps[-1] - steps[0])))
    names = short_names(selection.adapters)
    ends = [
        (float(steps[-1]), float(weights[-1, index]), names[index], _role_colour(selection, index)) for index in kept
    ]
    name_at_right(axes, ends, NAMES_THAT_FIT, size=7, leaders=False)


def _role_colour(selection: Selection, index: int) -> str:
    return ROLE_COLOURS.get(selection.adapters[index].role, COLOURS["weight_lora"])


def _kept_at_the_end(selection: Selection) -> list[int]:
    """The adapters with a weight at the end of the trace; the survivors where nothing was ever projected."""
    alive = [index for index, weight in enumerate(selection.trace.weights[-1]) if weight != 0]
    return alive if len(alive) < len(selection.adapters) else sorted(selection.survivors)


def _thinned(count: int) -> np.ndarray:
    stride = max(1, -(-(count - DENSE_START) // (MOST_POINTS - DENSE_START)))
    return np.unique(np.r_[np.arange(min(DENSE_START, count)), np.arange(0, count, stride), count - 1])


@dataclass(frozen=True)
class _Path:
    """From each step on: rank, number of adapters and their parameters; the last step repeats the end."""

    steps: tuple[int, ...]
    ranks: tuple[int, ...]
    kept: tuple[int, ...]
    parameters: tuple[int, ...]


def _distinct_paths(variant: Variant) -> dict[_Path, list[str]]:
    """Paths with the tasks that share them."""
    found: dict[_Path, list[str]] = {}
    for experiment in variant.experiments:
        for selection in experiment.selections.values():
            if selection.expansions:
                tasks = found.setdefault(_path(experiment, selection), [])
                tasks.append(task_of(experiment))
    return {path: list(dict.fromkeys(tasks)) for path, tasks in found.items()}


def _path(experiment: Experiment, selection: Selection) -> _Path:
    record, first = experiment.record, selection.expansions[0]
    start = (record.counts_at_start or record.counts) if record else None
    points = [(0, first.rank_before, len(selection.adapters), start.adapter if start else first.parameters_before)]
    if selection.keep is not None and selection.selection_steps:
        points.append((selection.selection_steps, first.rank_before, selection.keep, first.parameters_before))
    points += [(e.step, e.rank_after, len(e.kept), e.parameters_after) for e in selection.expansions]
    last = int(record.training.get("steps", 0)) if record else 0
    points.append((max(last, points[-1][0]), *points[-1][1:]))
    steps, ranks, kept, parameters = zip(*points, strict=True)
    return _Path(steps, ranks, kept, parameters)


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
