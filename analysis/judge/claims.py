"""Verdicts on the claims of both papers from the runs of one profile, case by case.

A case is one claim in one setting (a backbone, a task, a K or a reading), decided by the rule of `decision.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis.judge.decision import CONFIDENCE, LEAST_SEEDS, Difference, Finding, Question, Verdict, decide, undecided
from analysis.judge.number_format import (
    LEVEL,
    difference_text,
    finding_text,
    format_score,
    listed,
    percent,
    signed,
    span,
)
from analysis.judge.study import (
    Setting,
    Study,
    base_parameters,
    is_reading,
    keep_of,
    mixed_conditions,
    reference_lora,
    setting_of,
    setting_title,
    unequal,
)
from analysis.load.names import BACKBONE_NAMES, backbone_name, score_name
from analysis.load.paper_files import DIRECTORY, published_count
from analysis.load.paper_folder import Published, load_published
from analysis.load.published import Claim, PaperName, reduction
from analysis.load.runs import GENERATION, Experiment
from analysis.load.searches import Memory, read_memory, read_searches, unequal_searches
from analysis.stats.seeds import largest_rise, smooth, summarise_seeds, t_interval


@dataclass(frozen=True)
class Case:
    """One claim in one setting: its verdict, the findings (effect, intervals, seeds), and why it is not tested.

    `findings` hold the numbers: one a comparison, none where only parameters were counted. `effects` are theirs, or
    the counted share. `subject` begins the name of each comparison (`WeightLoRA+ ` before `minus LoRA`).
    """

    title: str
    verdict: Verdict
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
    """A case before Holm's family is known: its questions, or why there are none.

    `untested` keeps its questions out of the family; `verdict` is then the case's. `more` follows the findings.
    """

    title: str
    questions: tuple[Question, ...] = ()
    runs: tuple[str, ...] = ()
    found: str = ""
    more: str = ""
    untested: str | None = None
    verdict: Verdict = "inconclusive"
    subject: str = ""

    def case(self, findings: Sequence[Finding], tested: bool) -> Case:
        """The case, once its questions are answered; `tested` is False in a profile that tests no claim."""
        verdict = self.verdict if self.untested else joined_verdict([finding.verdict for finding in findings])
        parts = [f"{finding.question.name} {finding_text(finding)}" for finding in findings]
        found = ", ".join(part for part in (self.found, "; ".join(parts), self.more) if part)
        shown = verdict.replace("_", " ")
        return Case(
            self.title,
            verdict if tested else "not_tested",
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
    """One claim: the verdict, its reason, each case, the counts, and the runs used."""

    claim: Claim
    verdict: Verdict
    reason: str
    observed: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    profile: str = ""

    @property
    def tested(self) -> tuple[Case, ...]:
        """The cases that decided the verdict."""
        return tuple(case for case in self.cases if case.untested is None and case.verdict != "not_tested")

    @property
    def seeds(self) -> int | None:
        """The fewest shared seeds of a comparison, of the tested cases if there are any; None without one."""
        cases = self.tested or self.cases
        return min((case.seeds for case in cases if case.seeds is not None), default=None)

    @property
    def headline(self) -> Finding | None:
        """The comparison to show first: of those with the claim's verdict the one with the largest p.

        The claim is no stronger than it. Without a test, the first comparison.
        """
        findings = [finding for case in self.cases for finding in case.findings]
        same = [finding for finding in findings if finding.verdict == self.verdict and finding.p_holm is not None]
        return max(same, key=lambda finding: finding.p_holm or 0.0, default=next(iter(findings), None))

    def to_dict(self) -> dict[str, Any]:
        """JSON form: the claim, the verdict, and all its numbers."""
        headline = self.headline
        return {
            "number": self.claim.number,
            "key": self.claim.key,
            "claim": self.claim.text,
            "profile": self.profile,
            "verdict": self.verdict,
            "reason": self.reason,
            "seeds": self.seeds,
            "headline": None if headline is None else headline.to_dict(),
            "cases": [case.to_dict() for case in self.cases],
            "observed": list(self.observed),
            "counted": list(self.counted),
            "runs": list(self.runs),
        }


def verdict_list(verdicts: Sequence[Judged], *, brief: bool = False) -> str:
    """Verdicts as a Markdown list: the verdict, the claim and the reason, followed by the observations.

    `brief` leaves out untested cases, which the reason names.
    """
    lines = []
    for judged in verdicts:
        left_out = {case.text for case in judged.cases if case.untested is not None} if brief else set()
        verdict = judged.verdict.replace("_", " ")
        lines.append(f"- **Claim {judged.claim.number}: {verdict}.** {judged.claim.text} {judged.reason}\n")
        lines += [f"  - {line}\n" for line in judged.observed if line not in left_out]
    return "".join(lines)


def joined_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """Supported if all are; contradicted if any is."""
    if verdicts and all(verdict == "supported" for verdict in verdicts):
        return "supported"
    return "contradicted" if "contradicted" in verdicts else "inconclusive"


def settle(drafts: Sequence[Draft], *, tested: bool) -> list[Case]:
    """Cases of all claims of one paper in one profile, in order: their open questions are one family.

    In a profile that tests no claim (`tested` False) nothing is decided: only effects and intervals.
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


SMOOTHING_WINDOW = 10  # logged values
RANK, SKIP_LENGTHS = 120, (2, 6)  # the reading that fits the published 0.26M, and the one that fits 59 %
CLAIMED_REDUCTION_FROM_LORA = 0.585  # 59 % after rounding
CLAIMED_REDUCTION_FROM_FULL = 0.99
RISE = "largest rise of the smoothed loss"


@dataclass(frozen=True)
class Bench:
    """The input of the verdicts: the runs of one profile, published figures, and memory measurements.

    `broken` lists what could not be read, and unequal searches.
    """

    study: Study
    published: Published
    memory: Memory | None = None
    broken: tuple[str, ...] = ()

    @cached_property
    def verdicts(self) -> list[Judged]:
        """`judge`, cached."""
        return judge(self.study, self.published, self.memory)

    def of_paper(self, paper: PaperName) -> list[Judged]:
        """The verdicts on one paper's claims."""
        return [judged for judged in self.verdicts if judged.claim.paper == paper]

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

    @property
    def readings(self) -> list[tuple[Experiment, int]]:
        """Complete runs that represent Solo Connection, with their skip length: every reading, on every backbone."""
        found = [
            (experiment, skip)
            for skip in SKIP_LENGTHS
            for experiment in self.solo()
            if experiment.status == "complete" and is_reading(experiment, RANK, skip)
        ]
        return sorted(found, key=lambda pair: (_backbone(pair[0]), pair[1]))

    def reading(self, backbone: str, skip_length: int) -> Experiment | None:
        """The complete run of one reading of Solo Connection on one backbone."""
        return next((e for e, skip in self.readings if (_backbone(e), skip) == (backbone, skip_length)), None)

    def chosen(self, backbone: str, skip_length: int) -> list[Experiment]:
        """Runs that test a claim about Solo Connection: the paper's own setting, otherwise every reading."""
        if self.why_not is not None:
            return [experiment for experiment, _ in self.readings]
        run = self.reading(backbone, skip_length)
        return [run] if run else []

    def solo(self) -> list[Experiment]:
        """Experiments with Solo Connection that left a record."""
        found = self.study.generation.experiments
        return [e for e in found if e.record is not None and e.record.method == "solo_connection"]

    def lora_of(self, experiment: Experiment) -> Experiment | None:
        """The LoRA experiment on the same backbone and task."""
        if experiment.record is None:
            return None
        return reference_lora(self.study.generation.experiments, experiment.record)

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
            f"{_lowered(self.why_not)}"
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
        where = setting_title(self.study.tasks.experiments, setting)
        keep = keep_of(ours) if ours else None
        preset = ours.record.method_config.get("preset") if ours and ours.record else None
        variant = f", {preset}" if preset not in (None, "paper") else ""
        return f"{where}{variant}" if keep is None else f"{where}, K={keep}{variant}"


def load_bench(
    profile: str,
    experiments: Sequence[Experiment],
    searches: str | Path | None = None,
    measurements: str | Path | None = None,
    published: str | Path = DIRECTORY,
) -> Bench:
    """The bench of one profile's experiments; its folders of searches and measurements may be absent."""
    found, broken = read_searches(searches)
    memory, problems = read_memory(measurements)
    everything = load_published(published)
    study = Study.of(experiments, found, profile, everything.judgement)
    unequal_ones = unequal_searches(study.tasks.experiments, found)
    return Bench(study, everything, memory, (*broken, *problems, *unequal_ones))


def judge(study: Study, published: Published | None = None, memory: Memory | None = None) -> list[Judged]:
    """One verdict per claim of either paper, in the order of claims.yaml; the comparisons of a paper are one family."""
    bench = Bench(study, published or load_published(), memory)
    verdicts = []
    for paper in bench.published.claims.papers:
        claims = bench.published.claims.of(paper)
        drafts = {claim.key: DRAFTERS[claim.key](bench) for claim in claims if claim.key in DRAFTERS}
        cases = iter(settle([draft for found in drafts.values() for draft in found], tested=bench.never_tests is None))
        of_claim = {key: [next(cases) for _ in found] for key, found in drafts.items()}
        verdicts += [JUDGES[claim.key](bench, claim, of_claim.get(claim.key, [])) for claim in claims]
    return verdicts


def together(cases: Sequence[Case], share: float) -> Verdict:
    """The rule for a claim over several cases; untested cases do not count.

    Supported when at least `share` of the tested cases are and none is contradicted; contradicted the other way round;
    otherwise inconclusive. Without a tested case: inconclusive if a comparison was possible, else not tested.
    """
    tested = [case.verdict for case in cases if case.untested is None and case.verdict != "not_tested"]
    if not tested:
        return "inconclusive" if any(case.verdict == "inconclusive" for case in cases) else "not_tested"
    verdicts, least = Counter(tested), share * len(tested)
    if verdicts["supported"] >= least and not verdicts["contradicted"]:
        return "supported"
    if verdicts["contradicted"] >= least and not verdicts["supported"]:
        return "contradicted"
    return "inconclusive"


def compare_runs(
    bench: Bench, title: str, what: str, ours: Experiment, other: Experiment, above: float = 0.0, more: str = ""
) -> Draft:
    """A case of two runs on their primary metric.

    Unequal budgets, few seeds and, for a WeightLoRA claim, tasks that were not learned keep it from being tested.
    """
    runs = ours.name, other.name
    if reason := unequal(ours, other) or _other_rank(ours, other):
        return Draft(title, (), runs, f"{what} not compared, {reason}", "", reason, "not_tested")
    difference = bench.study.difference(ours, other)
    if difference is None:
        reason = "no shared seeds on the same items"
        return Draft(title, (), runs, f"{what} not compared, {reason}", "", reason)
    untested = difference.why_undecidable
    if ours.form != GENERATION:  # a generation run without training scores near zero, so that every method learns
        learned = bench.study.learned(setting_of(ours))
        if learned.verdict == "did not learn":
            untested = "did not learn"
        elif learned.verdict == "not known":
            untested = f"whether the task was learned is not known, {learned.reason}"
    return Draft(title, (Question(what, difference, above),), runs, "", more, untested)


# Solo Connection


def _solo_against_lora(bench: Bench) -> list[Draft]:
    """Solo minus LoRA; a profile that tests no claim shows every complete run."""
    complete = [experiment for experiment in bench.solo() if experiment.status == "complete"]
    pairs = [
        (solo, bench.lora_of(solo)) for solo in (complete if bench.never_tests else bench.chosen("gpt2-medium", 2))
    ]
    return [
        compare_runs(bench, bench.label(solo), "Solo Connection minus LoRA", solo, lora)
        for solo, lora in pairs
        if lora is not None and lora.status == "complete"
    ]


def _outperforms_lora(bench: Bench, claim: Claim, cases: Sequence[Case]) -> Judged:
    pairs = [(solo, lora) for solo in bench.solo() if (lora := bench.lora_of(solo)) is not None]
    scored = [(solo, lora) for solo, lora in pairs if solo.metrics and lora.metrics]
    observed = tuple(scores_against(bench, solo, lora) for solo, lora in scored)
    evidence = observed, (), tuple(dict.fromkeys(run.name for pair in scored for run in pair)), tuple(cases)
    if bench.never_tests or not cases:
        reason = bench.never_tests or (
            "LoRA and Solo Connection (r=120, k=2) on GPT-2 Medium are not both complete."
            if bench.why_not is None
            else "LoRA and a reading of Solo Connection on one backbone are not both complete."
        )
        return Judged(claim, "not_tested", reason, *evidence, bench.profile)
    verdict = together(cases, bench.study.judgement.almost_all.share)
    reason = " ".join(case.text for case in cases) + bench.scope(_backbones(bench, cases))
    reason += mixed_conditions(_experiments(bench, cases))
    if verdict == "inconclusive" and all(case.untested for case in cases):
        few = [case.untested for case in cases if case.untested and "seeds" in case.untested]
        reason += " A verdict needs three shared seeds on the same items." if few else ""
    return Judged(claim, verdict, reason, *evidence, bench.profile)


def _fewer_than_lora(bench: Bench, claim: Claim, _: Sequence[Case]) -> Judged:
    """The count: 59 % fewer is the figure for GPT-2 Large; elsewhere only its direction can be contradicted."""
    shapes = bench.published.claims.counted
    counted = tuple(
        f"{BACKBONE_NAMES[shape.backbone]}, r={shape.solo_rank}, k={shape.skip_length}: {shape.solo:,} "
        f"against LoRA's {shape.lora:,}, {percent(reduction(shape.solo, shape.lora))} fewer by exact count and "
        f"{percent(reduction(shape.solo, published_count(shape.lora_printed)))} fewer than the published "
        f"{shape.lora_printed}."
        for shape in shapes
    )
    pairs = [
        (solo, lora) for solo in bench.solo() if (lora := bench.lora_of(solo)) is not None and lora.record is not None
    ]
    observed = tuple(parameters_against(bench, solo, lora) for solo, lora in pairs)
    runs = tuple(dict.fromkeys(run.name for pair in pairs for run in pair))
    chosen = [] if bench.never_tests else [pair for pair in pairs if pair[0] in bench.chosen("gpt2-large", 6)]
    if not chosen:
        reason = "No backbone of this profile has GPT-2 Large's shapes. For those the claim is counted, not trained."
        if bench.why_not is not None and not bench.never_tests:
            reason, runs = "LoRA and a reading of Solo Connection on one backbone are not both complete.", ()
        return Judged(claim, "not_tested", reason, observed, counted, runs, profile=bench.profile)
    published_lora = next(shape.lora_printed for shape in shapes if shape.backbone == "gpt2-large")
    cases = [_count_case(bench, solo, lora, published_lora) for solo, lora in chosen]
    verdict = together(cases, bench.study.judgement.almost_all.share)
    if bench.why_not is None:
        return Judged(claim, verdict, f"{cases[0].found}.", observed, counted, runs, tuple(cases), bench.profile)
    reason = " ".join(case.text for case in cases)
    if verdict == "inconclusive":
        reason += " Fewer, but not by 59 %: that figure is for GPT-2 Large's shapes, where it is counted."
    reason += bench.scope(_backbones(bench, cases))
    runs = tuple(dict.fromkeys(run for case in cases for run in case.runs))
    return Judged(claim, verdict, reason, observed, counted, runs, tuple(cases), bench.profile)


def _count_case(bench: Bench, solo: Experiment, lora: Experiment, published: str) -> Case:
    assert solo.record is not None
    assert lora.record is not None
    ours, theirs = solo.record.counts.adapter, lora.record.counts.adapter
    exact, names = reduction(ours, theirs), (solo.name, lora.name)
    verdict: Verdict = "supported" if exact >= CLAIMED_REDUCTION_FROM_LORA else "inconclusive"
    if bench.why_not is not None:
        verdict = "contradicted" if exact <= 0 else verdict
        found = f"{percent(exact)} fewer than {bench.label(lora)}"
        return Case(bench.label(solo), verdict, found, verdict, names, (exact,))
    rounded = reduction(ours, published_count(published))
    verdict = "contradicted" if max(exact, rounded) < CLAIMED_REDUCTION_FROM_LORA else verdict
    found = f"{percent(exact)} fewer by exact count, {percent(rounded)} fewer than the published {published}"
    return Case(bench.label(solo), verdict, found, "", names, (exact,))


def _fewer_than_full(bench: Bench, claim: Claim, _: Sequence[Case]) -> Judged:
    counted = tuple(
        f"{BACKBONE_NAMES[shape.backbone]}, r={shape.solo_rank}, k={shape.skip_length}: {shape.solo:,} "
        f"against {shape.full:,}, {percent(reduction(shape.solo, shape.full), 2)} fewer."
        for shape in bench.published.claims.counted
    )
    observed = tuple(parameters_against_full(bench, solo) for solo in bench.solo())
    evidence = observed, counted, tuple(solo.name for solo in bench.solo())
    cases = []
    for solo in [] if bench.never_tests else bench.chosen("gpt2-medium", 2):
        assert solo.record is not None
        share = reduction(solo.record.counts.adapter, base_parameters(solo.record))
        verdict: Verdict = "supported" if share > CLAIMED_REDUCTION_FROM_FULL else "contradicted"
        found = f"{percent(share, 2)} fewer than full fine-tuning on {_name(solo)}"
        cases.append(Case(bench.label(solo), verdict, found, verdict, (solo.name,), (share,)))
    if not cases:
        reason = "No backbone of this profile has GPT-2 Medium's shapes; the share depends on the backbone's size."
        return Judged(claim, "not_tested", reason, *evidence, profile=bench.profile)
    reason = " ".join(case.text for case in cases) + bench.scope(_backbones(bench, cases))
    verdict = together(cases, bench.study.judgement.almost_all.share)
    return Judged(claim, verdict, reason, *evidence, tuple(cases), bench.profile)


def _smooth_and_stable(bench: Bench, claim: Claim, _: Sequence[Case]) -> Judged:
    experiments = bench.study.generation.experiments
    rises = {e.name: loss_rises(e) for e in experiments}
    observed = [
        f"{bench.label(e)}: {RISE.replace('loss', 'training loss')} above its lowest value so far "
        f"{format_score(summarise_seeds(list(rises[e.name].values())))} nats per token."
        for e in experiments
        if rises[e.name]
    ]
    observed += [text for solo in bench.solo() if (text := parameter_range(bench, solo))]
    evidence = tuple(observed), (), tuple(e.name for e in experiments if rises[e.name])
    pair = ablation(bench)
    if bench.never_tests or pair is None:
        reason = bench.never_tests or "No run of Solo Connection without its homotopy parameter to compare with."
        return Judged(claim, "not_tested", reason, *evidence, profile=bench.profile)
    case = _rise_case(bench, *pair, *(rises[experiment.name] for experiment in pair))
    reason = f"{case.text}{bench.scope([_name(pair[0])])}{mixed_conditions(pair)}"
    return Judged(claim, case.verdict, reason, *evidence, (case,), bench.profile)


def _rise_case(
    bench: Bench, with_it: Experiment, without: Experiment, ours: dict[int, float], theirs: dict[int, float]
) -> Case:
    """A training loss has no test items: only the interval over seeds decides, and smaller is better."""
    seeds = tuple(sorted(set(ours) & set(theirs)))
    title, names = bench.label(with_it), (with_it.name, without.name)
    values = tuple(ours[seed] - theirs[seed] for seed in seeds)
    if not values:
        return Case(title, "inconclusive", "no shared seeds", "", names, untested="no shared seeds")
    over_seeds = t_interval(values, CONFIDENCE) if len(values) >= LEAST_SEEDS else None
    difference = Difference(RISE, sum(values) / len(values), seeds, None, over_seeds, values)
    verdict: Verdict = "inconclusive"
    if over_seeds is not None and over_seeds.high < 0:
        verdict = "supported"
    elif over_seeds is not None and over_seeds.low > 0:
        verdict = "contradicted"
    few = None if over_seeds is not None else f"only {len(seeds)} shared seeds; three are needed"
    smaller = sum(value < 0 for value in values)
    found = f"with minus without its homotopy parameter, {RISE} {signed(difference.effect)} nats per token ("
    found += f"{LEVEL} over {len(seeds)} seeds {span(over_seeds)}, " if over_seeds is not None else ""
    found += f"smaller on {smaller} of {len(seeds)} seeds)"
    finding = Finding(Question("with minus without homotopy parameter", difference), verdict, few)
    ending = f"{verdict}: {few}" if few else verdict
    return Case(title, verdict, found, ending, names, (difference.effect,), few, (finding,))


def loss_rises(experiment: Experiment) -> dict[int, float]:
    """Seed -> largest rise of the smoothed training loss, nats per token; only seeds that were trained."""
    rises = {}
    for seed, curve in experiment.curves.items():
        losses = curve["loss"].dropna().to_numpy()
        if losses.size > SMOOTHING_WINDOW:
            rises[seed] = largest_rise(smooth(losses, SMOOTHING_WINDOW)[SMOOTHING_WINDOW - 1 :])
    return rises


def ablation(bench: Bench) -> tuple[Experiment, Experiment] | None:
    """Complete Solo runs that differ in nothing but the homotopy parameter's presence: with it, without it."""

    def rest(experiment: Experiment) -> tuple[object, ...]:
        record = experiment.record
        assert record is not None
        config = {
            name: value
            for name, value in record.method_config.items()
            if name not in ("homotopy_parameter", "init_seed")
        }
        return (
            record.backbone,
            record.task,
            repr(sorted(config.items())),
            repr(sorted(record.training.items())),
        )

    complete = [e for e in bench.solo() if e.status == "complete" and e.record is not None]
    for without in complete:
        assert without.record is not None
        if without.record.method_config.get("homotopy_parameter", 0.1) is not None:
            continue
        for with_it in complete:
            assert with_it.record is not None
            if with_it.record.method_config.get("homotopy_parameter", 0.1) == 0.1 and rest(with_it) == rest(without):
                return with_it, without
    return None


def scores_against(bench: Bench, solo: Experiment, lora: Experiment) -> str:
    """BLEU of both, and their difference with its intervals, and seed by seed."""
    text = "; ".join(
        f"{score_name('BLEU')} of {bench.label(e)} {format_score(summarise_seeds(values))}"
        for e in (solo, lora)
        if e.metrics and (values := e.metrics.values("BLEU"))
    )
    difference = bench.study.difference(solo, lora)
    if difference is None:
        return f"{text}."
    pairs = zip(difference.seeds, difference.by_seed, strict=True)
    each = ", ".join(f"{signed(value)} (seed {seed})" for seed, value in pairs)
    by_seed = f"; seed by seed {each}" if len(difference.seeds) > 1 else ""
    return f"{text}; difference {difference_text(difference)}{by_seed}."


def parameters_against(bench: Bench, solo: Experiment, lora: Experiment) -> str:
    """Adapter parameters of both."""
    assert solo.record is not None
    assert lora.record is not None
    ours, theirs = solo.record.counts.adapter, lora.record.counts.adapter
    return (
        f"{bench.label(solo)}: {ours:,} adapter parameters against {theirs:,} of {bench.label(lora)}, "
        f"{percent(reduction(ours, theirs))} fewer on this backbone."
    )


def parameters_against_full(bench: Bench, solo: Experiment) -> str:
    """Adapter parameters against what full fine-tuning would train."""
    assert solo.record is not None
    ours, whole = solo.record.counts.adapter, base_parameters(solo.record)
    return (
        f"{bench.label(solo)}: {ours:,} adapter parameters against {whole:,} of the whole backbone, "
        f"{percent(reduction(ours, whole), 2)} fewer."
    )


def parameter_range(bench: Bench, solo: Experiment) -> str:
    """How far the homotopy parameters moved; empty if they were not logged."""
    lasts = [
        float(curve[name].dropna().iloc[-1])
        for curve in solo.curves.values()
        for name in curve.columns
        if name.startswith("homotopy_parameter[") and curve[name].notna().any()
    ]
    if not lasts:
        return ""
    start = solo.record.method_config.get("homotopy_parameter") if solo.record else None
    return (
        f"{bench.label(solo)}: homotopy parameters went from {start:g} to between {min(lasts):.3f} "
        f"and {max(lasts):.3f}."
    )


# WeightLoRA


def _fewer_and_as_good(bench: Bench) -> list[Draft]:
    judgement, drafts = bench.study.judgement, []
    for setting in bench.study.tasks.settings:
        for lora in bench.study.at(setting, "lora")[:1]:
            for ours in bench.study.at(setting, "weight_lora"):
                title, runs = bench.title(setting, ours), (ours.name, lora.name)
                share, text = _parameters(ours, lora)
                if share > judgement.fewer_parameters.share:
                    few = "more than half of LoRA's adapter parameters"
                    drafts.append(Draft(title, (), runs, f"{text}, {few}", "", few, "not_tested"))
                    continue
                metric = ours.metrics.primary if ours.metrics else ""
                if metric not in judgement.measures:
                    reason = f"no margin is set for {metric}" if metric else "no scores yet"
                    drafts.append(Draft(title, (), runs, text, "", reason, "not_tested"))
                    continue
                margin = judgement.measures[metric].keeps_within
                drafts.append(compare_runs(bench, title, "WeightLoRA minus LoRA", ours, lora, -margin, text))
    return drafts


def _counted(bench: Bench) -> tuple[str, ...]:
    counted = bench.published.authors.facts.counted
    whole, head = counted.all.number, counted.head.number
    return tuple(
        f"DeBERTaV3-base, r={counted.rank}, K={keep} of {counted.adapters}: {int(figure.number):,} adapter parameters "
        f"against {int(whole):,}, {percent(reduction(figure.number, whole))} fewer; with the task head ({int(head):,}) "
        f"{percent(reduction(figure.number + head, whole + head))} fewer."
        for keep, figure in counted.kept.items()
    )


def _plus_is_best(bench: Bench) -> list[Draft]:
    drafts = []
    for setting in bench.study.tasks.settings:
        rivals = [*bench.study.at(setting, "lora")[:1], *bench.study.at(setting, "weight_lora")]
        for plus in bench.study.at(setting, "weight_lora_plus"):
            if len(rivals) < 2:
                continue
            parts = []
            for rival in rivals:
                keep = keep_of(rival)
                against = "minus LoRA" if keep is None else f"minus WeightLoRA K={keep}"
                parts.append(compare_runs(bench, bench.title(setting), against, plus, rival))
            drafts.append(_joined(parts))
    return drafts


def _better_than_random(bench: Bench) -> list[Draft]:
    drafts = []
    for setting in bench.study.tasks.settings:
        controls = {keep_of(control): control for control in bench.study.at(setting, "random_lora")}
        for ours in bench.study.at(setting, "weight_lora"):
            control = controls.get(keep_of(ours))
            if control is not None:
                title = bench.title(setting, ours)
                drafts.append(compare_runs(bench, title, "WeightLoRA minus random", ours, control))
    return drafts


def _saves_memory(bench: Bench, claim: Claim, _: Sequence[Case]) -> Judged:
    memory, least_saving = bench.memory, bench.study.judgement.memory.share
    remainder = "That no intuition about layers is needed cannot be measured; claim 3's control is related."
    if memory is None:
        reason = f"Peak memory was not measured in the {bench.profile} profile. {remainder}"
        return Judged(claim, "not_tested", reason, profile=bench.profile)
    everything = memory.adapters or bench.adapters_of(memory.backbone)
    savings = {
        row.keep: reduction(row.phase2_peak_bytes, row.all_adapters_peak_bytes)
        for row in memory.rows
        if row.all_adapters_peak_bytes and (everything is None or row.keep < everything)
    }
    tokens = f"{memory.batch} x {memory.length} tokens per step"
    where = f"{backbone_name(memory.backbone)}, r={memory.rank or 'unknown'}, {tokens}"
    observed = tuple(
        f"{where}: K={row.keep}: phase-2 peak {row.phase2_peak_bytes / 1e6:,.0f} MB"
        + (f", {percent(savings[row.keep])} below all adapters" if row.keep in savings else "")
        + "."
        for row in memory.rows
    )
    if bench.never_tests or not savings:
        reason = bench.never_tests or "No peak with all adapters to compare."
        return Judged(claim, "not_tested", reason, observed, profile=bench.profile)
    enough = [saving >= least_saving for saving in savings.values()]
    none = [saving <= 0 for saving in savings.values()]
    verdict: Verdict = "supported" if all(enough) else "contradicted" if all(none) else "inconclusive"
    least, most = min(savings.values()), max(savings.values())
    reason = (
        f"{bench.profile} profile, {where}: phase-2 peaks lie {percent(least)} to {percent(most)} below the peak with "
        f"all adapters, for K of {', '.join(map(str, savings))}. One measurement per K, so no interval. {remainder}"
    )
    return Judged(claim, verdict, reason, observed, profile=bench.profile)


def _other_rank(ours: Experiment, other: Experiment) -> str | None:
    """LoRA, WeightLoRA and the random control must have the same rank; WeightLoRA+ raises its rank by design."""
    a, b = ours.record, other.record
    if a is None or b is None or not {a.method, b.method} <= {"lora", "weight_lora", "random_lora"}:
        return None
    ranks = a.method_config.get("rank"), b.method_config.get("rank")
    return None if ranks[0] == ranks[1] else f"unequal ranks: {ours.name} {ranks[0]}, {other.name} {ranks[1]}"


def _joined(parts: Sequence[Draft]) -> Draft:
    """Better than both: every difference must be above zero, and one below zero contradicts."""
    untested = next((part for part in parts if part.verdict == "not_tested"), None)
    untested = untested or next((part for part in parts if part.untested), None)
    return Draft(
        parts[0].title,
        tuple(question for part in parts for question in part.questions),
        tuple(dict.fromkeys(run for part in parts for run in part.runs)),
        "; ".join(part.found for part in parts if part.found),
        "",
        untested.untested if untested else None,
        untested.verdict if untested else "inconclusive",
        "WeightLoRA+ ",
    )


def _over_tasks(bench: Bench, claim: Claim, cases: Sequence[Case]) -> Judged:
    """The cases of one claim together, by the rule of `together`."""
    counted = _counted(bench) if claim.key == "fewer_and_as_good" else ()
    runs = tuple(dict.fromkeys(run for case in cases for run in case.runs))
    evidence = tuple(case.text for case in cases), counted, runs, tuple(cases), bench.profile
    if bench.never_tests:
        return Judged(claim, "not_tested", bench.never_tests, *evidence)
    verdict = together(cases, bench.study.judgement.almost_all.share)
    tested = [case for case in cases if case.untested is None]
    rest = [f"{case.title} ({case.untested})" for case in cases if case.untested is not None]
    without_test = f" Without a test: {'; '.join(rest)}." if rest else ""
    if not tested:
        reason = f"The {bench.profile} profile has no pair of runs that tests this claim.{without_test}"
        return Judged(claim, verdict, reason, *evidence)
    if waiting := _unfinished(bench, claim):
        return Judged(claim, "not_tested", f"{waiting}{without_test}", *evidence)
    verdicts = Counter(case.verdict for case in tested)
    counts = listed([f"{verdicts[name]} {name}" for name in ("supported", "contradicted", "inconclusive")])
    effects = [effect for case in tested for effect in case.effects]
    reason = (
        f"{bench.profile} profile, {len(tested)} tested {'case' if len(tested) == 1 else 'cases'}: {counts}; "
        f"differences {signed(min(effects))} to {signed(max(effects))}.{without_test}"
    )
    if why := bench.published.authors.facts.why_not_comparable(bench.profile):
        reason += f" This says nothing about the paper's own figures: {_lowered(why)}"
    return Judged(claim, verdict, reason, *evidence)


def _unfinished(bench: Bench, claim: Claim) -> str | None:
    """Why a claim is not judged yet: the grid fixed for it (`judgement.yaml`) has started and is not complete.

    A verdict only on the tasks that ran first would answer a different question.
    """
    settings, methods = bench.study.judgement.planned_for(bench.profile, claim.id)
    if not set(settings) & set(bench.study.settings):
        return None

    def has_run(setting: Setting, method: str) -> bool:
        return any(set(settings[setting]) <= set(run.seeds) for run in bench.study.at(setting, method))

    done = [setting for setting in settings if all(has_run(setting, method) for method in methods)]
    if len(done) == len(settings):
        return None
    names = listed([bench.title(setting) for setting in done]) if done else "none"
    return (
        f"Not judged yet: the {bench.profile} profile's grid tests it on {len(settings)} tasks, of which "
        f"{len(done)} ran with every method and seed ({names}). The cases so far are shown separately."
    )


def _parameters(ours: Experiment, lora: Experiment) -> tuple[float, str]:
    """Share of LoRA's adapter parameters, and its description."""
    a, b = ours.record, lora.record
    if a is None or b is None or not b.counts.adapter:
        return 1.0, "parameters unknown"
    share, whole = a.counts.adapter / b.counts.adapter, a.counts.trainable / max(1, b.counts.trainable)
    return share, f"with {percent(share)} of LoRA's adapter parameters ({percent(whole)} with the task head)"


DRAFTERS: dict[str, Callable[[Bench], list[Draft]]] = {
    "outperforms_lora": _solo_against_lora,
    "fewer_and_as_good": _fewer_and_as_good,
    "plus_is_best": _plus_is_best,
    "better_than_random": _better_than_random,
}
"""Claim -> its comparisons of two runs, before the family is known. The other claims are counted or measured."""
JUDGES: dict[str, Callable[[Bench, Claim, Sequence[Case]], Judged]] = {
    "outperforms_lora": _outperforms_lora,
    "fewer_than_lora": _fewer_than_lora,
    "fewer_than_full": _fewer_than_full,
    "smooth_and_stable": _smooth_and_stable,
    "fewer_and_as_good": _over_tasks,
    "plus_is_best": _over_tasks,
    "better_than_random": _over_tasks,
    "saves_memory": _saves_memory,
}


def _backbones(bench: Bench, cases: Sequence[Case]) -> list[str]:
    return [_name(experiment) for experiment in _experiments(bench, cases)]


def _experiments(bench: Bench, cases: Sequence[Case]) -> list[Experiment]:
    runs = {run for case in cases for run in case.runs}
    return [experiment for experiment in bench.study.experiments if experiment.name in runs]


def _name(experiment: Experiment) -> str:
    return backbone_name(experiment.record.backbone) if experiment.record else "this backbone"


def _backbone(experiment: Experiment) -> str:
    return experiment.record.backbone if experiment.record else ""


def _lowered(sentence: str) -> str:
    return f"{sentence[0].lower()}{sentence[1:]}"
