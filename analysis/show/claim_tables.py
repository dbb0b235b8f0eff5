"""Verdicts of both papers as the page, `replicate compare` and its JSON show them: by claim and by comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from analysis.judge.bench import Case, Judged
from analysis.judge.claims import Sensitivity
from analysis.judge.decision import POWER, VERDICTS, Finding, verdict_text
from analysis.judge.number_format import LEVEL, finding_text, needed_text, p_number, percent, signed, span
from analysis.judge.study import POOLED_METRIC
from analysis.load.names import score_name
from analysis.load.paper_files import meaning
from analysis.load.published import PaperName
from analysis.show.blocks import Block
from analysis.stats.seeds import deviation_factors

PAPERS: dict[PaperName, str] = {"solo": "Solo Connection", "weightlora": "WeightLoRA"}
LONGEST = 190  # characters of a headline taken from what was observed
NO_INTERVAL, NO_POWER, NOT_MEASURED = "none", "not known", "not measured"


@dataclass(frozen=True)
class ComparisonRow:
    """One comparison of a claim, with its case and profile."""

    claim: int
    profile: str
    case: Case
    finding: Finding
    waiting: str = ""

    @property
    def untested(self) -> str:
        """Why nothing was tested: `confounded: different types of processor on seed 18`; empty if it was."""
        if self.finding.p_adjusted is not None:
            return ""
        reason = self.finding.why or self.case.untested or self.waiting
        return ": ".join(part for part in (verdict_text(self.finding.verdict), reason) if part)

    @property
    def title(self) -> str:
        """`CoLA on MiniLM-L6, K=3: WeightLoRA minus LoRA`."""
        return f"{self.case.title}: {self.finding.question.name}"

    @property
    def line(self) -> str:
        """The title with the effect, its interval, the adjusted p and the smallest detectable difference."""
        return f"{self.title} {finding_text(self.finding)}"

    def as_json(self) -> dict[str, Any]:
        """The numbers of `Finding.to_dict`, with where they come from."""
        tested = self.case.untested is None and self.finding.verdict != "not_tested"
        return {"comparison": self.title, "case": self.case.title, "role": self.case.role, "profile": self.profile,
                "tested": tested, "runs": list(self.case.runs), **self.finding.to_dict()}  # fmt: skip


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
    def verdict(self) -> str:
        """`counted`; what the count came to is its `why`."""
        return verdict_text(self.judged.verdict)

    @property
    def shown_verdict(self) -> str:
        """`not tested`; `counted: holds`."""
        return self.judged.verdict_shown

    @property
    def standing_means(self) -> str:
        """The meaning of the claim's standing."""
        return meaning(self.judged.claim.standing)

    @property
    def comparisons(self) -> tuple[ComparisonRow, ...]:
        """Every comparison of every case."""
        cases = self.judged.cases
        number = self.judged.claim.number
        waiting = self.judged.waiting
        return tuple(
            ComparisonRow(number, self.profile, case, found, waiting) for case in cases for found in case.findings
        )

    @property
    def shown(self) -> ComparisonRow | None:
        """The comparison that the judge names to be shown first."""
        return next((row for row in self.comparisons if row.finding is self.judged.headline), None)

    @property
    def published(self) -> str:
        """The published effect, or that the paper states none."""
        return self.judged.published or "no figure"

    @property
    def measured(self) -> str:
        """The measured effect of the comparison shown first, or of the count."""
        if self.shown is not None:
            found = self.shown.finding.difference
            asked = {row.finding.question.name for row in self.comparisons if row.case.role == "primary"}
            rival = self.shown.finding.question.name.rpartition(" minus ")[2]
            which = f", minus {rival}" if len(asked) > 1 else ""
            return f"{signed(found.effect)} {self.judged.unit or score_name(found.metric)}{which}"
        effects = [effect for case in self.judged.cases for effect in case.effects]
        if not effects:
            return NOT_MEASURED
        ends = list(dict.fromkeys(percent(end) for end in (min(effects), max(effects))))
        return f"{' to '.join(ends)} {self.judged.unit}"

    @property
    def measured_line(self) -> str:
        """`measured` with its seeds, where there are any."""
        seeds = "" if self.measured == NOT_MEASURED else self.seeds_line
        return f"{self.measured}, {seeds}" if seeds else self.measured

    @property
    def detectable(self) -> str:
        """The smallest difference that the design finds; nothing is sampled in a count."""
        detectable = None if self.shown is None else self.shown.finding.detectable
        if detectable is not None:
            return f"{detectable:.3f}"
        return "–" if self.judged.verdict == "counted" else NO_POWER

    @property
    def why(self) -> str:
        """The verdict's ground in a few words."""
        judged, shown = self.judged, self.shown
        if judged.waiting or shown is None or judged.verdict in ("counted", "not_tested"):
            if judged.verdict == "not_tested" and not judged.waiting:
                return "no run tests it"
            return "; ".join(part for part in (judged.waiting, judged.brief) if part)
        if judged.verdict == "depends_on_analysis":
            return "equally good measures disagree"
        if shown.finding.why is not None:
            return shown.finding.why
        if judged.verdict == "cannot_tell":
            return needed_text(shown.finding) or ""
        interval = shown.finding.interval
        return "" if interval is None else f"{LEVEL} {span(interval)}{_beyond(shown.finding)}"

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
            "outcome": judged.outcome or None, "reason": judged.reason, "profile": self.profile,
            "why": self.why,
            "published": judged.published or None, "measured": self.measured,
            "comparison": None if self.shown is None else self.shown.title,
            "metric": numbers.get("metric"), "effect": numbers.get("effect"),
            "interval": numbers.get("interval"), "adjusted_interval": numbers.get("adjusted_interval"),
            "over_items": numbers.get("over_items"), "over_seeds": numbers.get("over_seeds"),
            "adjusted_p": numbers.get("p_adjusted"), "detectable": numbers.get("smallest_detectable"),
            "target": numbers.get("target"), "seeds_needed": numbers.get("seeds_needed"),
            "items_needed": numbers.get("items_needed"),
            "seeds": list(self.seeds), "seed_count": self.seed_count, "cases": list(judged.observed),
            "comparisons": [row.as_json() for row in self.comparisons],
            "counted": list(judged.counted), "draws": list(judged.draws), "runs": list(judged.runs),
            "needs": claim.needs, "rule": claim.rule, "source": claim.source, "standing": claim.standing,
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
    return ", ".join(f"{counts[verdict]} {verdict_text(verdict)}" for verdict in VERDICTS if counts[verdict])


def claims_block(rows: Sequence[ClaimRow]) -> Block:
    """The claims with their verdicts as a table, for files."""
    lines = [
        (f"{row.paper} {row.judged.claim.number}", row.judged.claim.text, row.published, row.measured, row.detectable,
         row.shown_verdict, row.seeds_line or "none", row.profile)
        for row in rows
    ]  # fmt: skip
    headers = ("Claim", "Sentence", "Published", "Measured here", "Could detect", "Verdict", "Seeds", "Profile")
    return Block("The papers' claims and their verdicts", headers, tuple(lines), key="claims")


def legend(rows: Sequence[ClaimRow]) -> str:
    """The terms of the answer's columns in a sentence each."""
    text = f"Could detect: the smallest true difference that this design would find, {percent(POWER, 0)} of the time."
    tested = [row.shown.finding for row in rows if row.shown and row.judged.verdict != "not_tested"]
    designs = sorted({len(finding.difference.seeds) for finding in tested if finding.detectable})
    factors = [f"{low:.1f} to {high:.1f} times it with {n}" for n in designs for low, high in [deviation_factors(n)]]
    if factors:
        text += f" That rests on an estimated spread: the true one is {', '.join(factors)} seeds ({LEVEL})."
    pooled = [row for row in rows if POOLED_METRIC in row.measured]
    found = [finding for row in pooled for case in row.judged.cases for finding in case.findings]
    measures = dict.fromkeys(score_name(finding.difference.metric) for finding in found)
    measures.pop(score_name(POOLED_METRIC), None)
    if pooled:
        name = f"{POOLED_METRIC[0].upper()}{POOLED_METRIC[1:]}"
        named = f" ({', '.join(measures)})" if measures else ""
        text += f" {name}: over the tasks, of differences in each one's measure{named}."
    return text


def answer_block(rows: Sequence[ClaimRow], profile: str) -> Block:
    """What each claim came to, in a line: published, measured, detectable, verdict and why."""
    lines = tuple(
        (f"{row.paper} {row.judged.claim.number}. {row.judged.claim.text}", row.published, row.measured, row.detectable,
         row.shown_verdict, row.why)
        for row in rows
    )  # fmt: skip
    headers = ("Claim", "The paper", "Measured here", "Could detect", "Verdict", "Why")
    return Block(f"What each claim came to, {profile} profile", headers, lines, (legend(rows),), key="answer")


def comparisons_block(paper: PaperName, rows: Sequence[ClaimRow], profile: str) -> Block:
    """Every comparison of one paper's claims with its numbers; no rows if nothing was compared."""
    found = [comparison for row in rows for comparison in row.comparisons]
    headers = ("Comparison", "Claim", "Test", "Difference", LEVEL, "Adjusted interval", "Adjusted p", "Seeds",
               "Could detect", "Verdict")  # fmt: skip
    notes = (
        "Test: the primary comparisons decide a claim; secondary ones are adjusted among themselves (Holm). The "
        "interval is the wider of two: over seeds, and over seeds and test items. Adjusted: at the level of its step "
        "in Holm's procedure.",
        f"Could detect: the smallest true difference found with {percent(POWER, 0)} probability, given the spread over "
        "these seeds and items; if nothing was tested, as for a single test.",
    )
    return Block(
        f"Comparisons behind the claims of {PAPERS[paper]}, {profile} profile",
        headers, tuple(_cells(comparison) for comparison in found), notes if found else (), key=f"comparisons_{paper}",
    )  # fmt: skip


class Fold(NamedTuple):
    """Comparisons that were not tested for the same reason, in one line, with their table for who opens it."""

    line: str
    table: Block


def fold_untested(paper: PaperName, rows: Sequence[ClaimRow], profile: str) -> tuple[Block, list[Fold]]:
    """The comparisons that were tested as a table, and the others folded, a reason a line."""
    found = [comparison for row in rows for comparison in row.comparisons]
    whole = comparisons_block(paper, rows, profile)
    pairs = list(zip(found, whole.rows, strict=True))
    folds = []
    for reason in dict.fromkeys(comparison.untested for comparison in found if comparison.untested):
        lines = tuple(line for comparison, line in pairs if comparison.untested == reason)
        count = "1 comparison" if len(lines) == 1 else f"{len(lines)} comparisons"
        table = Block(f"{PAPERS[paper]}, {reason}", whole.headers, lines)
        folds.append(Fold(f"{count}, {reason}.", table))
    return replace(whole, rows=tuple(line for comparison, line in pairs if not comparison.untested)), folds


def _cells(row: ComparisonRow) -> tuple[str, ...]:
    finding, difference = row.finding, row.finding.difference
    plain, adjusted = finding.interval, finding.adjusted_interval
    return (
        row.title,
        str(row.claim),
        row.case.role,
        f"{'≈ ' if difference.approximate else ''}{signed(difference.effect)} {score_name(difference.metric)}",
        NO_INTERVAL if plain is None else span(plain),
        "as before" if finding.family == 1 else NO_INTERVAL if adjusted is None else span(adjusted),
        "not tested" if finding.p_adjusted is None else p_number(finding.p_adjusted),
        str(len(difference.seeds)),
        NO_POWER if finding.detectable is None else f"{finding.detectable:.3f}",
        f"{verdict_text(finding.verdict)}{f': {finding.why}' if finding.why else ''}",
    )


def sensitivity_block(found: Sequence[Sensitivity], profile: str) -> Block:
    """What other analyses would have said of each claim that compares runs."""
    names = [name for name, _ in found[0].variants] if found else []
    lines = tuple(
        (f"{PAPERS[entry.claim.paper]} {entry.claim.number}", *(verdict for _, verdict in entry.variants))
        for entry in found
    )
    note = (
        "Only the first column is the verdict. Two seeds fewer: each pair of seeds left out in turn. One task fewer: "
        "each of the pooled tasks left out in turn."
    )
    if any(entry.claim.id == "solo-4" for entry in found):
        note += " Of Solo Connection's claim 4 the smoothing windows are among its comparisons."
    headers = ("Claim", *(name[0].upper() + name[1:] for name in names))
    return Block(f"What other analyses would have said, {profile} profile", headers, lines, (note,) if found else (),
                 key="sensitivity")  # fmt: skip


def decisive_line(found: Sequence[Sensitivity]) -> str:
    """The verdicts that would be others without one of their tasks, in a line; "" for none."""
    parts = [
        f"without {task.split(' on ')[0]}, {PAPERS[entry.claim.paper]} {entry.claim.number} would be “{verdict}”"
        for entry in found
        for task, verdict in entry.decisive
    ]
    return f"One task decides: {'; '.join(parts)}." if parts else ""


def _beyond(finding: Finding) -> str:
    """Of a question with a margin: whether the loss is shown to be larger than it; empty for any other."""
    if finding.p_margin is None or finding.verdict != "contradicted":
        return ""
    return f"; worse, by more than {-finding.question.above:.3f} {'too' if finding.beyond_margin else 'not shown'}"


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
