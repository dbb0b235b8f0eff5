"""Figures of one selecting method over training steps: importance weights, and the rank growth of WeightLoRA+."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from analysis.drawing import (
    COLOURS,
    ROLE_COLOURS,
    Drawing,
    add_legend,
    name_at_right,
    new_figure,
    new_grid,
    styled,
)
from analysis.labels import backbone_name, method_label, task_name
from analysis.records import Experiment
from analysis.selection import Selection, short_names
from analysis.task_results import place_of

LOSER = "#888888"
MOST_POINTS = 160  # of one line: a long phase 1 is thinned, its first steps are not
DENSE_START = 20
COLUMNS = 3
SHADES = (COLOURS["weight_lora_plus"], COLOURS["weight_lora"], COLOURS["random_lora"], COLOURS["adalora"])
NAMES_THAT_FIT = 15  # beside a panel


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
    """What figures call the experiment's task."""
    return task_name(experiment.record.corpus.name if experiment.record else place_of(experiment)[1])


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
    """Importance weight of every adapter over the steps of phase 1: one panel a task, or a seed of a single task."""
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
        caption += f"One panel a task, seed {', '.join(map(str, seeds))}. "
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
        "WeightLoRA+ expands the adapters that stay: rank and number of adapters (K, beside the line) after each "
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
