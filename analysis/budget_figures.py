"""Figures of what methods cost: score against trained parameters, and peak memory against the number of adapters."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from analysis.authors import Authors
from analysis.drawing import COLOURS, Drawing, looks_of, name_at_right, new_figure, new_grid, set_layout, styled
from analysis.labels import backbone_name, score_name
from analysis.measurements import Memory
from analysis.task_results import TaskRow, TaskStudy, place_title

LABEL_SIZE = 7.5
DODGE = 1.12  # between points of nearly equal parameters
LEAST_SPAN = 0.1  # of a score axis: a difference of thousandths is not to fill the panel
RANK_SHADES = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00")


@styled
def score_against_parameters(study: TaskStudy) -> Drawing | None:
    """Adapter parameters at the end (logarithmic, task head apart) against the primary metric, one panel a task."""
    places = [place for place in study.places if len(_points(study, place)) > 1]
    if not places:
        return None
    most = max(len(_points(study, place)) for place in places)
    columns = 1 if len(places) == 1 else 2
    rows = -(-len(places) // columns)
    figure, grid = new_grid(rows, columns, (7.6, 0.3 + rows * max(2.3, 0.9 + 0.135 * most)))
    set_layout(figure, w_pad=0.12)  # the names beside one panel end before the next begins
    panels = [axes for row in grid for axes in row]
    for axes, place in zip(panels, places, strict=False):
        points = _points(study, place)
        _scatter(axes, points)
        axes.set_title(place_title(study.experiments, place))
        axes.set_ylabel(score_name(points[0].primary or ""))
        axes.set_xlabel("trained parameters, head apart")
    for axes in panels[len(places) :]:
        axes.set_visible(False)
    shown = [row for place in places for row in _points(study, place)]
    seeds = sorted({seed for row in shown for seed in row.seeds})
    return Drawing(
        "task_parameters_score",
        "Score against trained parameters",
        "Parameters that the method itself trains, at the end of training (logarithmic; the task head, which every "
        "method "
        "trains, is left out), against the task's primary metric. Bars: sample standard deviation over seeds, none "
        "with one "
        "seed. Points of equal counts are moved apart. Dashed: no adapter parameters. The bars do not show the "
        "uncertainty over test items, which the verdicts "
        "give. "
        f"An axis spans at least {LEAST_SPAN:g}. "
        f"Source: metrics.json and record.json of the {study.profile} profile, "
        f"{'; '.join(sorted({row.corpus_label for row in shown}))}, seeds {', '.join(map(str, seeds))}.",
        f"Scatter of trained parameters and score, {len(places)} panels, one named point per method.",
        figure,
    )


@styled
def memory_against_adapters(memory: Memory | None, authors: Authors, profile: str) -> Drawing:
    """Peak memory of phase 2 against K as measured here, beside the authors' measured curves."""
    figure, (left, right) = new_figure(2, (7.6, 3.4))
    if memory is None:
        left.text(0.5, 0.5, "not measured\nin this profile", ha="center", va="center", transform=left.transAxes)
        left.set_xticks([])
        left.set_yticks([])
        ours = f"Left: not measured in the {profile} profile (`make memory` measures it). "
    else:
        _measured(left, memory)
        ours = (
            f"Left: {backbone_name(memory.backbone)}, rank {memory.rank or 'unknown'}, {memory.batch} x "
            f"{memory.length} tokens a "
            "step: peak "
            "resident memory of phase 2, each K from a checkpoint in a fresh process, since a peak never falls. "
        )
    left.set_title("Measured here")
    for series, shade in zip(authors.memory.series, RANK_SHADES, strict=False):
        keeps = sorted(series.cells)
        values = [series.cells[keep].number for keep in keeps]
        right.plot(keeps, values, color=shade, linewidth=1.4)
    ends = [
        (36.0, series.cells[max(series.cells)].number, f"r={series.rank}", shade)
        for series, shade in zip(authors.memory.series, RANK_SHADES, strict=False)
    ]
    right.set_xlim(0, 37)
    name_at_right(right, ends, 16, size=LABEL_SIZE, leaders=False)
    right.set_title("The authors' measurements")
    right.set_xlabel("number of adapters, from block 0 upwards")
    right.set_ylabel("GB (CUDA)")
    added = authors.memory.added_by_their_figure
    return Drawing(
        "memory_adapters",
        "Peak memory against the number of adapters",
        ours
        + f"Right: {authors.memory.setup}. The two panels are different models, machines and quantities: only their "
        "shapes "
        f"can be set side by side. {' '.join(authors.memory.notes)} Standing: {added.standing.replace('_', ' ')}. "
        f"Source: {authors.memory.sources['files'].citation}.",
        "Two panels: peak memory against K here, and the authors' curves against the number of adapters at five ranks.",
        figure,
    )


def _points(study: TaskStudy, place: tuple[str, str]) -> list[TaskRow]:
    return [
        row for row in study.rows if row.place == place and row.primary and row.scores.get(row.primary) and row.counts
    ]


def _scatter(axes: Axes, points: Sequence[TaskRow]) -> None:
    looks = looks_of([(row.experiment, row.method) for row in points])
    places = _apart([row.counts["adapter"] + row.counts["importance"] for row in points])
    positive = [place for place in places if place] or [1.0]
    lower, upper = min(positive) / 1.5, max(positive) * 1.5
    names, ends = [], []
    for row, place in zip(points, places, strict=True):
        summary = row.scores[row.primary or ""]
        assert summary is not None
        colour, _, marker = looks[row.experiment]
        spread = summary.standard_deviation
        if place == 0:
            axes.axhline(summary.mean, color=colour, linestyle="--", linewidth=1.4)
        else:
            axes.errorbar(place, summary.mean, spread, fmt=marker, color=colour, ms=5.5, capsize=3, elinewidth=1.2)
        names.append((place or upper, summary.mean, row.label, colour))
        ends += [summary.mean - (spread or 0.0), summary.mean + (spread or 0.0)]
    axes.set_xscale("log")
    axes.set_xlim(lower, upper)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if upper > 100 * lower else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.xaxis.set_minor_formatter(NullFormatter())
    middle, span = (max(ends) + min(ends)) / 2, max(max(ends) - min(ends), LEAST_SPAN)
    axes.set_ylim(middle - 0.58 * span, middle + 0.58 * span)
    name_at_right(axes, names, max(13, len(names)), size=LABEL_SIZE)


def _apart(counts: Sequence[int]) -> list[float]:
    """Counts for a logarithmic axis, those within a tenth of each other moved apart by a few per cent; 0 stays."""
    order = sorted((index for index, count in enumerate(counts) if count), key=lambda index: counts[index])
    groups: list[list[int]] = []
    for index in order:
        if groups and counts[index] <= 1.1 * counts[groups[-1][0]]:
            groups[-1].append(index)
        else:
            groups.append([index])
    places = [float(count) for count in counts]
    for group in groups:
        for position, index in enumerate(group):
            places[index] = counts[group[0]] * DODGE ** (position - (len(group) - 1) / 2)
    return places


def _short(value: float) -> str:
    """`20k`, `3M`: a count in three characters or so."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _measured(axes: Axes, memory: Memory) -> None:
    keeps = [row.keep for row in memory.rows]
    axes.plot(keeps, [row.phase2_peak_bytes / 1e6 for row in memory.rows], "o-", color=COLOURS["weight_lora"])
    last = memory.rows[-1]
    names = [(last.keep, last.phase2_peak_bytes / 1e6, "phase 2 at K", COLOURS["weight_lora"])]
    for field, name, colour in (
        ("all_adapters_peak_bytes", "all adapters", COLOURS["lora"]),
        ("baseline_bytes", "before training", COLOURS["frozen"]),
    ):
        found = [value for row in memory.rows if (value := getattr(row, field)) is not None]
        if found:
            level = sum(found) / len(found) / 1e6
            axes.axhline(level, color=colour, linestyle="--", linewidth=1.4)
            names.append((last.keep, level, name, colour))
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.05 * (high - low), high + 0.08 * (high - low))
    axes.set_xlim(0, 1.04 * max(keeps))
    name_at_right(axes, names, 14, size=LABEL_SIZE, leaders=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("adapters kept, K")
    axes.set_ylabel("MB (resident)")
