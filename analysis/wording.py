"""Numbers as sentences say them: signed differences, percentages, intervals."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.labels import score_name
from analysis.statistics import Interval
from analysis.task_results import Difference


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


def difference_text(difference: Difference) -> str:
    """`−0.021 accuracy (95 % over items −0.043 to +0.001, over 3 seeds −0.030 to −0.012)`."""
    parts = []
    if difference.over_items is not None:
        parts.append(f"95 % over items {span(difference.over_items)}")
    count = len(difference.seeds)
    if difference.over_seeds is not None:
        parts.append(f"95 % over {count} seeds {span(difference.over_seeds)}")
    else:
        parts.append("one seed" if count == 1 else f"{count} seeds")
    return f"{signed(difference.effect)} {score_name(difference.metric)} ({', '.join(parts)})"
