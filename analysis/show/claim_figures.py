"""Figures of what is behind the verdicts: what a design can detect, and a verdict against its smoothing window."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from analysis.judge.bench import Bench, Case
from analysis.judge.claims import JudgedBench
from analysis.judge.decision import ALPHA, CONFIDENCE, LEAST_SEEDS, POWER, Difference, Finding
from analysis.judge.number_format import percent
from analysis.judge.solo_claims import EARLIER_MEASURE, ablation, smoothness_differences
from analysis.judge.study import POOLED_METRIC
from analysis.load.names import score_name
from analysis.show.blocks import Block
from analysis.show.claim_tables import PAPERS
from analysis.show.drawing import COLOURS, CYCLE, GROUND, INK, Drawing, add_legend, new_figure, new_grid, styled
from analysis.show.power import SEED_COUNTS, needed, power_text
from analysis.show.run_tables import page_command
from analysis.show.sections import Section
from analysis.stats.bootstrap import Interval
from analysis.stats.power import MOST, Spread, items_needed, power, seeds_needed, smallest_detectable
from analysis.stats.smoothness import EARLIER_WINDOW
from replication.fileio import write_text

COUNTS = (3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20)  # seeds at which a curve is computed
SHADES = ("#B97F00", "#D55E00", "#7A5CD6", "#0072B2", "#1a1a2e")  # few seeds to many
SHOWN_COUNTS = (3, 5, 8, 12, 20)


# --- what a design can detect --------------------------------------------------


@dataclass(frozen=True)
class Detectable:
    """One primary comparison whose noise is known, with the smallest difference found by number of seeds."""

    paper: str
    claim: int
    case: Case
    finding: Finding
    spread: Spread

    @property
    def level(self) -> float:
        """Alpha of its family's first step; as a single test where none was made."""
        return ALPHA / (self.finding.family or 1)

    @property
    def seeds(self) -> int:
        """The number of seeds there are."""
        return len(self.finding.difference.seeds)

    @property
    def target(self) -> float | None:
        """The published difference, or else the margin; None if there is neither."""
        return self.finding.question.target

    @cached_property
    def curve(self) -> dict[int, float]:
        """Number of seeds -> smallest detectable difference."""
        return _curve(self.spread, self.seeds, self.level)

    @cached_property
    def limit(self) -> float:
        """The smallest difference found with any number of seeds on these examples."""
        return smallest_detectable(self.spread, MOST, self.level, POWER)


def detectable(bench: JudgedBench) -> list[Detectable]:
    """Every primary comparison of either paper whose noise is known, in the order of the claims."""
    return [
        Detectable(PAPERS[judged.claim.paper], judged.claim.number, case, finding, spread)
        for judged in bench.verdicts
        for case in judged.primary
        for finding in case.findings
        if (spread := finding.difference.spread) is not None and spread.error(len(finding.difference.seeds)) > 0
    ]


@styled
def detectable_differences(found: Sequence[Detectable], profile: str) -> Drawing | None:
    """The smallest detectable difference against the number of seeds, one panel a primary comparison."""
    if not found:
        return None
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    figure, grid = new_grid(rows, columns, (7.6, 0.75 + 2.15 * rows), sharey=True)
    panels = [axes for row in grid for axes in row]
    drawn: list[float] = []
    for axes, one in zip(panels, found, strict=False):
        limit = one.limit if one.spread.common > 0 else None
        drawn += _detectable_panel(axes, one.curve, one.seeds, limit, one.target)
        metric = one.finding.difference.metric
        parts = (f"Claim {one.claim}", one.case.title, *(() if metric == POOLED_METRIC else (score_name(metric),)))
        axes.set_title(one.finding.question.name, pad=17)
        axes.text(0, 1.03, " · ".join(parts), transform=axes.transAxes, fontsize=8)
    for axes in panels[: len(found)]:
        _log_axis(axes, drawn)
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    for place, axes in enumerate(panels[: len(found)]):
        if place % columns == 0:
            axes.set_ylabel("difference")
        if place + columns >= len(found):
            axes.set_xlabel("seeds")
    add_legend(figure, panels[: len(found)])
    measured = "; ".join(
        f"{one.paper} claim {one.claim}, {one.finding.question.name}: {one.curve[one.seeds]:.3f} with {one.seeds} seeds"
        + (f", {one.target:.2g} wanted" if one.target else "")
        for one in found
    )
    return Drawing(
        "detectable",
        "What this design can detect",
        f"The smallest true difference (logarithmic) that the rule finds with {percent(POWER, 0)} probability, against "
        "the number of seeds, from the spread over this profile's seeds and test examples. A true difference below "
        "the curve would probably be missed. Dot: the seeds there are. Dashed: the difference that matters, the "
        "published one or else the margin (where a claim says that a method keeps the "
        "metric, the loss it may have); where it lies below the dot, “cannot tell” is the likely verdict even if the "
        "true difference is that large. Dotted: what no number of seeds "
        "gets below on these test examples, whose noise is common to all seeds. Each primary comparison at the level "
        "of its family; where nothing was tested, as a single test. The spread is itself an estimate from few seeds. "
        f"Source: scores.json and predictions of the {profile} profile; plots/detectable.csv.",
        f"Falling curves in {len(found)} panels, one a primary comparison. {measured}.",
        figure,
    )


def detectable_block(found: Sequence[Detectable], profile: str) -> Block:
    """The power for the difference that matters by number of seeds, and the seeds and examples that it needs."""
    rows = tuple(_needs(one) for one in found if one.target)
    headers = ("Comparison", "Difference that matters", *(f"{count} seeds" for count in SEED_COUNTS),
               "Seeds needed", "Examples needed (now)")  # fmt: skip
    notes = (
        f"Power (rounded down) to find the published difference or else the margin, by number of seeds; then what "
        f"{percent(POWER, 0)} needs: seeds on these test examples, or test examples with these seeds. None: no number "
        "suffices, for the noise of the test examples is common to all seeds, and the spread of training is the same "
        "on any examples. For other differences: replicate power.",
    )
    title = f"Seeds and test examples that a difference needs, {profile} profile"
    return Block(title, headers, rows, notes if rows else (), command=page_command(profile), key="power")


def _needs(one: Detectable) -> tuple[str, ...]:
    assert one.target is not None
    spread, level, examples = one.spread, one.level, "not known"
    if spread.items is not None:
        examples = needed(items_needed(one.target, spread, one.seeds, level, POWER))
    return (
        f"{one.paper} {one.claim}, {one.case.title}: {one.finding.question.name}",
        f"{one.target:.2g} {score_name(one.finding.difference.metric)}",
        *(power_text(power(one.target, spread, count, level)) for count in SEED_COUNTS),
        needed(seeds_needed(one.target, spread, level, POWER, LEAST_SEEDS)),
        f"{examples} ({spread.items:,})" if spread.items is not None else examples,
    )


def design_sections(found: Sequence[Detectable], profile: str) -> list[Section]:
    """The section of the page on what the design can detect; none without a primary comparison whose noise is known."""
    drawing = detectable_differences(found, profile)
    if drawing is None:
        return []
    intro = (
        "“Cannot tell” may mean that there is no difference, or that the design is too small to see it. This section "
        "shows which: what the seeds and test examples of this profile can find, and what it would take to find the "
        "difference that matters.",
    )
    block = detectable_block(found, profile)
    about = "which differences these seeds and test examples can find, and what it takes to find more"
    return [Section("design", drawing.title, intro, (block,) if block.rows else (), (drawing,), about)]


@styled
def power_curves(spread: Spread, seeds: int, level: float) -> Drawing:
    """Power against the true difference for several numbers of seeds; the smallest detectable against the seeds."""
    curve = _curve(spread, seeds, level)
    limit = smallest_detectable(spread, MOST, level, POWER)
    reach = 1.25 * curve[min(curve)]
    figure, (left, right) = new_figure(2, (7.6, 3.6))
    effects = np.linspace(0, reach, 100)
    for count, shade in zip(SHOWN_COUNTS, SHADES, strict=True):
        chances = [power(float(effect), spread, count, level) for effect in effects]
        left.plot(effects, chances, color=shade, label=f"{count} seeds")
    if spread.common > 0:
        chances = [power(float(effect), spread, MOST, level) for effect in effects]
        left.plot(effects, chances, ":", color=INK, linewidth=1.4, label="any number of seeds")
    left.axhline(POWER, color="#888888", linestyle="--", linewidth=1.2, label=f"target, {percent(POWER, 0)}")
    left.set_ylim(0, 1.02)
    left.set_xlim(0, reach)
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}".replace("%", " %"))
    left.set_title("Power")
    left.set_xlabel("true difference")
    left.set_ylabel("chance to find it")
    _log_axis(right, _detectable_panel(right, curve, seeds, limit if spread.common > 0 else None, None, legend=False))
    right.set_title(f"Found with {percent(POWER, 0)} probability")
    right.set_xlabel("seeds (dot: as measured)")
    right.set_ylabel("smallest difference (logarithmic)")
    add_legend(figure, (left, right))
    shown = ", ".join(f"{curve[count]:.2g} with {count}" for count in (3, 8, 20))
    text = f"Left: power rises with the true difference, the sooner the more seeds. Right: the smallest difference \
found with {percent(POWER, 0)} probability falls with the seeds: {shown}"
    text += f"; below {limit:.2g} with no number of seeds." if spread.common > 0 else "."
    return Drawing("power", "Power of a comparison", "", text, figure)


def _curve(spread: Spread, seeds: int, level: float) -> dict[int, float]:
    """Number of seeds -> smallest detectable difference, with the number there is and up to twice as many."""
    counts = {*COUNTS, max(seeds, LEAST_SEEDS), *((2 * seeds,) if 2 * seeds > COUNTS[-1] else ())}
    return {count: smallest_detectable(spread, count, level, POWER) for count in sorted(counts)}


def _detectable_panel(
    axes: Axes, curve: dict[int, float], seeds: int, limit: float | None, target: float | None, *, legend: bool = True
) -> list[float]:
    """One falling curve with the number of seeds there is, the limit of these examples and the difference wanted.

    Returns every value drawn, for the limits of the axis.
    """
    labels = {
        "curve": "smallest detectable difference",
        "dot": "seeds there are",
        "target": "difference that matters",
        "limit": "limit of these test examples",
    }
    named = {name: label if legend else "_" for name, label in labels.items()}
    axes.set_yscale("log")
    axes.plot(list(curve), list(curve.values()), color=CYCLE[0], label=named["curve"])
    at = max(seeds, min(curve))
    axes.plot(at, curve[at], "o", color=CYCLE[1], markersize=7, zorder=5, label=named["dot"])
    axes.annotate(f"{curve[at]:#.2g}", (at, curve[at]), xytext=(6, 5), textcoords="offset points", fontsize=8.5)
    ends = [*curve.values()]
    last = max(curve)
    for value, line, colour, name in ((limit, ":", INK, "limit"), (target, "--", CYCLE[2], "target")):
        if value is not None and value > 0:
            axes.axhline(value, linestyle=line, color=colour, linewidth=1.4, label=named[name])
            ends.append(value)
            if name == "target":
                axes.annotate(f"{value:.2g}", (last, value), xytext=(0, 3), textcoords="offset points", ha="right",
                              fontsize=8.5)  # fmt: skip
    axes.set_xlim(min(curve) - 0.7, last + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return ends


def _log_axis(axes: Axes, drawn: Sequence[float]) -> None:
    """Limits round what is drawn, and labels at 1, 2 and 5."""
    axes.set_ylim(min(drawn) / 1.6, max(drawn) * 2.5)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


# --- the verdict against the smoothing window ----------------------------------

UNITS = {"excess variation": "ratio"}  # of a smoothness measure; the others are losses
LOSS = "nats per token"
LOOKS = (
    ("above zero: smoother with the parameter", COLOURS["solo_connection"], "o", True),
    ("below zero: smoother without it", CYCLE[1], "s", True),
    ("contains zero", "#757575", "o", False),
)
CONFOUNDED = ("of runs on different types of processor: decides nothing", "#757575", "s", False)


@styled
def smoothness_against_window(bench: Bench) -> Drawing | None:
    """Solo Connection's claim 4: the effect of the homotopy parameter with its interval, by window and by measure."""
    found = smoothness(bench)
    windows = [entry for entry in found if window_of(entry[0]) is not None]
    measures = [entry for entry in found if window_of(entry[0]) is None]
    if not windows or not measures:
        return None
    ratios = [2.6, *([1.0] * len(measures))]
    figure, (panels,) = new_grid(1, 1 + len(measures), (7.6, 3.7), gridspec_kw={"width_ratios": ratios})
    windows.sort(key=lambda entry: window_of(entry[0]) or 0)
    _intervals(panels[0], windows)
    panels[0].set_xticks(range(len(windows)), [str(window_of(difference)) for difference, _ in windows])
    panels[0].set_title("Largest rise of the smoothed loss")
    panels[0].set_xlabel("smoothing window, logged values")
    panels[0].set_ylabel(f"without minus with, {LOSS}")
    for axes, entry in zip(panels[1:], measures, strict=True):
        _intervals(axes, [entry])
        axes.set_xticks([])
        axes.set_title(_folded(entry[0].metric), fontsize=8.5)
        axes.set_xlabel(UNITS.get(entry[0].metric, LOSS), fontsize=8)
    add_legend(figure, panels)
    first = found[0][0]
    confounded = any(difference.confounded for difference, _ in found)
    caption = (
        "How much less smooth the training loss is without the homotopy parameter, with the "
        f"{percent(CONFIDENCE, 0)} interval over seeds. Above zero: the parameter makes training smoother. "
        f"Left: the earlier measure, for the window of {EARLIER_WINDOW} that was fixed for it and for others, on which "
        "its answer depends; right: the measures without a window, of which the first in paper_results/judgement.yaml, "
        f"{first.metric}, decides. "
    )
    if confounded:
        caption += (
            "The runs with and without the parameter were made on different types of processor, so that the "
            "difference may be the processors': no verdict is drawn from it. "
        )
    seeds = ", ".join(map(str, first.seeds))
    caption += f"Source: curves.csv of the {bench.profile} profile, seeds {seeds}; plots/smoothness_windows.csv."
    told = "; ".join(
        f"{difference.metric} {difference.effect:+.2g} ({interval.low:+.2g} to {interval.high:+.2g})"
        for difference, interval in (*measures, *windows)
    )
    return Drawing(
        "smoothness_windows",
        "Solo Connection's claim 4 against the smoothing window",
        caption,
        f"Effects with intervals by smoothing window, and by measure: {told}.",
        figure,
    )


def smoothness(bench: Bench) -> list[tuple[Difference, Interval]]:
    """Every smoothness difference of the runs with and without the homotopy parameter, with its interval over seeds."""
    pair = ablation(bench)
    differences = [] if pair is None else smoothness_differences(bench, *pair)
    return [(found, found.mean_test.interval(CONFIDENCE)) for found in differences if found.mean_test is not None]


def window_of(difference: Difference) -> int | None:
    """The smoothing window of the earlier measure; None for a measure without one."""
    found = re.fullmatch(rf"{re.escape(EARLIER_MEASURE)}, window (\d+)", difference.metric)
    return int(found[1]) if found else None


def _intervals(axes: Axes, entries: Sequence[tuple[Difference, Interval]]) -> None:
    """A point with its bar for each entry; colour, shape and filling say on which side of zero the interval lies."""
    for place, (difference, interval) in enumerate(entries):
        kind = 0 if interval.low > 0 else 1 if interval.high < 0 else 2
        label, colour, marker, filled = CONFOUNDED if difference.confounded else LOOKS[kind]
        error = [[difference.effect - interval.low], [interval.high - difference.effect]]
        axes.errorbar(
            place,
            difference.effect,
            error,
            fmt=marker,
            color=colour,
            capsize=4,
            markersize=6,
            markerfacecolor=colour if filled else GROUND,
            elinewidth=1.6,
            label=f"interval {label}",
        )
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_xlim(-0.6, len(entries) - 0.4)
    reach = 1.15 * max(max(abs(interval.low), abs(interval.high)) for _, interval in entries)
    axes.set_ylim(-(reach or 0.01), reach or 0.01)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", visible=False)


def _folded(text: str) -> str:
    """A measure's name on two lines."""
    words = text.split(" ")
    half = -(-len(words) // 2)
    return "\n".join((" ".join(words[:half]), " ".join(words[half:])))


# --- the data behind them --------------------------------------------------------


def draw_judged(bench: Bench) -> list[Drawing]:
    """Every figure of Solo Connection's claims for which there is data."""
    return [drawing for drawing in (smoothness_against_window(bench),) if drawing is not None]


def write_judged_plots(folder: Path, designs: Sequence[Detectable], bench: Bench) -> None:
    """detectable.csv and smoothness_windows.csv: the numbers of both figures, where there are any."""
    curves = [
        {"claim": f"{one.paper} {one.claim}", "case": one.case.title, "comparison": one.finding.question.name,
         "metric": one.finding.difference.metric, "seeds": count, "smallest_detectable": value,
         "seeds_measured": one.seeds, "difference_that_matters": one.target, "limit_of_examples": one.limit}
        for one in designs
        for count, value in one.curve.items()
    ]  # fmt: skip
    effects = [
        {"measure": EARLIER_MEASURE if window_of(found) else found.metric, "window": window_of(found),
         "effect": found.effect, "low": interval.low, "high": interval.high, "seeds": len(found.seeds),
         "confounded": found.confounded}
        for found, interval in smoothness(bench)
    ]  # fmt: skip
    for name, rows in (("detectable", curves), ("smoothness_windows", effects)):
        if rows:
            frame = pd.DataFrame(rows).convert_dtypes()
            write_text(folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
