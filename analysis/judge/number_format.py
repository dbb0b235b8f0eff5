"""Numbers in sentences: signed differences, percentages, intervals, what a test found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from analysis.judge.decision import CONFIDENCE, Difference, Finding
from analysis.load.names import score_name
from analysis.stats.bootstrap import Interval
from analysis.stats.seeds import SeedSummary


def signed(value: float) -> str:
    """Three decimals with a sign; a minus is a minus, not a hyphen."""
    return f"{value:+.3f}".replace("-", "−")


def percent(share: float, decimals: int = 1) -> str:
    """`16.7 %` for 0.167, `−1.5 %` for -0.015."""
    return f"{100 * share:.{decimals}f} %".replace("-", "−")


LEVEL = percent(CONFIDENCE, 0)  # of every interval


def span(interval: Interval) -> str:
    """`−0.043 to +0.001`."""
    return f"{signed(interval.low)} to {signed(interval.high)}"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)


def p_text(value: float) -> str:
    """`p = 0.012`, and `p < 0.001` for anything smaller."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def p_number(value: float) -> str:
    """`0.012`, and `< 0.001` for anything smaller."""
    return p_text(value).removeprefix("p ").removeprefix("= ")


def difference_text(difference: Difference) -> str:
    """`−0.021 accuracy (95 % −0.043 to +0.001, 8 seeds)`."""
    return f"{_effect(difference)} ({', '.join([*_plain(difference), _seeds(difference)])})"


def finding_text(finding: Finding) -> str:
    """`difference_text` with the adjusted interval and p, and the smallest difference that could have been found."""
    difference, parts = finding.difference, _plain(finding.difference)
    if finding.p_adjusted is not None:
        adjusted = finding.family is not None and finding.family > 1
        if adjusted and finding.adjusted_interval is not None:
            parts.append(f"adjusted for {finding.family} comparisons {span(finding.adjusted_interval)}")
        parts.append(f"{'adjusted ' if adjusted else ''}{p_text(finding.p_adjusted)}{_against(finding)}")
    parts.append(_seeds(difference))
    if finding.detectable is not None:
        parts.append(f"could detect {finding.detectable:.3f}")
    return f"{_effect(difference)} ({', '.join(parts)})"


def _against(finding: Finding) -> str:
    """Of a question with a margin, what p tests: ` against −0.012`, or ` against +0.000 and 0.063 against −0.012`."""
    if finding.p_margin is None:
        return ""
    margin = signed(finding.question.above)
    if finding.tested == "above":
        return f" against {margin}"
    return f" against {signed(finding.bound)} and {p_number(finding.p_margin)} against {margin}"


def needed_text(finding: Finding) -> str:
    """What it would take: `to find 0.010: 23 seeds on these items or 4,100 items with these seeds`."""
    target, spread = finding.question.target, finding.difference.spread
    if target is None or spread is None:
        return ""
    found = [
        f"{count:,} {what}"
        for count, what in (
            (finding.seeds_needed, "seeds on these items"),
            (finding.items_needed, "items with these seeds"),
        )
        if count is not None
    ]
    return f"to find {target:.4g}: {' or '.join(found) or 'more seeds, and more items too'}"


def _effect(difference: Difference) -> str:
    return f"{signed(difference.effect)} {score_name(difference.metric)}"


def _plain(difference: Difference) -> list[str]:
    interval = difference.interval()
    return [] if interval is None else [f"{LEVEL} {span(interval)}"]


def _seeds(difference: Difference) -> str:
    count = len(difference.seeds)
    return "one seed" if count == 1 else f"{count} seeds"


DECIMALS = 4  # as the official scripts print


def format_score(summary: SeedSummary | None) -> str:
    """`0.541 ± 0.010` over seeds, `0.5412` with one seed, `not measured` without a score."""
    if summary is None:
        return "not measured"
    if summary.standard_deviation is None:
        return f"{summary.mean:.{DECIMALS}f}"
    decimals = spread_decimals(summary.standard_deviation)
    return f"{summary.mean:.{decimals}f} ± {summary.standard_deviation:.{decimals}f}"


def spread_decimals(spread: float) -> int:
    """Decimal decimals that show two significant digits of a spread, at most the scripts' own four."""
    if spread <= 0:
        return DECIMALS
    return min(DECIMALS, max(0, 1 - math.floor(math.log10(spread))))


def format_interval(interval: Interval | None) -> str:
    """`0.52 to 0.56`, with decimals that suit its width."""
    if interval is None:
        return "not measured"
    decimals = spread_decimals(interval.half_width)
    return f"{interval.low:.{decimals}f} to {interval.high:.{decimals}f}"


def format_count(count: int | None) -> str:
    """A whole number with thin groups: 259,499."""
    return "unknown" if count is None else f"{count:,}"


def format_counts(counts: Iterable[int] | None) -> str:
    """The fewest and the most: `1,728 to 2,112`, or `36,864` where all are the same."""
    return _ends(counts, format_count)


def format_ratios(ratios: Iterable[float] | None) -> str:
    """The least and the greatest: `15.0 % to 18.3 %`, or `66.0 %`."""
    return _ends(ratios, format_ratio)


def _ends(values: Iterable[Any] | None, text: Callable[[Any], str]) -> str:
    found = list(values or ())
    return " to ".join(dict.fromkeys(map(text, (min(found), max(found))))) if found else "unknown"


def format_ratio(ratio: float | None) -> str:
    """A share in per cent with three significant digits: `66.0 %`."""
    if ratio is None:
        return "unknown"
    percent = 100 * ratio
    if percent == 0:
        return "0 %"
    decimals = max(0, 2 - math.floor(math.log10(percent)))
    return f"{percent:,.{decimals}f} %"


def rounded(value: float | None) -> float | None:
    """Six decimals, for csv."""
    return None if value is None else round(value, 6)


FLOP_UNITS = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP")


def format_flop(count: float) -> str:
    """`0.618 TFLOP`: powers of 1000, three significant digits."""
    for unit in FLOP_UNITS[:-1]:
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {FLOP_UNITS[-1]}"


def format_bytes(count: int) -> str:
    """`912 MB`: powers of 1000, three significant digits."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
