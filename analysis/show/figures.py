"""Figures of curves and scores: losses, homotopy, scores and memory against parameters."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from analysis.judge.study import Row, Study, setting_title
from analysis.load.authors import Authors
from analysis.load.names import backbone_name, score_name
from analysis.load.runs import Experiment, experiment_labels
from analysis.load.searches import Memory
from analysis.show.drawing import (
    COLOURS,
    Drawing,
    add_legend,
    looks_of,
    name_at_right,
    new_figure,
    new_grid,
    set_layout,
    styled,
)
from analysis.stats.seeds import smooth

SMOOTHING_SHARE = 0.05  # of a curve's logged values


def draw_all(study: Study) -> list[Drawing]:
    """Every figure of the generation experiments for which there is data, in the report's order."""
    experiments, rows = study.generation.experiments, study.generation.rows_as_given
    drawings = [loss_curves(experiments)]
    drawings += [homotopy(experiment, experiment_labels(experiments)) for experiment in experiments]
    drawings.append(parameters_against_score(rows))
    return [drawing for drawing in drawings if drawing is not None]


@styled
def loss_curves(experiments: Sequence[Experiment]) -> Drawing | None:
    """Smoothed training loss and dev loss over steps: thick for the mean over seeds, thin for each seed."""
    shown = [experiment for experiment in experiments if experiment.curves]
    if not shown:
        return None
    labels, looks = (
        experiment_labels(experiments),
        looks_of([(e.name, e.record.method if e.record else "") for e in experiments]),
    )
    figure, (left, right) = new_figure(2, (7.6, 3.6))
    for experiment in shown:
        colour, line, _ = looks[experiment.name]
        training = {seed: curve.dropna(subset=["loss"]) for seed, curve in experiment.curves.items()}
        smoothed = {
            seed: pd.Series(smooth(curve["loss"], _window(curve)), index=curve["step"])
            for seed, curve in training.items()
            if len(curve) > 1
        }
        _mean_and_seeds(left, smoothed, colour, line, labels[experiment.name])
        dev = {
            seed: curve.dropna(subset=["dev_loss"]).set_index("step")["dev_loss"]
            for seed, curve in experiment.curves.items()
        }
        if all(len(series) <= 1 for series in dev.values()):  # nothing was trained: one level for every step
            levels = [float(series.iloc[0]) for series in dev.values() if len(series)]
            if levels:
                right.axhline(
                    float(np.mean(levels)),
                    color=colour,
                    linestyle="--",
                    linewidth=1.6,
                    label=labels[experiment.name],
                )
        else:
            _mean_and_seeds(right, dev, colour, line, labels[experiment.name], marker=".")
    for axes, title in ((left, "Training loss, smoothed"), (right, "Dev loss")):
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.set_ylabel("nats per token")
    add_legend(figure, (left, right))
    smoothing = [e.record.training.get("label_smoothing") for e in shown if e.record]
    caption = (
        "Training loss (trailing mean of about "
        f"{SMOOTHING_SHARE:.0%} of the logged values) and dev loss. Thick: mean over seeds; thin: each seed. "
    )
    if any(smoothing):
        caption += (
            "The training loss includes label smoothing and dropout, the dev loss neither: "
            "compare within a panel only. "
        )
    return Drawing(
        "loss_curves",
        "Loss curves",
        caption + _source_of_curves(shown),
        "Training and dev loss over steps, one colour per method.",
        figure,
    )


@styled
def homotopy(experiment: Experiment, labels: dict[str, str]) -> Drawing | None:
    """Homotopy parameter and norm of the homotopy vector over steps, coloured by the connection's depth."""
    kinds = (
        ("homotopy_parameter", "Homotopy parameter $a_c$"),
        ("homotopy_vector_norm", "Norm of homotopy vector $v_c$"),
    )
    columns = {kind: _connections(experiment, kind) for kind, _ in kinds}
    present = [(kind, title) for kind, title in kinds if columns[kind]]
    if not present:
        return None
    figure, panels = new_figure(len(present), (7.6, 3.6))
    for axes, (kind, title) in zip(panels, present, strict=True):
        names = columns[kind]
        shades = mpl.colormaps["plasma"](np.linspace(0.22, 0.8, len(names)))
        for index, link in enumerate(names):
            series = {
                seed: curve.dropna(subset=[f"{kind}[{link}]"]).set_index("step")[f"{kind}[{link}]"]
                for seed, curve in experiment.curves.items()
                if f"{kind}[{link}]" in curve.columns
            }
            look = mpl.colors.to_hex(shades[index])
            _mean_and_seeds(axes, series, look, "-", link.replace("->", "→"))
        axes.set_title(title)
        axes.set_xlabel("step")
    add_legend(figure, panels, title="connection (from block → to block)")
    caption = (
        f"{labels[experiment.name]}: every connection's homotopy parameter (free, not clamped) and the "
        "norm of its homotopy "
        "vector, which starts at zero. Light colours lie deeper in the model. Thick: mean over seeds; "
        "thin: each seed. "
    )
    return Drawing(
        f"homotopy_{experiment.name}",
        f"Homotopy trajectories, {labels[experiment.name]}",
        caption + _source_of_curves([experiment]),
        "Trajectories over training steps, one line per connection.",
        figure,
    )


@styled
def parameters_against_score(rows: Sequence[Row], metric: str = "BLEU") -> Drawing | None:
    """Adapter parameters (logarithmic) against a score; bars: sample standard deviation over seeds."""
    points = [
        (row, row.adapter, summary)
        for row in rows
        if (summary := row.scores.get(metric)) is not None and row.adapter is not None
    ]
    if not points:
        return None
    looks = looks_of([(row.experiment, row.method) for row in rows])
    figure, (axes,) = new_figure(1, (7.6, 3.6))
    for row, adapter, summary in points:
        colour, _, marker = looks[row.experiment]
        if adapter == 0:  # cannot be shown on a logarithmic axis
            label = f"{row.title}: no adapter parameters"
            axes.axhline(summary.mean, color=colour, linestyle="--", linewidth=1.6, label=label)
        else:
            axes.errorbar(
                adapter,
                summary.mean,
                yerr=summary.standard_deviation,
                fmt=marker,
                color=colour,
                label=row.title,
                markersize=7,
                capsize=4,
                elinewidth=1.6,
            )
    axes.set_xscale("log")
    axes.set_xlabel("adapter parameters (logarithmic)")
    axes.set_ylabel(score_name(metric))
    highest = max(summary.mean + (summary.standard_deviation or 0.0) for _, _, summary in points)
    axes.set_ylim(-0.03 * max(highest, 0.1), 1.1 * max(highest, 0.1))
    counts = [adapter for _, adapter, _ in points if adapter]
    if counts:
        axes.set_xlim(min(counts) / 3, max(counts) * 3)
    add_legend(figure, (axes,))
    shown = [row for row, _, _ in points]
    return Drawing(
        "parameters_score",
        "Parameters against score",
        f"Adapter parameters against {score_name(metric)}. Bars: sample standard deviation over seeds "
        "(none where "
        "there is one seed); they do not show the uncertainty over test items, which the table shows. "
        + _source(
            "scores.json and record.json",
            [row.profile for row in shown],
            [row.corpus_label for row in shown],
            [seed for row in shown for seed in row.seeds],
        ),
        f"Scatter of adapter parameters and {score_name(metric)}, one point per experiment.",
        figure,
    )


def _mean_and_seeds(
    axes: Axes, series: dict[int, pd.Series], colour: str, line: str, label: str, marker: str = ""
) -> None:
    """One thick line for the mean over seeds and a thin one for each seed, where there are several."""
    series = {seed: values for seed, values in series.items() if len(values)}
    if not series:
        return
    if len(series) > 1:
        for values in series.values():
            axes.plot(values.index, values.to_numpy(), color=colour, linestyle="-", linewidth=0.7, alpha=0.45)
    mean = pd.concat(series.values(), axis=1, join="inner").mean(axis=1)
    axes.plot(mean.index, mean.to_numpy(), color=colour, linestyle=line, marker=marker, label=label)


def _connections(experiment: Experiment, kind: str) -> list[str]:
    """Connections that the curves know, such as `2->4`, from the first block to the last."""
    found = {
        name[len(kind) + 1 : -1]
        for curve in experiment.curves.values()
        for name in curve.columns
        if name.startswith(f"{kind}[") and name.endswith("]") and curve[name].notna().any()
    }

    def order(link: str) -> tuple[int, int, str]:
        start, _, end = link.partition("->")
        return (int(end) if end.isdigit() else 0, int(start) if start.isdigit() else 0, link)

    return sorted(found, key=order)


def _window(curve: pd.DataFrame) -> int:
    return max(1, round(SMOOTHING_SHARE * len(curve)))


def _source_of_curves(experiments: Sequence[Experiment]) -> str:
    corpora = [experiment.record.corpus.label for experiment in experiments if experiment.record]
    seeds = [seed for experiment in experiments for seed in experiment.curves]
    return _source("curves.csv", [experiment.profile for experiment in experiments], corpora, seeds)


def _source(files: str, profiles: Sequence[str], corpora: Sequence[str], seeds: Sequence[int]) -> str:
    """Where a figure's numbers come from: files, profile, corpus label, seeds."""
    profile, corpus = ("; ".join(sorted(set(names))) or "unknown" for names in (profiles, corpora))
    drawn = sorted(set(seeds))
    return (
        f"Source: {files} of the {profile} profile, {corpus}, {'seed' if len(drawn) == 1 else 'seeds'} "
        f"{', '.join(map(str, drawn))}."
    )


LABEL_SIZE = 7.5
TITLE_CHARACTERS = 34  # of a line above one of two panels
DODGE = 1.12  # between points of nearly equal parameters
LEAST_SPAN = 0.1  # of a score axis: a difference of thousandths is not to fill the panel
RANK_SHADES = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00")


@styled
def score_against_parameters(study: Study) -> Drawing | None:
    """Adapter parameters at the end (logarithmic, task head apart) against the primary metric, one panel per task."""
    settings = [setting for setting in study.settings if len(_points(study, setting)) > 1]
    if not settings:
        return None
    most = max(len(_points(study, setting)) for setting in settings)
    columns = 1 if len(settings) == 1 else 2
    rows = -(-len(settings) // columns)
    figure, grid = new_grid(rows, columns, (7.6, 0.3 + rows * max(2.3, 0.9 + 0.135 * most)))
    set_layout(figure, w_pad=0.12)  # the names next to one panel end before the next begins
    panels = [axes for row in grid for axes in row]
    for axes, setting in zip(panels, settings, strict=False):
        points = _points(study, setting)
        _scatter(axes, points)
        axes.set_title(fill(setting_title(study.experiments, setting), TITLE_CHARACTERS))
        axes.set_ylabel(score_name(points[0].primary or ""))
        axes.set_xlabel("trained parameters, head apart")
    for axes in panels[len(settings) :]:
        axes.set_visible(False)
    shown = [row for setting in settings for row in _points(study, setting)]
    seeds = sorted({seed for row in shown for seed in row.seeds})
    return Drawing(
        "task_parameters_score",
        "Score against trained parameters",
        "Parameters that the method itself trains, at the end of training (logarithmic; the task head, which every "
        "method "
        "trains, is left out), against the task's primary metric. Bars: sample standard deviation over seeds, none "
        "with one "
        "seed. Points of equal counts are moved apart. Dashed: no adapter parameters. Hollow: some "
        "seed predicts the same for every example. The bars do not show the "
        "uncertainty over test items, which the verdicts "
        "include. "
        f"An axis spans at least {LEAST_SPAN:g}. "
        f"Source: scores.json and record.json of the {study.profile} profile, "
        f"{'; '.join(sorted({row.corpus_label for row in shown}))}, seeds {', '.join(map(str, seeds))}.",
        f"Scatter of trained parameters and score, {len(settings)} panels, one named point per method.",
        figure,
    )


@styled
def memory_against_adapters(memory: Memory | None, authors: Authors, profile: str) -> Drawing:
    """Our peak memory of phase 2 against K, and the authors' measured curves."""
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


def _points(study: Study, setting: tuple[str, str]) -> list[Row]:
    return [
        row
        for row in study.rows
        if row.setting == setting and row.primary and row.scores.get(row.primary) and row.counts
    ]


def _scatter(axes: Axes, points: Sequence[Row]) -> None:
    looks = looks_of([(row.experiment, row.method) for row in points])
    positions = _apart([row.counts["adapter"] + row.counts["importance"] for row in points])
    positive = [position for position in positions if position] or [1.0]
    lower, upper = min(positive) / 1.5, max(positive) * 1.5
    names, ends = [], []
    for row, position in zip(points, positions, strict=True):
        summary = row.scores[row.primary or ""]
        assert summary is not None
        colour, _, marker = looks[row.experiment]
        spread = summary.standard_deviation
        if position == 0:
            axes.axhline(summary.mean, color=colour, linestyle="--", linewidth=1.4)
        else:
            filled = "none" if row.constant else "full"
            axes.errorbar(position, summary.mean, spread, fmt=marker, color=colour, ms=5.5, capsize=3, elinewidth=1.2,
                          fillstyle=filled)  # fmt: skip
        names.append((position or upper, summary.mean, row.label, colour))
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
    positions = [float(count) for count in counts]
    for group in groups:
        for position, index in enumerate(group):
            positions[index] = counts[group[0]] * DODGE ** (position - (len(group) - 1) / 2)
    return positions


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
