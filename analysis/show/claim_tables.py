"""Verdicts of both papers as the page, `replicate compare` and its JSON show them: by claim and by comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.judge.claims import Case, Judged
from analysis.judge.decision import POWER, SIGN_FLIP_SEEDS, Finding, Verdict
from analysis.judge.number_format import LEVEL, finding_text, p_text, percent, signed, span
from analysis.load.names import score_name
from analysis.load.paper_files import meaning
from analysis.load.published import PaperName
from analysis.show.blocks import Block

PAPERS: dict[PaperName, str] = {"solo": "Solo Connection", "weightlora": "WeightLoRA"}
VERDICTS: tuple[Verdict, ...] = ("supported", "contradicted", "inconclusive", "not_tested")
LONGEST = 190  # characters of a headline taken from what was observed
NO_ITEMS, NO_SEEDS, NO_POWER = "no items' scores", "too few seeds", "not known"


@dataclass(frozen=True)
class ComparisonRow:
    """One comparison of a claim, with its case and profile."""

    claim: int
    profile: str
    case: Case
    finding: Finding

    @property
    def title(self) -> str:
        """`CoLA on MiniLM-L6, K=3: WeightLoRA minus LoRA`."""
        return f"{self.case.title}: {self.case.subject}{self.finding.question.name}"

    @property
    def line(self) -> str:
        """The title with the effect, both intervals, the adjusted p and the smallest detectable difference."""
        return f"{self.title} {finding_text(self.finding)}"

    @property
    def power_line(self) -> str:
        """What the rule could have detected; empty if unknown."""
        finding = self.finding
        if finding.detectable is None:
            return ""
        family = (
            "as a single test; none was made"
            if finding.family is None
            else f"Holm's family: {finding.family} {'p-value' if finding.family == 1 else 'p-values'}"
        )
        return (
            f"With these {len(finding.difference.seeds)} seeds and these test items the rule could have detected a "
            f"true difference of {finding.detectable:.3f} {score_name(finding.difference.metric)} or more, with "
            f"{percent(POWER, 0)} probability ({family})."
        )

    def as_json(self) -> dict[str, Any]:
        """The numbers of `Finding.to_dict`, with where they come from."""
        tested = self.case.untested is None and self.finding.verdict != "not_tested"
        return {"comparison": self.title, "case": self.case.title, "profile": self.profile, "tested": tested,
                "runs": list(self.case.runs), **self.finding.to_dict()}  # fmt: skip


@dataclass(frozen=True)
class ClaimRow:
    """One claim with its verdict. `run_seeds` are those that all its runs share, for a verdict without a comparison."""

    judged: Judged
    profile: str
    run_seeds: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        """`solo-1`."""
        return self.judged.claim.id

    @property
    def paper(self) -> str:
        """The method's name, by which the paper is called."""
        return PAPERS[self.judged.claim.paper]

    @property
    def shown_verdict(self) -> str:
        """`not tested` for not_tested."""
        return self.judged.verdict.replace("_", " ")

    @property
    def standing_means(self) -> str:
        """The meaning of the claim's standing."""
        return meaning(self.judged.claim.standing)

    @property
    def comparisons(self) -> tuple[ComparisonRow, ...]:
        """Every comparison of every case."""
        cases = self.judged.cases
        number = self.judged.claim.number
        return tuple(ComparisonRow(number, self.profile, case, found) for case in cases for found in case.findings)

    @property
    def shown(self) -> ComparisonRow | None:
        """The comparison that the judge names to be shown first."""
        return next((row for row in self.comparisons if row.finding is self.judged.headline), None)

    @property
    def headline(self) -> str:
        """One line of findings: the effect, or else observations or counts without a verdict."""
        judged, shown = self.judged, self.shown
        untested = judged.verdict == "not_tested"
        if shown is not None:
            return ("Observed, without a verdict: " if untested else "") + shown.line
        kind = "Observed" if judged.observed else "Counted, not trained"
        kind += ", without a verdict" if untested and judged.observed else ""
        line = _shortened(next(iter((*judged.observed, *judged.counted)), ""))
        return f"{kind}: {line}" if line else ""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the comparison shown, or else those that all runs share."""
        return self.run_seeds if self.shown is None else self.shown.finding.difference.seeds

    @property
    def seed_count(self) -> int:
        """The fewest shared seeds of a comparison that decided."""
        return len(self.run_seeds) if self.judged.seeds is None else self.judged.seeds

    @property
    def seeds_line(self) -> str:
        """`3 seeds`, `one seed`; nothing if no run was compared."""
        return {0: "", 1: "one seed"}.get(self.seed_count, f"{self.seed_count} seeds")

    def as_json(self) -> dict[str, Any]:
        """The row with stable keys."""
        judged, claim = self.judged, self.judged.claim
        finding = judged.headline
        numbers = finding.to_dict() if finding is not None else {}
        return {
            "id": claim.id, "paper": self.paper, "number": claim.number, "claim": claim.text, "verdict": judged.verdict,
            "reason": judged.reason, "profile": self.profile,
            "comparison": None if self.shown is None else self.shown.title,
            "metric": numbers.get("metric"), "effect": numbers.get("effect"),
            "over_items": numbers.get("over_items"), "over_seeds": numbers.get("over_seeds"),
            "adjusted_p": numbers.get("p_holm"), "detectable": numbers.get("smallest_detectable"),
            "seeds": list(self.seeds), "seed_count": self.seed_count, "cases": list(judged.observed),
            "comparisons": [row.as_json() for row in self.comparisons],
            "counted": list(judged.counted), "runs": list(judged.runs), "needs": claim.needs, "rule": claim.rule,
            "source": claim.source, "standing": claim.standing,
        }  # fmt: skip


def claim_rows(
    verdicts: Sequence[Judged], profile: str, seeds_of: dict[str, tuple[int, ...]] | None = None
) -> list[ClaimRow]:
    """Rows of one paper's verdicts, in their order.

    `profile` is used for a verdict without runs; `seeds_of` has each run's seeds.
    """
    return [ClaimRow(judged, judged.profile or profile, _shared(judged.runs, seeds_of or {})) for judged in verdicts]


def counts_line(rows: Sequence[ClaimRow]) -> str:
    """`1 supported, 7 not tested`."""
    counts = Counter(row.judged.verdict for row in rows)
    return ", ".join(f"{counts[verdict]} {verdict.replace('_', ' ')}" for verdict in VERDICTS if counts[verdict])


def claims_block(rows: Sequence[ClaimRow]) -> Block:
    """The claims with their verdicts as a table, for files."""
    lines = [
        (f"{row.paper} {row.judged.claim.number}", row.judged.claim.text, row.shown_verdict, row.headline or "none",
         row.seeds_line or "none", row.profile)
        for row in rows
    ]  # fmt: skip
    headers = ("Claim", "Sentence", "Verdict", "Effect, or what was observed", "Seeds", "Profile")
    return Block("The papers' claims and their verdicts", headers, tuple(lines), key="claims")


def comparisons_block(paper: PaperName, rows: Sequence[ClaimRow], profile: str) -> Block:
    """Every comparison of one paper's claims with its numbers; no rows if nothing was compared."""
    found = [comparison for row in rows for comparison in row.comparisons]
    flipped = any(comparison.finding.difference.sign_flip_p is not None for comparison in found)
    headers = ("Comparison", "Claim", "Difference", f"{LEVEL} over items", f"{LEVEL} over seeds", "Seeds",
               "Holm-adjusted p",
               *(("Sign flips",) if flipped else ()), "Could have detected", "Verdict")  # fmt: skip
    notes = [
        f"Could have detected: the smallest true difference that the rule finds with {percent(POWER, 0)} probability, "
        "given the spread over these seeds and items; if nothing was tested, as for a single test.",
    ]
    sizes = sorted({comparison.finding.family for comparison in found if comparison.finding.family is not None})
    if sizes:
        notes.append(f"Holm's family of this paper in this profile: {', '.join(map(str, sizes))} p-values.")
    if found and not flipped:
        notes.append(f"No sign-flip test: no comparison has {SIGN_FLIP_SEEDS} seeds.")
    return Block(
        f"Comparisons behind the claims of {PAPERS[paper]}, {profile} profile",
        headers, tuple(_cells(comparison, flipped) for comparison in found), tuple(notes), key=f"comparisons_{paper}",
    )  # fmt: skip


def _cells(row: ComparisonRow, flipped: bool) -> tuple[str, ...]:
    finding, difference = row.finding, row.finding.difference
    items, seeds, flips = difference.over_items, difference.over_seeds, difference.sign_flip_p
    return (
        row.title,
        str(row.claim),
        f"{'≈ ' if difference.approximate else ''}{signed(difference.effect)} {score_name(difference.metric)}",
        NO_ITEMS if items is None else span(items),
        NO_SEEDS if seeds is None else span(seeds),
        str(len(difference.seeds)),
        "not tested" if finding.p_holm is None else p_text(finding.p_holm).removeprefix("p ").removeprefix("= "),
        *((("not shown" if flips is None else p_text(flips)),) if flipped else ()),
        NO_POWER if finding.detectable is None else f"{finding.detectable:.3f}",
        f"{finding.verdict.replace('_', ' ')}{f': {finding.why}' if finding.why else ''}",
    )


def _shared(runs: Sequence[str], seeds_of: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Seeds that all the runs have."""
    found = [set(seeds_of[run]) for run in runs if run in seeds_of]
    return tuple(sorted(set.intersection(*found))) if found else ()


def _shortened(text: str) -> str:
    """A long line cut after its last whole clause that fits, and marked as cut."""
    if len(text) <= LONGEST:
        return text
    head = text[:LONGEST]
    end = max(head.rfind("; "), head.rfind(", "), head.rfind(" ") if "; " not in head and ", " not in head else -1)
    return head[:end] + " …"
