"""A claim judged in one place, and a claim as a whole: the fields that a page, a terminal and a JSON file show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.claims import Claim
from analysis.decision import Finding, Question, Word, decide, undecided
from analysis.wording import finding_text


@dataclass(frozen=True)
class Case:
    """One claim in one place: its word, what was found (effect, intervals, seeds), and why it tests nothing.

    `findings` hold the numbers: one a comparison, none where only parameters were counted. `effects` are theirs, or
    the counted share. `subject` begins what each comparison is called (`WeightLoRA+ ` before `minus LoRA`).
    """

    title: str
    word: Word
    found: str
    ending: str = ""
    runs: tuple[str, ...] = ()
    effects: tuple[float, ...] = ()
    untested: str | None = None
    findings: tuple[Finding, ...] = ()
    subject: str = ""

    @property
    def text(self) -> str:
        """The case as a sentence."""
        return f"{self.title}: {self.found}{f': {self.ending}' if self.ending else ''}."

    @property
    def seeds(self) -> int | None:
        """The fewest shared seeds of its comparisons; None without a comparison."""
        return min((len(finding.difference.seeds) for finding in self.findings), default=None)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "title": self.title,
            "word": self.word,
            "found": self.found,
            "untested": self.untested,
            "seeds": self.seeds,
            "effects": list(self.effects),
            "findings": [finding.to_dict() for finding in self.findings],
            "runs": list(self.runs),
        }


@dataclass(frozen=True)
class Draft:
    """A case before Holm's family is known: its questions, or why it asks none.

    `untested` keeps its questions out of the family; `word` is then the case's. `more` follows what was found.
    """

    title: str
    questions: tuple[Question, ...] = ()
    runs: tuple[str, ...] = ()
    found: str = ""
    more: str = ""
    untested: str | None = None
    word: Word = "inconclusive"
    subject: str = ""

    def case(self, findings: Sequence[Finding], tested: bool) -> Case:
        """The case, once its questions are answered; `tested` is False in a profile that tests no claim."""
        word = self.word if self.untested else joined_word([finding.word for finding in findings])
        parts = [f"{finding.question.name} {finding_text(finding)}" for finding in findings]
        found = ", ".join(part for part in (self.found, "; ".join(parts), self.more) if part)
        shown = word.replace("_", " ")
        return Case(
            self.title,
            word if tested else "not_tested",
            f"{self.subject}{found}",
            "" if not tested or not findings else f"{shown}: {self.untested}" if self.untested else shown,
            self.runs,
            tuple(finding.difference.effect for finding in findings),
            self.untested,
            tuple(findings),
            self.subject,
        )


@dataclass(frozen=True)
class Judged:
    """One claim: the word, the sentence that says why, each case, what was counted, and which runs were used."""

    claim: Claim
    word: Word
    reason: str
    observed: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    profile: str = ""

    @property
    def tested(self) -> tuple[Case, ...]:
        """The cases that decided the word."""
        return tuple(case for case in self.cases if case.untested is None and case.word != "not_tested")

    @property
    def seeds(self) -> int | None:
        """The fewest shared seeds of a comparison, of the tested cases where there are any; None without one."""
        cases = self.tested or self.cases
        return min((case.seeds for case in cases if case.seeds is not None), default=None)

    @property
    def headline(self) -> Finding | None:
        """The comparison to show first: of those with the claim's own word the one with the largest p.

        The claim is no stronger than it. Without a test, the first comparison there is.
        """
        findings = [finding for case in self.cases for finding in case.findings]
        same = [finding for finding in findings if finding.word == self.word and finding.p_holm is not None]
        return max(same, key=lambda finding: finding.p_holm or 0.0, default=next(iter(findings), None))

    def to_dict(self) -> dict[str, Any]:
        """JSON form: the claim, the word, and every number behind it."""
        headline = self.headline
        return {
            "number": self.claim.number,
            "key": self.claim.key,
            "claim": self.claim.text,
            "profile": self.profile,
            "verdict": self.word,
            "reason": self.reason,
            "seeds": self.seeds,
            "headline": None if headline is None else headline.to_dict(),
            "cases": [case.to_dict() for case in self.cases],
            "observed": list(self.observed),
            "counted": list(self.counted),
            "runs": list(self.runs),
        }


def verdict_list(verdicts: Sequence[Judged], *, brief: bool = False) -> str:
    """Verdicts as a Markdown list: the word, the claim and the reason, below it what was observed.

    `brief` leaves out the cases that test nothing, which the reason names.
    """
    lines = []
    for verdict in verdicts:
        left_out = {case.text for case in verdict.cases if case.untested is not None} if brief else set()
        word = verdict.word.replace("_", " ")
        lines.append(f"- **Claim {verdict.claim.number}: {word}.** {verdict.claim.text} {verdict.reason}\n")
        lines += [f"  - {line}\n" for line in verdict.observed if line not in left_out]
    return "".join(lines)


def joined_word(words: Sequence[Word]) -> Word:
    """All must support; one that contradicts is enough against."""
    if words and all(word == "supported" for word in words):
        return "supported"
    return "contradicted" if "contradicted" in words else "inconclusive"


def settle(drafts: Sequence[Draft], *, tested: bool) -> list[Case]:
    """Cases of all claims of one paper in one profile, in order: their open questions are one family.

    In a profile that tests no claim (`tested` False) nothing is decided: effects and intervals alone.
    """
    open_ones = [question for draft in drafts if draft.untested is None for question in draft.questions]
    answers = dict(zip(map(id, open_ones), decide(open_ones), strict=True)) if tested else {}
    return [
        draft.case(
            [
                answers.get(id(question))
                or undecided(question, "inconclusive" if tested else "not_tested", draft.untested)
                for question in draft.questions
            ],
            tested,
        )
        for draft in drafts
    ]
