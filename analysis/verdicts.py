"""What the runs of one profile say about the Solo Connection paper's claims, by rules fixed in `paper_results/`.

The paper profile is judged on the paper's own backbones. The cpu profile is judged too, on its own backbone and part of
the data, reading by reading (`solo_study.SKIP_LENGTHS`), and says that it speaks of nothing else; its absolute values
are never set against a printed cell (`cells.py`). The quick profile, and any other, gets `not_tested` with what was
observed in it. Counts at the papers' own shapes need no training and stand in every profile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.cases import Case, Draft, Judged, settle
from analysis.counted import reduction
from analysis.decision import LEAST_SEEDS, Difference, Finding, Question, Word
from analysis.labels import backbone_name
from analysis.published import Claim, Claims, Tolerances, printed_count
from analysis.records import Experiment, of_generation
from analysis.results import BACKBONE_NAMES, base_parameters, generation_difference
from analysis.solo_study import (
    TESTED,
    Study,
    ablation,
    loss_rises,
    mixed_conditions,
    parameter_range,
    parameters_against,
    parameters_against_full,
    scores_against,
    unequal_runs,
)
from analysis.statistics import summarise_seeds, t_interval
from analysis.tables import format_score
from analysis.wording import percent, signed, span

__all__ = ["Case", "Study", "Verdict", "Word", "judge", "loss_rises"]
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
