"""What the runs of one profile say about the claims of both papers, case by case.

A case is one claim in one place (a backbone, a task, a K or a reading); what decides it is the rule of `decision.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.judge.decision import LEAST_SEEDS, Difference, Finding, Question, Word, decide, undecided
from analysis.judge.number_format import difference_text, finding_text, format_score, listed, percent, signed, span
from analysis.judge.study import (
    TaskStudy,
    base_parameters,
    generation_difference,
    is_reading,
    keep_of,
    place_title,
    reference_lora,
    unequal,
)
from analysis.load.authors import Authors
from analysis.load.names import BACKBONE_NAMES, METRIC_NAMES, backbone_name
from analysis.load.paper_files import printed_count
from analysis.load.published import Claim, Claims, Tolerances, reduction
from analysis.load.runs import Experiment, experiment_labels, of_generation
from analysis.load.searches import Memory
from analysis.stats.seeds import largest_rise, smooth, summarise_seeds, t_interval
from replication.fileio import read_json


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


SMOOTHING_WINDOW = 10  # logged values
RANK, SKIP_LENGTHS = 120, (2, 6)  # the reading that fits the printed 0.26M, and the one that fits 59 %
TESTED = "cpu"  # no profile of the paper's, but large enough to ask which of two methods is better on its own data
NEVER_TESTS = {"quick": "The quick profile never tests a claim: its models and corpora are toys."}


@dataclass(frozen=True)
class Study:
    """The experiments of one profile with the files they are judged by."""

    experiments: tuple[Experiment, ...]
    claims: Claims
    tolerances: Tolerances

    @property
    def profile(self) -> str:
        """The experiments' profile."""
        return self.experiments[0].profile if self.experiments else ""

    @property
    def why_not(self) -> str | None:
        """Why this profile is never set against a printed cell; None when it may be."""
        return self.tolerances.why_not_comparable(self.profile)

    @property
    def never_tests(self) -> str | None:
        """Why this profile tests no claim at all; None for the paper's and the cpu profile."""
        if self.profile == TESTED or self.why_not is None:
            return None
        return NEVER_TESTS.get(self.profile, self.why_not)

    @property
    def readings(self) -> list[tuple[Experiment, int]]:
        """Complete runs that stand for the method, with their skip length: every reading, on every backbone."""
        found = [
            (experiment, skip)
            for skip in SKIP_LENGTHS
            for experiment in self.solo()
            if experiment.status == "complete" and is_reading(experiment, RANK, skip)
        ]
        return sorted(found, key=lambda pair: (_backbone(pair[0]), pair[1]))

    def scope(self, backbones: list[str]) -> str:
        """What a verdict outside the paper's own setting speaks of."""
        if self.why_not is None:
            return ""
        where = " and ".join(dict.fromkeys(backbones)) or "this profile's backbone"
        return (
            f" This speaks of {where} and of this profile's part of the data alone, and of no printed cell: "
            f"{self.why_not[0].lower()}{self.why_not[1:]}"
        )

    def solo(self) -> list[Experiment]:
        """Experiments with Solo Connection that left a record."""
        return [e for e in self.experiments if e.record is not None and e.record.method == "solo_connection"]

    def lora_of(self, experiment: Experiment) -> Experiment | None:
        """The LoRA experiment on the same backbone and task."""
        if experiment.record is None:
            return None
        reference = reference_lora(self.experiments, experiment.record)
        return next((e for e in self.experiments if reference is not None and reference in e.records.values()), None)

    def reading(self, backbone: str, skip_length: int) -> Experiment | None:
        """The complete run of one reading of the method on one backbone."""
        return next((e for e, skip in self.readings if (_backbone(e), skip) == (backbone, skip_length)), None)

    def label(self, experiment: Experiment) -> str:
        """What tables call it."""
        return experiment_labels(self.experiments)[experiment.name]


def unequal_runs(first: Experiment, second: Experiment) -> str | None:
    """Why two generation runs must not be compared: other data, another budget, or decoded otherwise."""
    if reason := unequal(first, second):
        return reason
    decoded = [_decoding(experiment) for experiment in (first, second)]
    if None not in decoded and decoded[0] != decoded[1]:
        return f"{first.name} and {second.name} were decoded with other settings"
    return None


def mixed_conditions(experiments: Iterable[Experiment]) -> str:
    """A sentence about compared runs whose processors or builds differ; empty where they are alike."""
    places: dict[str, list[str]] = {}
    for experiment in experiments:
        for record in experiment.records.values():
            conditions = record.conditions
            where = f"{conditions.cpu}, {conditions.blas}, torch {conditions.torch_build}"
            places.setdefault(where, []).append(experiment.name)
    if len(places) < 2:
        return ""
    told = "; ".join(f"{where}: {', '.join(dict.fromkeys(names))}" for where, names in sorted(places.items()))
    return f" These runs were not all made on one kind of processor, and floats differ for that reason too ({told})."


def loss_rises(experiment: Experiment) -> dict[int, float]:
    """Seed -> largest rise of the smoothed training loss, nats per token; only seeds that were trained."""
    rises = {}
    for seed, curve in experiment.curves.items():
        losses = curve["loss"].dropna().to_numpy()
        if losses.size > SMOOTHING_WINDOW:
            rises[seed] = largest_rise(smooth(losses, SMOOTHING_WINDOW)[SMOOTHING_WINDOW - 1 :])
    return rises


def ablation(study: Study) -> tuple[Experiment, Experiment] | None:
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

    complete = [e for e in study.solo() if e.status == "complete" and e.record is not None]
    for without in complete:
        assert without.record is not None
        if without.record.method_config.get("homotopy_parameter", 0.1) is not None:
            continue
        for with_it in complete:
            assert with_it.record is not None
            if with_it.record.method_config.get("homotopy_parameter", 0.1) == 0.1 and rest(with_it) == rest(without):
                return with_it, without
    return None


def scores_against(study: Study, solo: Experiment, lora: Experiment) -> str:
    """BLEU of both, and their difference with its intervals, and seed by seed."""
    text = "; ".join(
        f"{METRIC_NAMES['BLEU']} of {study.label(e)} {format_score(summarise_seeds(values))}"
        for e in (solo, lora)
        if e.metrics and (values := e.metrics.values("BLEU"))
    )
    difference = generation_difference(solo, lora)
    if difference is None:
        return f"{text}."
    pairs = zip(difference.seeds, difference.by_seed, strict=True)
    each = ", ".join(f"{signed(value)} (seed {seed})" for seed, value in pairs)
    alone = f"; seed by seed {each}" if len(difference.seeds) > 1 else ""
    return f"{text}; difference {difference_text(difference)}{alone}."


def parameters_against(study: Study, solo: Experiment, lora: Experiment) -> str:
    """Adapter parameters of both."""
    assert solo.record is not None
    assert lora.record is not None
    ours, theirs = solo.record.counts.adapter, lora.record.counts.adapter
    return (
        f"{study.label(solo)}: {ours:,} adapter parameters against {theirs:,} of {study.label(lora)}, "
        f"{percent(reduction(ours, theirs))} fewer on this backbone."
    )


def parameters_against_full(study: Study, solo: Experiment) -> str:
    """Adapter parameters against what full fine-tuning would train."""
    assert solo.record is not None
    ours, whole = solo.record.counts.adapter, base_parameters(solo.record)
    return (
        f"{study.label(solo)}: {ours:,} adapter parameters against {whole:,} of the whole backbone, "
        f"{percent(reduction(ours, whole), 2)} fewer."
    )


def parameter_range(study: Study, solo: Experiment) -> str:
    """How far the homotopy parameters moved; empty where they were not logged."""
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
        f"{study.label(solo)}: homotopy parameters went from {start:g} to between {min(lasts):.3f} "
        f"and {max(lasts):.3f}."
    )


def _decoding(experiment: Experiment) -> object | None:
    path = experiment.directory / "predictions" / "decoding.json"
    content = read_json(path) if path.is_file() else None
    decoding = content.get("decoding") if isinstance(content, dict) else None
    if not isinstance(decoding, dict):
        return decoding
    return {name: value for name, value in decoding.items() if name != "references_scored"}  # not of the text


def _backbone(experiment: Experiment) -> str:
    return experiment.record.backbone if experiment.record else ""


CLAIMED_REDUCTION_FROM_LORA = 0.585  # 59 % after rounding
CLAIMED_REDUCTION_FROM_FULL = 0.99
RISE = "largest rise of the smoothed loss"


@dataclass(frozen=True)
class Verdict(Judged):
    """One claim of the Solo Connection paper in `claims.yaml`, judged."""


def judge(experiments: Sequence[Experiment], claims: Claims, tolerances: Tolerances) -> list[Verdict]:
    """One verdict per claim, in the claims' order, from one profile's `experiments`: its generation tasks alone."""
    study = Study(tuple(of_generation(experiments)), claims, tolerances)
    return [JUDGES[claim.key](study, claim) for claim in claims.claims]


def _outperforms_lora(study: Study, claim: Claim) -> Verdict:
    """The only claim with test items, so its cases alone are Holm's family."""
    observed, seen = [], []
    for solo in study.solo():
        lora = study.lora_of(solo)
        if lora is not None and solo.metrics and lora.metrics:
            observed.append(scores_against(study, solo, lora))
            seen += [solo.name, lora.name]
    evidence = tuple(observed), (), tuple(dict.fromkeys(seen))
    cases = settle(_bleu_drafts(study), tested=study.never_tests is None)
    if study.never_tests or not cases:
        reason = study.never_tests or (
            "LoRA and Solo Connection (r=120, k=2) on GPT-2 Medium are not both complete."
            if study.why_not is None
            else "LoRA and a reading of Solo Connection on one backbone are not both complete."
        )
        return Verdict(claim, "not_tested", reason, *evidence, tuple(cases), study.profile)
    word = _together([case.word for case in cases])
    reason = " ".join(case.text for case in cases) + study.scope(_backbones(study, cases))
    reason += mixed_conditions(_experiments(study, cases))
    if word == "inconclusive" and all(case.untested for case in cases):
        few = [case.untested for case in cases if case.untested and "seeds" in case.untested]
        reason += " A verdict needs three shared seeds on the same items." if few else ""
    return Verdict(claim, word, reason, *evidence, tuple(cases), study.profile)


def _bleu_drafts(study: Study) -> list[Draft]:
    """Solo minus LoRA on BLEU: the paper profile's one reading, elsewhere every reading on every backbone.

    A profile that tests nothing shows every complete run.
    """
    if study.never_tests:
        runs = [experiment for experiment in study.solo() if experiment.status == "complete"]
    elif study.why_not is None:
        chosen = study.reading("gpt2-medium", 2)
        runs = [chosen] if chosen else []
    else:
        runs = [experiment for experiment, _ in study.readings]
    drafts = []
    for solo in runs:
        lora = study.lora_of(solo)
        if lora is None or lora.status != "complete":
            continue
        title, names = study.label(solo), (solo.name, lora.name)
        what = "Solo Connection minus LoRA"
        difference = generation_difference(solo, lora)
        if reason := unequal_runs(solo, lora):
            drafts.append(Draft(title, (), names, f"{what} not compared, {reason}", "", reason, "not_tested"))
        elif difference is None:
            reason = "no shared seeds on the same items"
            drafts.append(Draft(title, (), names, f"{what} not compared, {reason}", "", reason))
        else:
            question = Question(what, difference)
            drafts.append(Draft(title, (question,), names, "", "", difference.why_undecidable))
    return drafts


def _fewer_than_lora(study: Study, claim: Claim) -> Verdict:
    counted = tuple(
        f"{BACKBONE_NAMES[shape.backbone]}, r={shape.solo_rank}, k={shape.skip_length}: {shape.solo:,} "
        f"against LoRA's {shape.lora:,}, {percent(reduction(shape.solo, shape.lora))} fewer by exact count and "
        f"{percent(reduction(shape.solo, printed_count(shape.lora_printed)))} fewer than the printed "
        f"{shape.lora_printed}."
        for shape in study.claims.counted
    )
    pairs = [
        (solo, lora) for solo in study.solo() if (lora := study.lora_of(solo)) is not None and lora.record is not None
    ]
    observed = tuple(parameters_against(study, solo, lora) for solo, lora in pairs)
    runs = tuple(dict.fromkeys(run.name for pair in pairs for run in pair))
    if study.profile == TESTED:
        return _fewer_elsewhere(study, claim, pairs, observed, counted)
    chosen = study.reading("gpt2-large", 6)
    lora = study.lora_of(chosen) if chosen else None
    if study.never_tests or chosen is None or lora is None or chosen.record is None or lora.record is None:
        reason = "No backbone of this profile has GPT-2 Large's shapes. There the claim is counted, not trained."
        return Verdict(claim, "not_tested", reason, observed, counted, runs, profile=study.profile)
    ours, theirs = chosen.record.counts.adapter, lora.record.counts.adapter
    printed = next(shape.lora_printed for shape in study.claims.counted if shape.backbone == "gpt2-large")
    exact, rounded = reduction(ours, theirs), reduction(ours, printed_count(printed))
    reason = f"{percent(exact)} fewer by exact count, {percent(rounded)} fewer than the printed {printed}."
    word: Word = "contradicted"
    if exact >= CLAIMED_REDUCTION_FROM_LORA:
        word = "supported"
    elif rounded >= CLAIMED_REDUCTION_FROM_LORA:
        word = "inconclusive"
    case = Case(study.label(chosen), word, reason.rstrip("."), "", (chosen.name, lora.name), (exact,))
    return Verdict(claim, word, reason, observed, counted, runs, (case,), study.profile)


def _fewer_elsewhere(
    study: Study,
    claim: Claim,
    pairs: Sequence[tuple[Experiment, Experiment]],
    observed: tuple[str, ...],
    counted: tuple[str, ...],
) -> Verdict:
    """The count on another backbone: its direction can be supported by 59 % or contradicted, the figure is GPT-2's."""
    readings = [experiment.name for experiment, _ in study.readings]
    cases = []
    for solo, lora in pairs:
        if solo.name not in readings or solo.record is None or lora.record is None:
            continue
        share = reduction(solo.record.counts.adapter, lora.record.counts.adapter)
        word: Word = "contradicted" if share <= 0 else "inconclusive"
        word = "supported" if share >= CLAIMED_REDUCTION_FROM_LORA else word
        found = f"{percent(share)} fewer than {study.label(lora)}"
        cases.append(Case(study.label(solo), word, found, word, (solo.name, lora.name), (share,)))
    runs = tuple(dict.fromkeys(run for case in cases for run in case.runs))
    if not cases:
        reason = "LoRA and a reading of Solo Connection on one backbone are not both complete."
        return Verdict(claim, "not_tested", reason, observed, counted, runs, profile=study.profile)
    word = _together([case.word for case in cases])
    reason = " ".join(case.text for case in cases)
    if word == "inconclusive":
        reason += " Fewer, but not by 59 %: that is a figure of GPT-2 Large's shapes, where it is counted."
    reason += study.scope(_backbones(study, cases))
    return Verdict(claim, word, reason, observed, counted, runs, tuple(cases), study.profile)


def _fewer_than_full(study: Study, claim: Claim) -> Verdict:
    counted = tuple(
        f"{BACKBONE_NAMES[shape.backbone]}, r={shape.solo_rank}, k={shape.skip_length}: {shape.solo:,} "
        f"against {shape.full:,}, {percent(reduction(shape.solo, shape.full), 2)} fewer."
        for shape in study.claims.counted
    )
    observed = tuple(parameters_against_full(study, solo) for solo in study.solo())
    evidence = observed, counted, tuple(solo.name for solo in study.solo())
    if study.profile == TESTED:
        chosen = [experiment for experiment, _ in study.readings]
    else:
        medium = study.reading("gpt2-medium", 2)
        chosen = [medium] if medium and not study.never_tests else []
    cases = []
    for solo in chosen:
        assert solo.record is not None
        share = reduction(solo.record.counts.adapter, base_parameters(solo.record))
        word: Word = "supported" if share > CLAIMED_REDUCTION_FROM_FULL else "contradicted"
        found = f"{percent(share, 2)} fewer than full fine-tuning on {_name(solo)}"
        cases.append(Case(study.label(solo), word, found, word, (solo.name,), (share,)))
    if not cases:
        reason = "No backbone of this profile has GPT-2 Medium's shapes; the share depends on the backbone's size."
        return Verdict(claim, "not_tested", reason, *evidence, profile=study.profile)
    reason = " ".join(case.text for case in cases) + study.scope(_backbones(study, cases))
    word = _together([case.word for case in cases])
    return Verdict(claim, word, reason, *evidence, tuple(cases), study.profile)


def _smooth_and_stable(study: Study, claim: Claim) -> Verdict:
    rises = {e.name: loss_rises(e) for e in study.experiments}
    observed = [
        f"{study.label(e)}: {RISE.replace('loss', 'training loss')} above its lowest value so far "
        f"{format_score(summarise_seeds(list(rises[e.name].values())))} nats per token."
        for e in study.experiments
        if rises[e.name]
    ]
    observed += [text for solo in study.solo() if (text := parameter_range(study, solo))]
    evidence = tuple(observed), (), tuple(e.name for e in study.experiments if rises[e.name])
    if study.never_tests:
        return Verdict(claim, "not_tested", study.never_tests, *evidence, profile=study.profile)
    pair = ablation(study)
    if pair is None:
        reason = "No run of Solo Connection without its homotopy parameter to compare with."
        return Verdict(claim, "not_tested", reason, *evidence, profile=study.profile)
    case = _rise_case(study, *pair, *(rises[experiment.name] for experiment in pair))
    reason = f"{case.text}{study.scope([_name(pair[0])])}{mixed_conditions(pair)}"
    return Verdict(claim, case.word, reason, *evidence, (case,), study.profile)


def _rise_case(
    study: Study, with_it: Experiment, without: Experiment, ours: dict[int, float], theirs: dict[int, float]
) -> Case:
    """A training loss has no test items: the interval over seeds decides alone, and smaller is better."""
    seeds = tuple(sorted(set(ours) & set(theirs)))
    title, names = study.label(with_it), (with_it.name, without.name)
    values = tuple(ours[seed] - theirs[seed] for seed in seeds)
    if not values:
        return Case(title, "inconclusive", "no shared seeds", "", names, untested="no shared seeds")
    over_seeds = t_interval(values) if len(values) >= LEAST_SEEDS else None
    difference = Difference(RISE, sum(values) / len(values), seeds, None, over_seeds, values)
    word: Word = "inconclusive"
    if over_seeds is not None and over_seeds.high < 0:
        word = "supported"
    elif over_seeds is not None and over_seeds.low > 0:
        word = "contradicted"
    few = None if over_seeds is not None else f"only {len(seeds)} shared seeds; three are needed"
    smaller = sum(value < 0 for value in values)
    found = f"with minus without its homotopy parameter, {RISE} {signed(difference.effect)} nats per token ("
    found += f"95 % over {len(seeds)} seeds {span(over_seeds)}, " if over_seeds is not None else ""
    found += f"smaller on {smaller} of {len(seeds)} seeds)"
    finding = Finding(Question("with minus without homotopy parameter", difference), word, few)
    ending = f"{word}: {few}" if few else word
    return Case(title, word, found, ending, names, (difference.effect,), few, (finding,))


JUDGES: dict[str, Callable[[Study, Claim], Verdict]] = {
    "outperforms_lora": _outperforms_lora,
    "fewer_than_lora": _fewer_than_lora,
    "fewer_than_full": _fewer_than_full,
    "smooth_and_stable": _smooth_and_stable,
}


def _together(words: Sequence[Word]) -> Word:
    """A claim over several cases: all must agree, and what was not comparable tests nothing."""
    if all(word == "not_tested" for word in words):
        return "not_tested"
    found = {word for word in words if word != "not_tested"}
    return found.pop() if len(found) == 1 else "inconclusive"


def _backbones(study: Study, cases: Sequence[Case]) -> list[str]:
    return [_name(experiment) for experiment in _experiments(study, cases)]


def _experiments(study: Study, cases: Sequence[Case]) -> list[Experiment]:
    runs = {run for case in cases for run in case.runs}
    return [experiment for experiment in study.experiments if experiment.name in runs]


def _name(experiment: Experiment) -> str:
    return backbone_name(experiment.record.backbone) if experiment.record else "this backbone"


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
