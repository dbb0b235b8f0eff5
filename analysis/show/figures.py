"""Figures of curves and scores: losses, homotopy, scores and memory against parameters."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.judge.study import Row, Study
from analysis.load.names import backbone_name, score_name
from analysis.load.runs import Experiment, experiment_labels
from analysis.load.searches import Memory
from analysis.show.drawing import (
    COLOURS,
    GROUND,
    Drawing,
    add_legend,
    heat_map,
    looks_of,
    new_figure,
    new_grid,
    scale_beside,
    set_layout,
    styled,
)
from analysis.stats.seeds import SeedSummary, smooth

SMOOTHING_SHARE = 0.05  # of a curve's logged values


def draw_all(study: Study) -> list[Drawing]:
    """Every figure of the compared generation experiments for which there is data, in the report's order."""
    experiments = study.generation.compared
    labels = experiment_labels(experiments)
    drawings = [loss_curves(experiments), *(homotopy(experiment, labels) for experiment in experiments)]
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


KINDS = (
    ("homotopy_parameter", "Homotopy parameter $a_c$", "homotopy parameter (free, not clamped)"),
    ("homotopy_vector_norm", "Norm of homotopy vector $v_c$", "norm of the homotopy vector, which starts at zero"),
)
MOST_NAMES = 15  # of rows of a heat map


@styled
def homotopy(experiment: Experiment, labels: dict[str, str]) -> Drawing | None:
    """Homotopy parameter and norm of the homotopy vector as heat maps: a row a connection, a column a step."""
    present = [(kind, title, words) for kind, title, words in KINDS if _connections(experiment, kind)]
    if not present:
        return None
    most = max(len(_connections(experiment, kind)) for kind, _, _ in present)
    figure, panels = new_figure(len(present), (7.6, 1.1 + 0.16 * min(most, MOST_NAMES)))
    for axes, (kind, title, _) in zip(panels, present, strict=True):
        _connection_map(axes, experiment, kind)
        axes.set_title(title)
        axes.set_xlabel("step")
    panels[0].set_ylabel("from → to block")
    return Drawing(
        f"homotopy_{experiment.name}",
        f"Homotopy over training, {labels[experiment.name]}",
        f"{labels[experiment.name]}: {' and '.join(words for _, _, words in present)}, for every connection (rows, "
        "from the first block to the last) over the steps; mean over seeds. " + _source_of_curves([experiment]),
        f"Heat map over training steps, one row per connection: {'; '.join(words for _, _, words in present)}.",
        figure,
    )


def _connection_map(axes: Axes, experiment: Experiment, kind: str) -> None:
    links = _connections(experiment, kind)
    columns = [f"{kind}[{link}]" for link in links]
    curves = [curve.set_index("step")[columns] for curve in experiment.curves.values() if columns[0] in curve.columns]
    mean = pd.concat(curves).groupby(level=0).mean().dropna(how="all")
    values = mean.to_numpy(dtype=np.float64).T
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    high = high if high > low else low + 1e-6
    heat_map(axes, values, low, high, float(mean.index[-1]))
    scale_beside(axes, low, high)
    named = range(0, len(links), -(-len(links) // MOST_NAMES))
    names = [links[place].replace("->", "→") for place in named]
    axes.set_yticks([place + 0.5 for place in named], names, fontsize=7.5)
    axes.tick_params(axis="y", length=0)


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
LABEL_CHARACTERS = 29  # of a line beside a panel
TITLE_CHARACTERS = 25  # of a line above one of two panels
LEAST_SPAN = 0.1  # of a score axis: a difference of thousandths is not to fill the panel
MOST_PANELS = 4  # on the first page
SEVERAL, ONE_SEED, ALIKE, BEYOND = (
    "several seeds, bar: standard deviation", "one seed", "some seed predicts the same for every example",
    "trains no adapter; its score is written where it lies outside the axis",
)  # fmt: skip


def scores_at_a_glance(study: Study) -> Drawing | None:
    """The generation task and the tasks with the most methods, as `score_against_parameters` draws them."""
    settings, first = _drawn(study), study.generation.settings
    kept = sorted(settings, key=lambda setting: (setting not in first, -len(_points(study, setting))))[:MOST_PANELS]
    return score_against_parameters(study, [setting for setting in settings if setting in kept], "scores")


def scores_of_all_tasks(study: Study) -> Drawing | None:
    """Every task's panel; None where the first page has room for all."""
    return score_against_parameters(study) if len(_drawn(study)) > MOST_PANELS else None


@styled
def score_against_parameters(
    study: Study, settings: Sequence[tuple[str, str]] | None = None, name: str = "task_scores"
) -> Drawing | None:
    """Primary score of every method, the fewest trained parameters at the top: one panel a task."""
    settings = _drawn(study) if settings is None else settings
    if not settings:
        return None
    columns = 1 if len(settings) == 1 else 2
    lines = [settings[start : start + columns] for start in range(0, len(settings), columns)]
    heights = [0.8 + 0.185 * max(_places(_points(study, setting))[-1] for setting in line) for line in lines]
    figure, grid = new_grid(len(lines), columns, (7.6, 0.4 + sum(heights)), gridspec_kw={"height_ratios": heights})
    set_layout(figure, rect=(0.02, 0, 0.985, 1), wspace=0.08)  # names measure a little too short for the browser's font
    panels = [axes for row in grid for axes in row]
    for axes, setting in zip(panels, settings, strict=False):
        points = _points(study, setting)
        _dots(axes, points)
        axes.set_title(fill(f"{points[0].task_title} on {backbone_name(setting[0])}", TITLE_CHARACTERS), fontsize=9)
        axes.set_xlabel(score_name(points[0].primary or ""))
    for axes in panels[len(settings) :]:
        axes.set_visible(False)
    add_legend(figure, panels[: len(settings)])
    shown = [row for setting in settings for row in _points(study, setting)]
    return Drawing(
        name,
        "Every method's score",
        "Every method's score; in brackets the most parameters that a seed trains itself in the end, task head apart; "
        "the fewest at the top. Bars do not show the uncertainty over test examples; the verdicts include it. "
        f"An axis spans at least {LEAST_SPAN:g}. "
        + _source("scores.json and record.json", [study.profile], [row.corpus_label for row in shown],
                  [seed for row in shown if _trained(row) for seed in row.seeds]),
        f"Dot plot of scores, {len(settings)} panels, one row a method, ordered by trained parameters.",
        figure,
    )  # fmt: skip


def _drawn(study: Study) -> list[tuple[str, str]]:
    """Settings with two methods or more to set beside each other."""
    return [setting for setting in study.settings if len(_points(study, setting)) > 1]


def _points(study: Study, setting: tuple[str, str]) -> list[Row]:
    found = [
        row
        for row in study.rows
        if row.setting == setting and row.primary and row.scores.get(row.primary) and row.counts
    ]
    return sorted(found, key=_trained)


def _trained(row: Row) -> int:
    """The most of any seed."""
    return row.counts["adapter"][1] + row.counts["importance"][1]


def _point_label(row: Row) -> str:
    count = _trained(row)
    return fill(f"{row.label} [{_short(count)}]" if count else row.label, LABEL_CHARACTERS)


def _places(points: Sequence[Row]) -> list[float]:
    """Where the rows of a panel lie: a label of two lines takes more room. The last is the height."""
    heights = [1 + 0.6 * _point_label(row).count("\n") for row in points]
    return [sum(heights[:index]) + height / 2 for index, height in enumerate(heights)] + [sum(heights)]


def _dots(axes: Axes, points: Sequence[Row]) -> None:
    looks = looks_of([(row.experiment, row.method) for row in points])
    scores = {row.experiment: summary for row in points if (summary := row.scores[row.primary or ""]) is not None}
    low, high = _span([scores[row.experiment] for row in points if _trained(row)] or list(scores.values()))
    *places, height = _places(points)
    for place, row in zip(places, points, strict=True):
        summary, colour = scores[row.experiment], looks[row.experiment][0]
        if not low <= summary.mean <= high:
            left = summary.mean < low
            end, text = (low, f"◂ {summary.mean:.3f}") if left else (high, f"{summary.mean:.3f} ▸")
            axes.text(end, place, text, ha="left" if left else "right", va="center", fontsize=LABEL_SIZE)
            continue
        marker, face, label = ("o", colour, SEVERAL) if len(row.seeds) > 1 else ("o", GROUND, ONE_SEED)
        if not _trained(row):
            marker, label = "|", BEYOND
        elif row.constant:
            marker, face, label = "s", GROUND, ALIKE
        size = 8 if marker == "|" else 6
        axes.errorbar(summary.mean, place, xerr=summary.standard_deviation, fmt=marker, color=colour, capsize=3,
                      markersize=size, markerfacecolor=face, elinewidth=1.3, label=label)  # fmt: skip
    axes.set_yticks(places, [_point_label(row) for row in points], fontsize=LABEL_SIZE)
    axes.set_ylim(height, 0)
    axes.set_xlim(low, high)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _span(found: Sequence[SeedSummary]) -> tuple[float, float]:
    """Limits of a score axis: every mean with its spread, and no less than `LEAST_SPAN`."""
    ends = [found.mean + sign * (found.standard_deviation or 0.0) for found in found for sign in (-1, 1)]
    middle, span = (max(ends) + min(ends)) / 2, max(max(ends) - min(ends), LEAST_SPAN)
    return middle - 0.58 * span, middle + 0.58 * span


def _short(value: float) -> str:
    """`20k`, `3M`: a count in three digits or fewer."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


@styled
def memory_against_adapters(memory: Memory | None, profile: str) -> Drawing | None:
    """Peak resident memory of phase 2 against K, from zero; the authors' curves are with the predictions."""
    if memory is None:
        return None
    figure, (axes,) = new_figure(1, (6.2, 3.2))
    keeps = [row.keep for row in memory.rows]
    medians, whole = [median(row.phase2_peaks_bytes) / 1e6 for row in memory.rows], memory.all_adapters_peaks_bytes
    axes.plot(keeps, medians, "-", color=COLOURS["weight_lora"], label="phase 2 at K")
    for row in memory.rows:
        peaks = [peak / 1e6 for peak in row.phase2_peaks_bytes]
        axes.plot([row.keep] * len(peaks), peaks, "o", color=COLOURS["weight_lora"], markersize=4, alpha=0.6)
    for found, name, colour, line in (
        (whole, "all adapters", COLOURS["lora"], "--"),
        ([row.baseline_bytes for row in memory.rows if row.baseline_bytes], "before training", COLOURS["frozen"], ":"),
    ):
        if found:
            axes.axhline(median(found) / 1e6, color=colour, linestyle=line, linewidth=1.6, label=name)
            axes.axhspan(min(found) / 1e6, max(found) / 1e6, color=colour, alpha=0.15, linewidth=0)
    axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
    axes.set_xlim(0, 1.04 * max(keeps))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("adapters kept, K")
    axes.set_ylabel("MB (resident)")
    add_legend(figure, (axes,))
    return Drawing(
        "memory_adapters",
        "Peak memory against the number of adapters",
        f"{backbone_name(memory.backbone)}, rank {memory.rank or 'unknown'}, {memory.batch} x {memory.length} tokens a "
        "step: peak resident memory of phase 2, each K from a checkpoint in fresh processes, since a peak never "
        "falls. Dots: single processes; lines: medians; bands: from the least to the greatest. What the authors "
        "measured is beside the predictions at full scale. "
        f"Source: measurements of the {profile} profile.",
        f"Median peak in MB: {', '.join(f'K={keep} {peak:,.0f}' for keep, peak in zip(keeps, medians, strict=True))}"
        + (f"; all adapters {median(whole) / 1e6:,.0f}." if whole else "."),
        figure,
    )
