"""The claims at a glance: every comparison with its intervals, and published differences beside measured ones."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.judge.bench import Judged
from analysis.judge.claims import JudgedBench
from analysis.judge.decision import CONFIDENCE, POWER, Difference, Finding
from analysis.judge.number_format import percent
from analysis.judge.published_vs_measured import LoraDifference
from analysis.load.names import score_name
from analysis.show.authors_logs import Halved
from analysis.show.claim_tables import PAPERS
from analysis.show.drawing import COLOURS, CYCLE, GROUND, INK, Drawing, add_legend, new_figure, new_grid, styled
from analysis.stats.bootstrap import Interval

VERDICT_LOOKS: dict[str, tuple[str, str, bool]] = {  # colour, marker, filled
    "supported": (COLOURS["solo_connection"], "o", True),
    "contradicted": (CYCLE[1], "s", True),
}
UNDECIDED = (CYCLE[-1], "o", False)
OVER_SEEDS, OVER_ITEMS = CYCLE[0], CYCLE[4]
PUBLISHED = CYCLE[2]


@styled
def forest(bench: JudgedBench) -> Drawing | None:
    """The primary comparisons of every claim: effect, intervals, published effect and what could be detected."""
    found = [
        (judged, finding)
        for judged in bench.verdicts
        for case in judged.primary
        for finding in case.findings
        if finding.difference.mean_test is not None
    ]
    if not found:
        return None
    figure, (axes,) = new_figure(1, (7.6, 0.9 + 0.47 * len(found)))
    told = []
    for place, (judged, finding) in enumerate(found):
        _forest_row(axes, len(found) - 1 - place, judged, finding)
        told.append(
            f"{PAPERS[judged.claim.paper]} {judged.claim.number}, {finding.question.name}: "
            f"{finding.difference.effect:+.3f}, {judged.verdict_shown}"
        )
    axes.axvline(0, color=INK, linewidth=1)
    names = [_forest_label(judged, finding) for judged, finding in reversed(found)]
    _rows(axes, names)
    axes.set_xlabel("difference, in the unit of each measure")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    add_legend(figure, (axes,))
    return Drawing(
        "forest",
        "Every claim that compares runs",
        "Primary comparison of each claim; right of zero is the claim's side. Bar with caps: the "
        f"{percent(CONFIDENCE, 0)} interval that decides, the wider of over seeds and over seeds and test examples; "
        "none if confounded. Grey ground: what this design would probably miss "
        f"({percent(POWER, 0)} power), around zero or the margin. Filled points are decided, hollow ones not. "
        f"Source: scores.json and predictions of the {bench.profile} profile.",
        f"Differences with intervals: {'; '.join(told)}.",
        figure,
    )


def _forest_row(axes: Axes, height: int, judged: Judged, finding: Finding) -> None:
    difference = finding.difference
    assert difference.mean_test is not None
    colour, marker, filled = VERDICT_LOOKS.get(judged.verdict, UNDECIDED)
    bound = finding.question.above
    if finding.detectable is not None:
        left, width = bound - finding.detectable, 2 * finding.detectable
        axes.barh(height, width, 0.84, left=left, color="#888888", alpha=0.18, label="too small for this design")
    for interval, shift, bar, label in (
        (difference.over_items, 0.25, OVER_ITEMS, "over test examples alone"),
        (difference.over_seeds, -0.25, OVER_SEEDS, "over seeds alone"),
    ):
        if interval is not None:
            ends = [interval.low, interval.high]
            axes.plot(ends, [height + shift] * 2, color=bar, linewidth=2.6, solid_capstyle="butt", label=label)
    decides = None if difference.confounded else difference.mean_test.interval(CONFIDENCE)
    _point(axes, height, difference.effect, decides, colour, marker, filled)
    if bound:
        axes.plot([bound, bound], [height - 0.42, height + 0.42], color=CYCLE[3], linewidth=2, label="margin")
    published = judged.published_value
    if published is not None:
        axes.plot(published, height, "D", color=PUBLISHED, markersize=6, zorder=6, label="published")


def _point(
    axes: Axes, height: float, effect: float, interval: Interval | None, colour: str, marker: str, filled: bool
) -> None:
    error = None if interval is None else [[effect - interval.low], [interval.high - effect]]
    axes.errorbar(
        effect, height, xerr=error, fmt=marker, color=colour, ecolor=INK, capsize=4, markersize=6.5, elinewidth=1.4,
        markerfacecolor=colour if filled else GROUND, label="measured",
    )  # fmt: skip


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _forest_label(judged: Judged, finding: Finding) -> str:
    metric = finding.difference.metric
    paper = "Solo" if judged.claim.paper == "solo" else "WeightLoRA"
    return f"{paper} {judged.claim.number}: {finding.question.name}\n{score_name(metric)}, {judged.verdict_shown}"


METHOD = "solo_connection"


@styled
def published_against_measured(
    differences: Sequence[LoraDifference], halves: Sequence[Halved], profile: str
) -> Drawing | None:
    """Left: each metric's difference from LoRA, published and here, in per cent of LoRA's score; right: half the K."""
    ours = [entry for entry in differences if entry.method == METHOD and (entry.published or entry.measured)]
    shown = [entry for entry in ours if (entry.table, entry.row) == (ours[0].table, ours[0].row)]
    if not shown:
        return None
    rows = max(len(shown), len(halves))
    figure, ((left, right),) = new_grid(1, 2, (7.6, 1.1 + 0.27 * rows))
    for place, entry in enumerate(reversed(shown)):
        _relative(left, place, entry)
    for place, half in enumerate(reversed(halves)):
        _half(right, place, half)
    _rows(left, [score_name(entry.metric) for entry in reversed(shown)])
    _rows(right, [half.task for half in reversed(halves)])
    left.set_title("Solo Connection minus LoRA")
    left.set_xlabel("% of LoRA's score")
    right.set_title("WeightLoRA: half the adapters")
    right.set_xlabel("score with K minus score with 2K")
    for axes in (left, right):
        axes.axvline(0, color=INK, linewidth=1)
    add_legend(figure, (left, right))
    told = [
        f"{score_name(entry.metric)} published {_told(entry.published)}, here "
        f"{_told(entry.measured and entry.measured.effect)}"
        for entry in shown
    ]
    return Drawing(
        "published_measured",
        "Published and measured differences",
        f"Left: {shown[0].row} minus {shown[0].reference} ({shown[0].table}), and the same here; each in per cent of "
        "its own LoRA's score. Right: the authors' logs of WeightLoRA (one run each, K=5 minus K=10) and the runs here "
        f"with the same quotient of K. Bars: {percent(CONFIDENCE, 0)} over seeds; a published difference has none. The "
        "backbones differ, so only direction and size can be set side by side, and no verdict rests on it. "
        f"Source: paper_results, and scores.json of the {profile} profile.",
        f"Differences published and measured. Solo Connection minus LoRA: {'; '.join(told)}.",
        figure,
    )


def _relative(axes: Axes, place: int, entry: LoraDifference) -> None:
    published_level, level = entry.levels
    if entry.published is not None and published_level:
        _published_point(axes, place, 100 * float(entry.published) / published_level)
    if entry.measured is not None and level:
        _measured_point(axes, place, entry.measured, 100 / level)


def _half(axes: Axes, place: int, half: Halved) -> None:
    _published_point(axes, place, float(half.theirs.difference), hollow=not half.theirs.trained)
    if half.ours is not None:
        _measured_point(axes, place, half.ours.difference, 1.0)


def _published_point(axes: Axes, place: int, value: float, hollow: bool = False) -> None:
    label = "published, runs that did not train" if hollow else "published"
    face = GROUND if hollow else PUBLISHED
    axes.plot(value, place + 0.15, "D", color=PUBLISHED, markerfacecolor=face, markersize=5.5, zorder=6, label=label)


def _measured_point(axes: Axes, place: int, found: Difference, scale: float) -> None:
    interval = found.over_seeds
    error = None
    if interval is not None:
        error = [[scale * (found.effect - interval.low)], [scale * (interval.high - found.effect)]]
    axes.errorbar(
        scale * found.effect, place - 0.15, xerr=error, fmt="o", color=OVER_SEEDS, capsize=3, markersize=5.5,
        elinewidth=1.4, label="measured here",
    )  # fmt: skip


def _told(value: object) -> str:
    return "unknown" if value is None else f"{float(str(value)):+.4f}"
