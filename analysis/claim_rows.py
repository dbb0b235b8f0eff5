"""Verdicts of both papers as rows of one type: what the first screen, `replicate compare` and its JSON show.

The two judges keep types of their own. What a verdict does not say (an interval, the smallest difference that could
have been seen) is None here, and the page leaves it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from analysis.blocks import Block
from analysis.labels import score_name
from analysis.standings import meaning

PAPERS = {"solo": ("Solo Connection", "arXiv 2507.14353"), "weightlora": ("WeightLoRA", "arXiv 2506.02724")}
WORDS = ("supported", "contradicted", "inconclusive", "not_tested")
# What a verdict, or the difference it holds, may call the same thing.
OVER_ITEMS = ("over_items", "item_interval", "items_interval")
OVER_SEEDS = ("over_seeds", "seed_interval", "seeds_interval")
ADJUSTED_P = ("adjusted_p", "p_adjusted", "p_holm", "holm_p")
DETECTABLE = ("detectable", "smallest_detectable", "detectable_difference", "smallest_detectable_difference")
SUBJECT = 20  # characters of what a case calls itself
LONGEST = 190  # characters of a headline taken from what was observed


@dataclass(frozen=True)
class ClaimRow:
    """One claim with its verdict. Intervals are (low, high) of 95 % in the metric's own unit."""

    id: str
    paper: str
    number: int
    claim: str
    word: str
    reason: str
    profile: str
    comparison: str | None
    metric: str | None
    effect: float | None
    over_items: tuple[float, float] | None
    over_seeds: tuple[float, float] | None
    adjusted_p: float | None
    detectable: float | None
    seeds: tuple[int, ...]
    seed_count: int
    cases: tuple[str, ...]
    counted: tuple[str, ...]
    runs: tuple[str, ...]
    needs: str
    rule: str
    source: str
    standing: str

    @property
    def shown_word(self) -> str:
        """`not tested` for not_tested."""
        return self.word.replace("_", " ")

    @property
    def standing_means(self) -> str:
        """What the standing of the claim's sentence says."""
        return meaning(self.standing)

    @property
    def headline(self) -> str:
        """One line of what was found: the effect, or else what was seen or counted and gives no verdict."""
        if self.effect is not None:
            return ("Seen here, without a verdict: " if self.word == "not_tested" else "") + self.effect_line
        kind = "Seen here" if self.cases else "Counted, not trained"
        untested = ", without a verdict" if self.word == "not_tested" and self.cases else ""
        return f"{kind}{untested}: {self.effect_line}" if self.effect_line else ""

    @property
    def effect_line(self) -> str:
        """The effect with its intervals; without one the first thing observed or counted, cut after a clause."""
        if self.effect is not None:
            unit = f" {score_name(self.metric)}" if self.metric else ""
            intervals = [
                f"95 % over {name} {_signed(low)} to {_signed(high)}"
                for name, interval in (("items", self.over_items), ("seeds", self.over_seeds))
                if interval is not None
                for low, high in [interval]
            ]
            place = f"{self.comparison} " if self.comparison else ""
            line = f"{place}{_signed(self.effect)}{unit}" + (f" ({'; '.join(intervals)})" if intervals else "")
            if self.adjusted_p is not None:
                line += f", Holm-adjusted p {self.adjusted_p:.2g}"
            return line
        return _shortened(next(iter((*self.cases, *self.counted)), ""))

    @property
    def seeds_line(self) -> str:
        """`3 seeds`, `one seed`; nothing where no run was compared."""
        return {0: "", 1: "one seed"}.get(self.seed_count, f"{self.seed_count} seeds")

    def as_json(self) -> dict[str, Any]:
        """The row with stable keys."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def claim_rows(
    paper: str, verdicts: Sequence[Any], profile: str, seeds_of: dict[str, tuple[int, ...]] | None = None
) -> list[ClaimRow]:
    """Rows of one paper's verdicts (`verdicts.Verdict` or `weightlora_verdicts.ClaimVerdict`), in their order.

    `paper` is a key of `PAPERS`. `seeds_of` gives each run's seeds for a verdict that does not say how many it had:
    those that all its runs share.
    """
    return [_row(paper, verdict, profile, seeds_of or {}) for verdict in verdicts]


def counts_line(rows: Sequence[ClaimRow]) -> str:
    """`1 supported, 7 not tested`."""
    counts = Counter(row.word for row in rows)
    known = [*WORDS, *sorted(set(counts) - set(WORDS))]
    return ", ".join(f"{counts[word]} {word.replace('_', ' ')}" for word in known if counts[word])


def claims_block(rows: Sequence[ClaimRow]) -> Block:
    """The claims with their verdicts as a table, for files."""
    lines = [
        (f"{row.paper} {row.number}", row.claim, row.shown_word, row.headline or "none", row.seeds_line or "none",
         row.profile)
        for row in rows
    ]  # fmt: skip
    headers = ("Claim", "Sentence", "Verdict", "Effect, or what was observed", "Seeds", "Profile")
    return Block("The papers' claims and their verdicts", headers, tuple(lines), key="claims")


def _row(paper: str, verdict: Any, profile: str, seeds_of: dict[str, tuple[int, ...]]) -> ClaimRow:
    claim = verdict.claim
    first = getattr(verdict, "headline", None)  # the comparison to show, where the judge names one
    parts = (verdict, first, getattr(first, "difference", None), getattr(verdict, "difference", None))
    runs = tuple(verdict.runs)
    told = [value for part in parts if (value := getattr(part, "seeds", None)) is not None]
    seeds = _seeds(next((value for value in told if not isinstance(value, int)), None), runs, seeds_of)
    return ClaimRow(
        id=str(getattr(claim, "id", f"{paper}-{claim.number}")),
        paper=PAPERS[paper][0],
        number=claim.number,
        claim=claim.text,
        word=verdict.word,
        reason=verdict.reason,
        profile=str(_first(parts, ("profile",)) or profile),
        comparison=_comparison(verdict, first),
        metric=_first(parts, ("metric",)),
        effect=_number(_first(parts, ("effect",))),
        over_items=_interval(_first(parts, OVER_ITEMS)),
        over_seeds=_interval(_first(parts, OVER_SEEDS)),
        adjusted_p=_number(_first(parts, ADJUSTED_P)),
        detectable=_number(_first(parts, DETECTABLE)),
        seeds=seeds,
        seed_count=next((value for value in told if isinstance(value, int)), len(seeds)),
        cases=tuple(str(getattr(case, "text", case)) for case in verdict.observed),
        counted=tuple(verdict.counted),
        runs=runs,
        needs=claim.needs,
        rule=claim.rule,
        source=claim.source,
        standing=claim.standing,
    )


def _comparison(verdict: Any, finding: Any) -> str | None:
    """What the effect is of: the case that holds the finding, and what was compared there."""
    name = getattr(getattr(finding, "question", None), "name", None)
    if name is None:
        return None
    cases = (case for case in getattr(verdict, "cases", ()) if finding in getattr(case, "findings", ()))
    case = next(cases, None)
    if case is None:
        return str(name)
    subject = str(getattr(case, "found", "")).partition(str(name))[0]  # `WeightLoRA+ ` before `minus LoRA`
    return f"{case.title}: {subject if len(subject) <= SUBJECT else ''}{name}"


def _first(parts: Sequence[Any], names: Sequence[str]) -> Any:
    """The first of the named attributes that any part has and that is not None."""
    values = (getattr(part, name, None) for part in parts if part is not None for name in names)
    return next((value for value in values if value is not None), None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _interval(value: Any) -> tuple[float, float] | None:
    """Ends of an interval: an object with `low` and `high`, or a pair."""
    if value is None:
        return None
    if hasattr(value, "low") and hasattr(value, "high"):
        return float(value.low), float(value.high)
    if is_dataclass(value) or not isinstance(value, Sequence) or len(value) != 2:
        return None
    return float(value[0]), float(value[1])


def _seeds(value: Any, runs: Sequence[str], seeds_of: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    if isinstance(value, Sequence):
        return tuple(int(seed) for seed in value)
    found = [set(seeds_of[run]) for run in runs if run in seeds_of]
    return tuple(sorted(set.intersection(*found))) if found else ()


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _shortened(text: str) -> str:
    """A long line cut after its last whole clause that fits, and marked as cut."""
    if len(text) <= LONGEST:
        return text
    head = text[:LONGEST]
    end = max(head.rfind("; "), head.rfind(", "), head.rfind(" ") if "; " not in head and ", " not in head else -1)
    return head[:end] + " …"
