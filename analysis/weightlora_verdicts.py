"""What the runs of one profile say about the WeightLoRA paper's claims, by the rules of `weightlora.yaml`.

A claim is judged case by case (a backbone, a task, a K) by the rule of `decision.py`; the comparisons of all its claims
that can decide a case are one family of Holm's. A case whose task LoRA did not clearly learn is `inconclusive: did not
learn` and tests nothing, like one with fewer than three seeds. The quick profile never tests a claim: there the cases
are shown without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.authors import Authors, Claim
from analysis.cases import Case, Draft, Judged, settle
from analysis.counted import reduction
from analysis.decision import Question, Word
from analysis.labels import backbone_name
from analysis.measurements import Memory
from analysis.records import Experiment
from analysis.task_results import TaskStudy, keep_of, place_title, unequal
from analysis.wording import listed, percent, signed

__all__ = ["Bench", "Case", "ClaimVerdict", "judge_weightlora"]


@dataclass(frozen=True)
class ClaimVerdict(Judged):
    """One claim of the WeightLoRA paper in `claims.yaml`, judged."""


@dataclass(frozen=True)
class Bench:
    """What verdicts are drawn from."""

    profile: str
    study: TaskStudy
    authors: Authors
    memory: Memory | None = None

    @property
    def never_tests(self) -> str | None:
        """Why this profile tests no claim; None when it may."""
        return self.authors.facts.claims_not_tested_in.get(self.profile)

    def adapters_of(self, backbone: str) -> int | None:
        """How many adapters a backbone of this profile offers; None where no run says."""
        for experiment in self.study.experiments:
            for selection in experiment.selections.values():
                if experiment.record is not None and experiment.record.backbone == backbone:
                    return len(selection.adapters)
        return None

    def title(self, place: tuple[str, str], ours: Experiment | None = None) -> str:
        """`CoLA on MiniLM-L6, K=3`, with the preset where it is a variant of the code."""
        where = place_title(self.study.experiments, place)
        keep = keep_of(ours) if ours else None
        preset = ours.record.method_config.get("preset") if ours and ours.record else None
        variant = f", {preset}" if preset not in (None, "paper") else ""
        return f"{where}{variant}" if keep is None else f"{where}, K={keep}{variant}"


def judge_weightlora(
    profile: str, study: TaskStudy, authors: Authors, memory: Memory | None = None
) -> list[ClaimVerdict]:
    """One verdict per claim of `weightlora.yaml`, in its order."""
    bench = Bench(profile, study, authors, memory)
    drafts = {claim.key: DRAFTERS[claim.key](bench) for claim in authors.facts.claims if claim.key in DRAFTERS}
    cases = iter(settle([draft for found in drafts.values() for draft in found], tested=bench.never_tests is None))
    of_claim = {key: [next(cases) for _ in found] for key, found in drafts.items()}
    return [
        _saves_memory(bench, claim) if claim.key == MEMORY_CLAIM else _verdict(bench, claim, of_claim[claim.key])
        for claim in authors.facts.claims
    ]


def _fewer_and_as_good(bench: Bench) -> list[Draft]:
    rules, drafts = bench.authors.facts.rules, []
    for place in bench.study.places:
        for lora in bench.study.at(place, "lora")[:1]:
            for ours in bench.study.at(place, "weight_lora"):
                title, runs = bench.title(place, ours), (ours.name, lora.name)
                share, text = _parameters(ours, lora)
                if share > 1 - rules.fewer_share:
                    few = "more than half of LoRA's adapter parameters"
                    drafts.append(Draft(title, (), runs, f"{text}, {few}", "", few, "not_tested"))
                    continue
                draft = _draft(bench, place, title, "WeightLoRA minus LoRA", ours, lora, -rules.margin, text)
                drafts.append(draft)
    return drafts


def _counted(bench: Bench) -> tuple[str, ...]:
    counted = bench.authors.facts.counted
    whole, head = counted.all.number, counted.head.number
    return tuple(
        f"DeBERTaV3-base, r={counted.rank}, K={keep} of {counted.adapters}: {int(figure.number):,} adapter parameters "
        f"against {int(whole):,}, {percent(reduction(figure.number, whole))} fewer; with the task head ({int(head):,}) "
        f"{percent(reduction(figure.number + head, whole + head))} fewer."
        for keep, figure in counted.kept.items()
    )


def _plus_is_best(bench: Bench) -> list[Draft]:
    drafts = []
    for place in bench.study.places:
        rivals = [*bench.study.at(place, "lora")[:1], *bench.study.at(place, "weight_lora")]
        for plus in bench.study.at(place, "weight_lora_plus"):
            if len(rivals) < 2:
                continue
            parts = []
            for rival in rivals:
                keep = keep_of(rival)
                against = "minus LoRA" if keep is None else f"minus WeightLoRA K={keep}"
                parts.append(_draft(bench, place, bench.title(place), against, plus, rival))
            drafts.append(_joined(parts))
    return drafts


def _better_than_random(bench: Bench) -> list[Draft]:
    drafts = []
    for place in bench.study.places:
        controls = {keep_of(control): control for control in bench.study.at(place, "random_lora")}
        for ours in bench.study.at(place, "weight_lora"):
            control = controls.get(keep_of(ours))
            if control is not None:
                title = bench.title(place, ours)
                drafts.append(_draft(bench, place, title, "WeightLoRA minus random", ours, control))
    return drafts


def _saves_memory(bench: Bench, claim: Claim) -> ClaimVerdict:
    memory, rules = bench.memory, bench.authors.facts.rules
    remainder = "That no intuition about layers is needed is no measurable statement; claim 3's control bears on it."
    if memory is None:
        reason = f"Peak memory was not measured in the {bench.profile} profile. {remainder}"
        return ClaimVerdict(claim, "not_tested", reason, profile=bench.profile)
    everything = memory.adapters or bench.adapters_of(memory.backbone)
    savings = {
        row.keep: reduction(row.phase2_peak_bytes, row.all_adapters_peak_bytes)
        for row in memory.rows
        if row.all_adapters_peak_bytes and (everything is None or row.keep < everything)
    }
    tokens = f"{memory.batch} x {memory.length} tokens a step"
    where = f"{backbone_name(memory.backbone)}, r={memory.rank or 'unknown'}, {tokens}"
    observed = tuple(
        f"{where}: K={row.keep}: phase-2 peak {row.phase2_peak_bytes / 1e6:,.0f} MB"
        + (f", {percent(savings[row.keep])} below all adapters" if row.keep in savings else "")
        + "."
        for row in memory.rows
    )
    if bench.never_tests or not savings:
        reason = bench.never_tests or "No peak with all adapters to compare."
        return ClaimVerdict(claim, "not_tested", reason, observed, profile=bench.profile)
    enough = [saving >= rules.memory_share for saving in savings.values()]
    none = [saving <= 0 for saving in savings.values()]
    word: Word = "supported" if all(enough) else "contradicted" if all(none) else "inconclusive"
    least, most = min(savings.values()), max(savings.values())
    reason = (
        f"{bench.profile} profile, {where}: phase-2 peaks lie {percent(least)} to {percent(most)} below the peak with "
        f"all adapters, for K of {', '.join(map(str, savings))}. One measurement per K, so no interval. {remainder}"
    )
    return ClaimVerdict(claim, word, reason, observed, profile=bench.profile)


DRAFTERS: dict[str, Callable[[Bench], list[Draft]]] = {
    "fewer_and_as_good": _fewer_and_as_good,
    "plus_is_best": _plus_is_best,
    "better_than_random": _better_than_random,
}
MEMORY_CLAIM = "saves_memory"
"""The one claim without cases: a measurement for each K."""


def _draft(
    bench: Bench,
    place: tuple[str, str],
    title: str,
    what: str,
    ours: Experiment,
    other: Experiment,
    above: float = 0.0,
    more: str = "",
) -> Draft:
    """A case of two runs; unequal budgets, few seeds and tasks that were not learned keep it from being tested."""
    runs = ours.name, other.name
    if reason := unequal(ours, other) or _other_rank(ours, other):
        return Draft(title, (), runs, f"{what} not compared, {reason}", "", reason, "not_tested")
    difference = bench.study.difference(ours, other)
    if difference is None:
        reason = "no shared seeds on the same items"
        return Draft(title, (), runs, f"{what} not compared, {reason}", "", reason)
    learned, untested = bench.study.learned(place), difference.why_undecidable
    if learned.word == "did not learn":
        untested = "did not learn"
    elif learned.word == "not known":
        untested = f"whether the task was learned is not known, {learned.reason}"
    return Draft(title, (Question(what, difference, above),), runs, "", more, untested)


def _other_rank(ours: Experiment, other: Experiment) -> str | None:
    """WeightLoRA+ raises its rank by design; every other pair must have the same."""
    a, b = ours.record, other.record
    if a is None or b is None or "weight_lora_plus" in (a.method, b.method):
        return None
    ranks = a.method_config.get("rank"), b.method_config.get("rank")
    return None if ranks[0] == ranks[1] else f"unequal ranks: {ours.name} {ranks[0]}, {other.name} {ranks[1]}"


def _joined(parts: Sequence[Draft]) -> Draft:
    """Better than both: every difference must be above zero, and one below zero is enough against it."""
    untested = next((part for part in parts if part.word == "not_tested"), None)
    untested = untested or next((part for part in parts if part.untested), None)
    return Draft(
        parts[0].title,
        tuple(question for part in parts for question in part.questions),
        tuple(dict.fromkeys(run for part in parts for run in part.runs)),
        "; ".join(part.found for part in parts if part.found),
        "",
        untested.untested if untested else None,
        untested.word if untested else "inconclusive",
        "WeightLoRA+ ",
    )


def _verdict(bench: Bench, claim: Claim, cases: Sequence[Case]) -> ClaimVerdict:
    """The cases of one claim together, by the rule `overall`."""
    counted = _counted(bench) if claim.key == "fewer_and_as_good" else ()
    runs = tuple(dict.fromkeys(run for case in cases for run in case.runs))
    evidence = tuple(case.text for case in cases), counted, runs, tuple(cases), bench.profile
    if bench.never_tests:
        return ClaimVerdict(claim, "not_tested", bench.never_tests, *evidence)
    tested = [case for case in cases if case.untested is None]
    rest = [f"{case.title} ({case.untested})" for case in cases if case.untested is not None]
    besides = f" Without a test: {'; '.join(rest)}." if rest else ""
    if not tested:
        reason = f"The {bench.profile} profile has no pair of runs that tests this claim.{besides}"
        untested: Word = "inconclusive" if any(case.word == "inconclusive" for case in cases) else "not_tested"
        return ClaimVerdict(claim, untested, reason, *evidence)
    words = Counter(case.word for case in tested)
    least = bench.authors.facts.rules.case_share * len(tested)
    word: Word = "inconclusive"
    if words["supported"] >= least and not words["contradicted"]:
        word = "supported"
    elif words["contradicted"] >= least and not words["supported"]:
        word = "contradicted"
    counts = listed([f"{words[name]} {name}" for name in ("supported", "contradicted", "inconclusive")])
    effects = [effect for case in tested for effect in case.effects]
    reason = (
        f"{bench.profile} profile, {len(tested)} tested {'case' if len(tested) == 1 else 'cases'}: {counts}; "
        f"differences {signed(min(effects))} to {signed(max(effects))}.{besides}"
    )
    if why := bench.authors.facts.why_not_comparable(bench.profile):
        reason += f" This says nothing of the paper's own figures: {why[0].lower()}{why[1:]}"
    return ClaimVerdict(claim, word, reason, *evidence)


def _parameters(ours: Experiment, lora: Experiment) -> tuple[float, str]:
    """Share of LoRA's adapter parameters, and the sentence that says which count it is."""
    a, b = ours.record, lora.record
    if a is None or b is None or not b.counts.adapter:
        return 1.0, "parameters unknown"
    share, whole = a.counts.adapter / b.counts.adapter, a.counts.trainable / max(1, b.counts.trainable)
    return share, f"with {percent(share)} of LoRA's adapter parameters ({percent(whole)} with the task head)"
