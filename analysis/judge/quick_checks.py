"""Checks of the quick profile; the report shows a failed one at its top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.judge.study import Row
from analysis.load.names import METHOD_NAMES

FROZEN_AT_MOST = 0.05
TRAINED_ABOVE = 0.30
SOLO_OVER_FROZEN = 0.15


@dataclass(frozen=True)
class Check:
    """One check and whether it passes."""

    text: str
    holds: bool


def quick_checks(rows: Sequence[Row]) -> list[Check]:
    """Frozen BLEU near zero, full and LoRA above 0.30, Solo Connection far above frozen.

    With several experiments of one method the least favourable one counts; a method without a score fails.
    """
    frozen = _bleus(rows, "frozen")
    solo_least = (max(frozen) if frozen else float("inf")) + SOLO_OVER_FROZEN
    return [
        _check("frozen", frozen, f"at most {FROZEN_AT_MOST:.2f}", max(frozen, default=1.0) <= FROZEN_AT_MOST),
        *(
            _check(method, bleus, f"above {TRAINED_ABOVE:.2f}", min(bleus, default=0.0) > TRAINED_ABOVE)
            for method in ("full", "lora")
            for bleus in [_bleus(rows, method)]
        ),
        _check(
            "solo_connection",
            _bleus(rows, "solo_connection"),
            f"at least {SOLO_OVER_FROZEN:.2f} above the frozen backbone",
            min(_bleus(rows, "solo_connection"), default=0.0) >= solo_least,
        ),
    ]


def _bleus(rows: Sequence[Row], method: str) -> list[float]:
    return [summary.mean for row in rows if row.method == method and (summary := row.scores.get("BLEU"))]


def _check(method: str, bleus: Sequence[float], required: str, holds: bool) -> Check:
    found = " and ".join(f"{bleu:.3f}" for bleu in bleus) or "not measured"
    return Check(f"{METHOD_NAMES[method]}: BLEU {found}, required {required}.", holds)
