"""What verdicts are made of: the runs of one profile, a claim's comparisons as cases, and the claim with its verdict.

A case is one comparison (or count) of a claim in one setting: a backbone, a task, a K or a reading. The primary cases
decide the claim; secondary ones are shown as well, adjusted among themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from analysis.judge.comparable import Setting, is_reading, keep_of, more_is_better, preset_of, setting_of, unequal
from analysis.judge.decision import Difference, Finding, Question, Verdict, decide, undecided, verdict_text
from analysis.judge.number_format import finding_text, listed, needed_text
from analysis.judge.study import Study
from analysis.load.names import backbone_name, score_name
from analysis.load.paper_folder import Published
from analysis.load.published import Claim
from analysis.load.runs import GENERATION, Experiment
from analysis.load.searches import Memory

Role = Literal["primary", "secondary"]
RANK, SKIP_LENGTHS = 120, (2, 6)  # the reading that fits the published 0.26M, and the one that fits 59 %


@dataclass(frozen=True)
class Case:
    """One comparison or count of a claim: its verdict, what was found, and why it is not tested.

    `findings` hold the numbers: one a comparison, none where only parameters were counted. `effects` are theirs, or
    the counted share.
    """

    title: str
    verdict: Verdict
    found: str
    ending: str = ""
    runs: tuple[str, ...] = ()
    effects: tuple[float, ...] = ()
    untested: str | None = None
    findings: tuple[Finding, ...] = ()
    role: Role = "primary"

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
            "role": self.role,
            "verdict": self.verdict,
            "found": self.found,
            "untested": self.untested,
            "seeds": self.seeds,
            "effects": list(self.effects),
            "findings": [finding.to_dict() for finding in self.findings],
            "runs": list(self.runs),
        }


@dataclass(frozen=True)
class Draft:
    """A case before its comparison is adjusted with the others: its question, or why there is none.

    `what` is compared; `untested` keeps the question out of the family; `verdict` is then the case's. `more` follows
    the finding. `pair` are the two runs, for pooling. `gated`: its task was not learned, so that it belongs to no pool.
    """

    title: str
    question: Question | None = None
    runs: tuple[str, ...] = ()
    found: str = ""
    more: str = ""
    untested: str | None = None
    verdict: Verdict = "cannot_tell"
    pair: tuple[Experiment, Experiment] | None = None
    margin: float = 0.0
    what: str = ""
    gated: bool = False

    def case(self, finding: Finding | None, role: Role, tested: bool) -> Case:
        """The case, once its question is answered; `tested` is False in a profile that tests no claim."""
        verdict = self.verdict if self.untested or finding is None else finding.verdict
        parts = [] if finding is None else [f"{finding.question.name} {finding_text(finding)}"]
        found = ", ".join(part for part in (self.found, *parts, self.more) if part)
        shown = verdict_text(verdict)
        decided = self.untested is None and finding is not None and finding.why is None
        if finding is not None and decided and verdict == "cannot_tell" and (needed := needed_text(finding)):
            shown += f" ({needed})"
        return Case(
            self.title,
            verdict if tested else "not_tested",
            found,
            "" if not tested or finding is None else f"{shown}: {self.untested}" if self.untested else shown,
            self.runs,
            () if finding is None else (finding.difference.effect,),
            self.untested,
            () if finding is None else (finding,),
            role,
        )


@dataclass(frozen=True)
class Judged:
    """One claim: the verdict, its reason, each case, the counts, and the runs used.

    `outcome` says what a count came to (`holds`), for the verdict "counted"; `waiting` what is still to run;
    `published_value` the published effect on the scale of the measured one. For one line of a table: `unit` follows the
    measured number, and `brief` is what the reader must know beside the verdict. `draws`: where a score lies among
    repeated random choices, which enters no test.
    """

    claim: Claim
    verdict: Verdict
    reason: str
    observed: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    profile: str = ""
    outcome: str = ""
    published: str = ""
    published_value: float | None = None
    waiting: str = ""
    unit: str = ""
    brief: str = ""
    draws: tuple[str, ...] = ()

    @property
    def tested(self) -> tuple[Case, ...]:
        """The cases that were tested."""
        return tuple(case for case in self.cases if case.untested is None and case.verdict != "not_tested")

    @property
    def primary(self) -> tuple[Case, ...]:
        """The cases that decide the verdict."""
        return tuple(case for case in self.cases if case.role == "primary")

    @property
    def seeds(self) -> int | None:
        """The fewest shared seeds of a comparison, of the tested primary cases if there are any; None without one."""
        cases = [case for case in self.tested if case.role == "primary"] or self.tested or self.cases
        return min((case.seeds for case in cases if case.seeds is not None), default=None)

    @property
    def headline(self) -> Finding | None:
        """The comparison to show first: of the primary ones the one with the largest p: the claim is no stronger.

        Without a test, the first comparison.
        """
        tested = [f for case in self.primary for f in case.findings if f.p_adjusted is not None]
        same = [finding for finding in tested if finding.verdict == self.verdict] or tested
        first = next((finding for case in self.cases for finding in case.findings), None)
        return max(same, key=lambda finding: finding.p_adjusted or 0.0, default=first)

    @property
    def verdict_shown(self) -> str:
        """`cannot tell`; `counted: holds`."""
        return verdict_text(self.verdict) + (f": {self.outcome}" if self.outcome else "")

    def to_dict(self) -> dict[str, Any]:
        """JSON form: the claim, the verdict, and all its numbers."""
        headline = self.headline
        return {
            "number": self.claim.number,
            "key": self.claim.key,
            "claim": self.claim.text,
            "profile": self.profile,
            "verdict": self.verdict,
            "outcome": self.outcome or None,
            "published": self.published or None,
            "reason": self.reason,
            "seeds": self.seeds,
            "headline": None if headline is None else headline.to_dict(),
            "cases": [case.to_dict() for case in self.cases],
            "observed": list(self.observed),
            "draws": list(self.draws),
            "counted": list(self.counted),
            "runs": list(self.runs),
        }


def settle(primary: Sequence[Draft], secondary: Sequence[Draft], *, tested: bool) -> list[Case]:
    """The cases of one claim: the primary questions are one family, the secondary ones another.

    In a profile that tests no claim (`tested` False) nothing is decided: only effects and intervals.
    """
    return [*_settle(primary, "primary", tested), *_settle(secondary, "secondary", tested)]


def _settle(drafts: Sequence[Draft], role: Role, tested: bool) -> list[Case]:
    open_ones = [draft.question for draft in drafts if draft.untested is None and draft.question is not None]
    answers = dict(zip(map(id, open_ones), decide(open_ones), strict=True)) if tested else {}

    def answer(draft: Draft) -> Finding | None:
        question = draft.question
        if question is None or id(question) in answers:
            return None if question is None else answers[id(question)]
        return undecided(question, draft.verdict if tested else "not_tested", draft.untested)

    return [draft.case(answer(draft), role, tested) for draft in drafts]


def joined_verdict(cases: Sequence[Case]) -> Verdict:
    """Of the primary cases: supported if all are, contradicted if any is; else what keeps them from a verdict."""
    verdicts = [case.verdict for case in cases if case.role == "primary"]
    if verdicts and all(verdict == "supported" for verdict in verdicts):
        return "supported"
    order: tuple[Verdict, ...] = ("contradicted", "confounded", "depends_on_analysis", "cannot_tell", "supported")
    found: Verdict = next((verdict for verdict in order if verdict in verdicts), "not_tested")
    return "cannot_tell" if found == "supported" else found


@dataclass(frozen=True)
class Waiting:
    """Why a claim is not judged yet, in a few words and as a sentence."""

    brief: str
    sentence: str


@dataclass(frozen=True)
class Bench:
    """The input of the verdicts: the runs of one profile, published figures, and memory measurements.

    `broken` lists what could not be read, and unequal searches.
    """

    study: Study
    published: Published
    memory: Memory | None = None
    broken: tuple[str, ...] = ()

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.study.profile

    @property
    def never_tests(self) -> str | None:
        """Why this profile tests no claim of either paper; None if it may."""
        return self.study.judgement.not_tested_in.get(self.profile)

    @property
    def why_not(self) -> str | None:
        """Why this profile is never compared with a published cell; None if it may be."""
        return self.published.tolerances.why_not_comparable(self.profile)

    @cached_property
    def solo(self) -> list[Experiment]:
        """Compared experiments with Solo Connection that left a record."""
        found = self.study.generation.compared
        return [e for e in found if e.record is not None and e.record.method == "solo_connection"]

    @cached_property
    def readings(self) -> list[tuple[Experiment, int]]:
        """Complete runs that represent Solo Connection, with their skip length: every reading, on every backbone."""
        found = [
            (experiment, skip)
            for skip in SKIP_LENGTHS
            for experiment in self.solo
            if experiment.status == "complete" and is_reading(experiment, RANK, skip)
        ]
        return sorted(found, key=lambda pair: (backbone_of(pair[0]), pair[1]))

    def reading(self, backbone: str, skip_length: int) -> Experiment | None:
        """The complete run of one reading of Solo Connection on one backbone."""
        return next((e for e, skip in self.readings if (backbone_of(e), skip) == (backbone, skip_length)), None)

    def chosen(self, backbone: str, skip_length: int) -> list[Experiment]:
        """Runs that test a claim about Solo Connection: the paper's own setting, otherwise every reading."""
        if self.why_not is not None:
            return [experiment for experiment, _ in self.readings]
        run = self.reading(backbone, skip_length)
        return [run] if run else []

    def lora_of(self, experiment: Experiment) -> Experiment | None:
        """The LoRA experiment on the same backbone and task."""
        if experiment.record is None:
            return None
        return self.study.generation.loras.get(setting_of(experiment))

    def label(self, experiment: Experiment) -> str:
        """Its name in tables."""
        return next(row.title for row in self.study.rows if row.experiment == experiment.name)

    def scope(self, backbones: Sequence[str]) -> str:
        """The scope of a verdict on Solo Connection outside the paper's own setting."""
        if self.why_not is None:
            return ""
        where = " and ".join(dict.fromkeys(backbones)) or "this profile's backbone"
        return (
            f" This applies only to {where} and this profile's part of the data, and to no published cell: "
            f"{lowered(self.why_not)}"
        )

    def adapters_of(self, backbone: str) -> int | None:
        """The number of adapters of a backbone of this profile; None if no run records it."""
        for experiment in self.study.tasks.experiments:
            for selection in experiment.selections.values():
                if experiment.record is not None and experiment.record.backbone == backbone:
                    return len(selection.adapters)
        return None

    def title(self, setting: Setting, ours: Experiment | None = None) -> str:
        """`CoLA on MiniLM-L6, K=3`, with the preset if it is a variant of the code."""
        where = self.study.title(setting)
        keep = keep_of(ours) if ours else None
        preset = preset_of(ours) if ours else None
        variant = f", {preset}" if preset else ""
        return f"{where}{variant}" if keep is None else f"{where}, K={keep}{variant}"

    def margin(self, metric: str) -> float | None:
        """What "keeps the metric" allows of this measure, and the smallest difference that matters; None if not set."""
        margins = self.study.judgement.measures.get(metric)
        return None if margins is None else margins.keeps_within

    def unfinished(self, claim: Claim) -> Waiting | None:
        """Why a claim is not judged yet: the grid fixed for it (`judgement.yaml`) has started and is not complete.

        A verdict only on the tasks that ran first would answer a different question.
        """
        settings, methods = self.study.judgement.planned_for(self.profile, claim.id)
        if not set(settings) & self.study.begun:
            return None

        def has_run(setting: Setting, method: str) -> bool:
            return any(set(settings[setting]) <= set(run.seeds) for run in self.study.at(setting, method))

        done = [setting for setting in settings if all(has_run(setting, method) for method in methods)]
        if len(done) == len(settings):
            return None
        names = listed([self.title(setting) for setting in done]) if done else "none"
        return Waiting(
            f"{len(done)} of {len(settings)} tasks have run",
            f"Not judged yet: the {self.profile} profile's grid tests it on {len(settings)} "
            f"{'task' if len(settings) == 1 else 'tasks'}, of which {len(done)} ran with every method and seed "
            f"({names}). The comparisons so far are shown without a verdict.",
        )

    def planned(self, claim: Claim) -> set[Setting] | None:
        """The settings that decide a claim, once the grid fixed for it has started; None: all there are."""
        settings, _ = self.study.judgement.planned_for(self.profile, claim.id)
        return set(settings) if set(settings) & self.study.begun else None


def compare_runs(
    bench: Bench,
    title: str,
    what: str,
    ours: Experiment,
    other: Experiment,
    *,
    keeps: bool = False,
    target: float | None = None,
    found: str = "",
    metric: str | None = None,
) -> Draft:
    """A case of two runs on `metric` (default: the grid's measure, or else their primary one): whether ours is better,
    or (`keeps`) not worse by the margin.

    `target` is the difference that would matter (default: the margin). Unequal budgets, few seeds, different
    processors, two runs that could stand for one method and, for a WeightLoRA claim, tasks that were not learned keep
    it from being tested.
    """
    runs = ours.name, other.name
    if reason := unequal(ours, other) or _other_rank(ours, other) or _ambiguous(bench, ours, other):
        return Draft(title, None, runs, f"{what} not compared, {reason}", "", reason, "not_tested", what=what)
    difference = bench.study.difference(ours, other, metric)
    if difference is None:
        reason = "no shared seeds scored on the same items"
        return Draft(title, None, runs, f"{what} not compared, {reason}", "", reason, what=what)
    if not more_is_better(ours, difference.metric):
        reason = f"less {score_name(difference.metric)} is better, and the rule is for measures of which more is better"
        return Draft(title, None, runs, f"{what} not compared, {reason}", "", reason, "not_tested", what=what)
    margin = bench.margin(difference.metric)
    if keeps and margin is None:
        reason = f"no margin is set for {difference.metric}"
        return Draft(title, None, runs, found, "", reason, "not_tested", what=what)
    question = Question(what, difference, -(margin or 0.0) if keeps else 0.0, target=target or margin)
    untested, gated = difference.why_undecidable, False
    verdict: Verdict = "confounded" if difference.confounded else "cannot_tell"
    if ours.form != GENERATION and bench.study.analysis.gate:  # every method learns to generate
        learned = bench.study.learned(setting_of(ours))
        if learned.verdict == "did not learn":
            untested, verdict, gated = "did not learn", "not_tested", True
        elif learned.verdict == "not known":
            untested, verdict = f"whether the task was learned is not known, {learned.reason}", "not_tested"
            gated = bench.study.judgement.part_of(bench.profile, setting_of(ours)) is None
    more = ", ".join(filter(None, (_without(difference), found)))
    return Draft(title, question, runs, "", more, untested, verdict, (ours, other), margin or 0.0, what, gated)


def _without(difference: Difference) -> str:
    """`without seed 52, whose runs were made on different processors`; empty where none was dropped."""
    if not difference.dropped or difference.confounded:
        return ""
    return f"without seed {listed(list(map(str, difference.dropped)))}, whose runs were made on different processors"


def _ambiguous(bench: Bench, ours: Experiment, other: Experiment) -> str | None:
    """Why it is not known which runs a comparison is of: another run could stand for the same method."""
    for run in (ours, other):
        if (twin := bench.study.twin(run)) is not None:
            names = " and ".join(sorted((run.name, twin)))
            return f"{names} are runs of one method; all but one need another role in judgement.yaml"
    return None


def pooled_draft(bench: Bench, title: str, what: str, drafts: Sequence[Draft], *, keeps: bool = False) -> Draft | None:
    """The primary comparison over the drafts of one rival, one a learned task; with one draft, that one itself.

    Its margin is the mean of the tasks' margins. One task that cannot be compared keeps the pool from being tested: the
    others alone would answer a different question. None without a task to compare.
    """
    tested = [draft for draft in drafts if draft.untested is None and draft.pair is not None]
    blocked = [draft for draft in drafts if draft.untested is not None]
    if not tested or len(drafts) < 2:
        return tested[0] if tested else None
    runs = tuple(dict.fromkeys(run for draft in tested for run in draft.runs))
    difference = bench.study.pooled([draft.pair for draft in tested if draft.pair is not None])
    if difference is None:
        reason = "its tasks share no seed"
        return Draft(title, None, runs, f"{what} not pooled, {reason}", "", reason)
    margin = sum(draft.margin for draft in tested) / len(tested)
    question = Question(what, difference, -margin if keeps else 0.0, target=margin or None)
    reasons = [f"{draft.title} cannot be compared ({draft.untested})" for draft in blocked]
    untested = "; ".join(filter(None, (*reasons, difference.why_undecidable))) or None
    confounded = difference.confounded or any(draft.verdict == "confounded" for draft in blocked)
    verdict: Verdict = "confounded" if confounded else "cannot_tell"
    return Draft(title, question, runs, "", _without(difference), untested, verdict)


def _other_rank(ours: Experiment, other: Experiment) -> str | None:
    """LoRA, WeightLoRA and the random control must have the same rank; WeightLoRA+ raises its rank by design."""
    a, b = ours.record, other.record
    if a is None or b is None or not {a.method, b.method} <= {"lora", "weight_lora", "random_lora"}:
        return None
    ranks = a.method_config.get("rank"), b.method_config.get("rank")
    return None if ranks[0] == ranks[1] else f"unequal ranks: {ours.name} {ranks[0]}, {other.name} {ranks[1]}"


def backbone_of(experiment: Experiment) -> str:
    """The backbone of its record; empty without one."""
    return experiment.record.backbone if experiment.record else ""


def shown_backbone(experiment: Experiment) -> str:
    """The backbone's display name."""
    return backbone_name(experiment.record.backbone) if experiment.record else "this backbone"


def lowered(sentence: str) -> str:
    """A sentence that goes on after a colon."""
    return f"{sentence[0].lower()}{sentence[1:]}"
