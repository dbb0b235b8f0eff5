"""The report's figures, each with its caption: loss curves, homotopy trajectories, parameters against score."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.drawing import Drawing, add_legend, looks_of, new_figure, styled
from analysis.labels import score_name
from analysis.records import Experiment, of_generation
from analysis.results import ResultRow, experiment_labels
from analysis.statistics import smooth

SMOOTHING_SHARE = 0.05  # of a curve's logged values


def draw_all(experiments: Sequence[Experiment], rows: Sequence[ResultRow]) -> list[Drawing]:
    """Every figure of the generation experiments for which there is data, in the report's order."""
    experiments = of_generation(experiments)
    drawings = [loss_curves(experiments)]
    drawings += [homotopy(experiment, experiment_labels(experiments)) for experiment in experiments]
    drawings.append(parameters_against_score(rows))
    return [drawing for drawing in drawings if drawing is not None]


@styled
def loss_curves(experiments: Sequence[Experiment]) -> Drawing | None:
    """Smoothed training loss and dev loss over steps: thick for the mean over seeds, thin for each seed."""
    experiments = of_generation(experiments)
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
def parameters_against_score(rows: Sequence[ResultRow], metric: str = "BLEU") -> Drawing | None:
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
        if adapter == 0:  # has no place on a logarithmic axis
            label = f"{row.label}: no adapter parameters"
            axes.axhline(summary.mean, color=colour, linestyle="--", linewidth=1.6, label=label)
        else:
            axes.errorbar(
                adapter,
                summary.mean,
                yerr=summary.standard_deviation,
                fmt=marker,
                color=colour,
                label=row.label,
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
        "there is one seed); they do not show the uncertainty over test items, which the table gives. "
        + _source(
            "metrics.json and record.json",
            [row.profile for row in shown],
            [row.corpus for row in shown],
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
