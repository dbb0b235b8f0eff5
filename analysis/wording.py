"""Numbers as sentences say them: signed differences, percentages, intervals, what a test found."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.decision import Difference, Finding
from analysis.labels import score_name
from analysis.statistics import Interval


def signed(value: float) -> str:
    """Three places with a sign; a minus is a minus, not a hyphen."""
    return f"{value:+.3f}".replace("-", "−")


def percent(share: float, places: int = 1) -> str:
    """`16.7 %` for 0.167."""
    return f"{100 * share:.{places}f} %"


def span(interval: Interval) -> str:
    """`−0.043 to +0.001`."""
    return f"{signed(interval.low)} to {signed(interval.high)}"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)


def p_text(value: float) -> str:
    """`p = 0.012`, and `p < 0.001` for anything smaller."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def difference_text(difference: Difference) -> str:
    """`−0.021 accuracy (95 % over items −0.043 to +0.001, 95 % over 3 seeds −0.030 to −0.012)`."""
    return f"{signed(difference.effect)} {score_name(difference.metric)} ({', '.join(_intervals(difference))})"


def finding_text(finding: Finding) -> str:
    """`difference_text` with the adjusted p-value and the smallest difference that could have been found."""
    difference, parts = finding.difference, _intervals(finding.difference)
    if finding.p_holm is not None:
        bound = "" if finding.question.bounds == (0.0,) else f" against {signed(_bound(finding))}"
        parts.append(f"Holm-adjusted {p_text(finding.p_holm)}{bound}")
    if difference.sign_flip_p is not None:
        parts.append(f"sign flips {p_text(difference.sign_flip_p)}")
    if finding.detectable is not None and finding.family is not None:
        parts.append(f"detectable from {finding.detectable:.3f}")
    return f"{signed(difference.effect)} {score_name(difference.metric)} ({', '.join(parts)})"


def _bound(finding: Finding) -> float:
    question, items = finding.question, finding.difference.over_items
    return question.below if items is not None and items.estimate < question.below else question.above


def _intervals(difference: Difference) -> list[str]:
    parts = []
    if difference.over_items is not None:
        parts.append(f"95 % over items {span(difference.over_items)}")
    count = len(difference.seeds)
    if difference.over_seeds is not None:
        parts.append(f"95 % over {count} seeds {span(difference.over_seeds)}")
    else:
        parts.append("one seed" if count == 1 else f"{count} seeds")
    return parts
