"""The claims of the Solo Connection paper: better than LoRA, fewer parameters, smooth training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy.typing as npt

from analysis.judge.bench import (
    Bench,
    Case,
    Draft,
    Judged,
    compare_runs,
    joined_verdict,
    settle,
    shown_backbone,
)
from analysis.judge.comparable import base_parameters
from analysis.judge.decision import Difference, Question, Verdict, verdict_text
from analysis.judge.number_format import difference_text, format_score, percent, signed
from analysis.load.names import BACKBONE_NAMES, score_name
from analysis.load.paper_files import published_count
from analysis.load.published import Claim, CountedShape, reduction
from analysis.load.runs import Experiment
from analysis.stats.seeds import summarise_seeds
from analysis.stats.smoothness import EARLIER_WINDOW, MEASURES, WINDOWS, smoothed_rise

CLAIMED_REDUCTION_FROM_LORA = 0.585  # 59 % after rounding
CLAIMED_REDUCTION_FROM_FULL = 0.99
EARLIER_MEASURE = "largest rise of the smoothed loss"
SECOND_OUTCOME = "reference_loss"  # no decoding noise (judgement.yaml)
HOLDS, FAILS = "holds", "does not hold"


def outperforms_lora(bench: Bench, claim: Claim) -> Judged:
    """Claim 1. Primary: the reading of Table 1 (r=120, k=2); the other reading is secondary."""
    pairs = [(solo, lora) for solo in bench.solo if (lora := bench.lora_of(solo)) is not None]
    scored = [(solo, lora) for solo, lora in pairs if solo.metrics and lora.metrics]
    published = published_difference(bench, "solo_connection", "lora", "BLEU")
    primary, secondary = _against_lora(bench, claim, published)
    waiting = bench.unfinished(claim)
    cases = tuple(settle(primary, secondary, tested=bench.never_tests is None and waiting is None))
    judged = Judged(
        claim,
        "not_tested",
        "",
        tuple(scores_against(bench, solo, lora) for solo, lora in scored),
        (),
        tuple(dict.fromkeys(run.name for pair in scored for run in pair)),
        cases,
        bench.profile,
        published=f"{published:+.4f} BLEU (Table 1, one figure each)" if published is not None else "",
        published_value=published,
        unit="" if bench.never_tests else "BLEU (r=120, k=2)",
    )
    if bench.never_tests:
        return replace(judged, reason=bench.never_tests)
    if waiting:
        return replace(judged, reason=waiting.sentence, waiting=waiting.brief)
    if not primary:
        where = "on GPT-2 Medium" if bench.why_not is None else "on one backbone"
        return replace(judged, reason=f"LoRA and Solo Connection (r=120, k=2) {where} are not both complete.")
    reason = " ".join(case.text for case in cases)
    reason += bench.scope([backbone_of_run(bench, run) for case in cases for run in case.runs])
    return replace(judged, verdict=joined_verdict(cases), reason=reason)


def _against_lora(bench: Bench, claim: Claim, published: float | None) -> tuple[list[Draft], list[Draft]]:
    """Solo minus LoRA: the primary reading and the others; a profile that tests no claim shows every complete run."""
    if bench.never_tests:
        chosen = [experiment for experiment in bench.solo if experiment.status == "complete"]
    else:
        chosen = bench.chosen("gpt2-medium", 2)
    planned = bench.planned(claim)
    primary: list[Draft] = []
    secondary: list[Draft] = []
    for solo in chosen:
        lora = bench.lora_of(solo)
        if lora is None or lora.status != "complete" or solo.record is None:
            continue
        target = published if published is not None and published > 0 else None
        what = "Solo Connection minus LoRA"
        draft = compare_runs(bench, bench.label(solo), what, solo, lora, target=target, metric="BLEU")
        here = planned is None or (solo.record.backbone, solo.record.task) in planned
        first = here and solo.record.method_config.get("skip_length") == 2
        (primary if first else secondary).append(draft)
    return primary, secondary


def published_difference(bench: Bench, first: str, second: str, metric: str) -> float | None:
    """Difference of two methods' scores in Solo Connection's Table 1, on the scripts' scale; None if unreadable."""
    table = next((table for table in bench.published.tables if table.id == "solo_connection"), None)
    if table is None:
        return None
    rows = {row.method: row for row in table.rows if row.backbone == "gpt2-medium"}
    if first not in rows or second not in rows:
        return None
    values = [table.value(rows[method], metric) for method in (first, second)]
    return None if values[0] is None or values[1] is None else values[0] - values[1]


def fewer_than_lora(bench: Bench, claim: Claim) -> Judged:
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
        (solo, lora) for solo in bench.solo if (lora := bench.lora_of(solo)) is not None and lora.record is not None
    ]
    observed = tuple(parameters_against(bench, solo, lora) for solo, lora in pairs)
    runs = tuple(dict.fromkeys(run.name for pair in pairs for run in pair))
    chosen = [] if bench.never_tests else [pair for pair in pairs if pair[0] in bench.chosen("gpt2-large", 6)]
    judged = Judged(
        claim, "not_tested", "", observed, counted, runs, profile=bench.profile, published="59 % fewer",
        unit="fewer here", brief=_at_large(shapes),
    )  # fmt: skip
    if not chosen:
        reason = "No backbone of this profile has GPT-2 Large's shapes. For those the claim is counted, not trained."
        if bench.why_not is not None and not bench.never_tests:
            reason = "LoRA and a reading of Solo Connection on one backbone are not both complete."
            judged = replace(judged, runs=())
        return replace(judged, reason=reason)
    published_lora = next(shape.lora_printed for shape in shapes if shape.backbone == "gpt2-large")
    cases = tuple(_count_case(bench, solo, lora, published_lora) for solo, lora in chosen)
    outcomes = {case.ending for case in cases}
    outcome = outcomes.pop() if len(outcomes) == 1 else "differs by reading"
    judged = replace(judged, verdict="counted", outcome=outcome, cases=cases)
    if bench.why_not is None:
        return replace(judged, reason=f"{cases[0].found}.")
    reason = " ".join(case.text for case in cases)
    if outcome == FEWER:
        reason += " The figure of 59 % is for GPT-2 Large's shapes, where it is counted."
    reason += bench.scope([backbone_of_run(bench, run) for case in cases for run in case.runs])
    return replace(judged, reason=reason, runs=tuple(dict.fromkeys(run for case in cases for run in case.runs)))


def _at_large(shapes: Sequence[CountedShape]) -> str:
    """The count on the shapes that the claim's figure is for."""
    large = [shape for shape in shapes if shape.backbone == "gpt2-large"]
    return "".join(
        f"on GPT-2 Large's shapes (k={shape.skip_length}) {percent(reduction(shape.solo, shape.lora))} by exact count, "
        f"{percent(reduction(shape.solo, published_count(shape.lora_printed)))} against the published "
        f"{shape.lora_printed}"
        for shape in large[:1]
    )


FEWER = "fewer, but not by 59 %"
ROUNDED = "holds only against the rounded figure"


def _count_case(bench: Bench, solo: Experiment, lora: Experiment, published: str) -> Case:
    """59 % fewer is the figure for GPT-2 Large; elsewhere only its direction can fail."""
    assert solo.record is not None
    assert lora.record is not None
    ours, theirs = solo.record.counts.adapter, lora.record.counts.adapter
    exact, names = reduction(ours, theirs), (solo.name, lora.name)
    if bench.why_not is not None:
        outcome = HOLDS if exact >= CLAIMED_REDUCTION_FROM_LORA else FEWER if exact > 0 else FAILS
        found = f"{percent(exact)} fewer than {bench.label(lora)}"
        return Case(bench.label(solo), "counted", found, outcome, names, (exact,))
    rounded = reduction(ours, published_count(published))
    outcome = HOLDS if exact >= CLAIMED_REDUCTION_FROM_LORA else ROUNDED
    outcome = FAILS if max(exact, rounded) < CLAIMED_REDUCTION_FROM_LORA else outcome
    found = f"{percent(exact)} fewer by exact count, {percent(rounded)} fewer than the published {published}"
    return Case(bench.label(solo), "counted", found, outcome, names, (exact,))


def fewer_than_full(bench: Bench, claim: Claim) -> Judged:
    """Claim 3, counted: adapter parameters against all of the backbone's."""
    counted = tuple(
        f"{BACKBONE_NAMES[shape.backbone]}, r={shape.solo_rank}, k={shape.skip_length}: {shape.solo:,} "
        f"against {shape.full:,}, {percent(reduction(shape.solo, shape.full), 2)} fewer."
        for shape in bench.published.claims.counted
    )
    observed = tuple(parameters_against_full(bench, solo) for solo in bench.solo)
    judged = Judged(
        claim, "not_tested", "", observed, counted, tuple(solo.name for solo in bench.solo), profile=bench.profile,
        published="more than 99 % fewer", unit="fewer here",
        brief="; ".join(
            f"{percent(reduction(shape.solo, shape.full), 2)} on {BACKBONE_NAMES[shape.backbone]}'s shapes"
            for shape in bench.published.claims.counted
        ),
    )  # fmt: skip
    cases = []
    for solo in [] if bench.never_tests else bench.chosen("gpt2-medium", 2):
        assert solo.record is not None
        share = reduction(solo.record.counts.adapter, base_parameters(solo.record))
        outcome = HOLDS if share > CLAIMED_REDUCTION_FROM_FULL else FAILS
        found = f"{percent(share, 2)} fewer than full fine-tuning on {shown_backbone(solo)}"
        cases.append(Case(bench.label(solo), "counted", found, outcome, (solo.name,), (share,)))
    if not cases:
        reason = "No backbone of this profile has GPT-2 Medium's shapes; the share depends on the backbone's size."
        return replace(judged, reason=reason)
    outcomes = {case.ending for case in cases}
    reason = " ".join(case.text for case in cases)
    reason += bench.scope([backbone_of_run(bench, run) for case in cases for run in case.runs])
    outcome = outcomes.pop() if len(outcomes) == 1 else "differs by reading"
    return replace(judged, verdict="counted", outcome=outcome, reason=reason, cases=tuple(cases))


def smooth_and_stable(bench: Bench, claim: Claim) -> Judged:
    """Claim 4. The first measure of judgement.yaml decides, unless an equally good one says the opposite, or says
    something where it says nothing: then the verdict depends on the analysis."""
    observed = [text for solo in bench.solo if (text := parameter_range(bench, solo))]
    pair = ablation(bench)
    runs = tuple(experiment.name for experiment in pair or bench.solo)
    judged = Judged(
        claim, "not_tested", "", tuple(observed), (), runs, profile=bench.profile,
        unit="nats farther from steady descent without it",
    )  # fmt: skip
    if bench.never_tests or pair is None:
        reason = bench.never_tests or "No run of Solo Connection without its homotopy parameter enters a verdict."
        return replace(judged, reason=reason)
    differences = smoothness_differences(bench, *pair)
    if not differences:
        return replace(judged, reason="The runs with and without the homotopy parameter share no seed.")
    cases = _smoothness_cases(differences, runs)
    verdict = _over_analyses(cases)
    kinds = [f"{case.title} {verdict_text(case.verdict)}" for case in cases[1:]]
    reason = f"{cases[0].text} Other analyses: {'; '.join(kinds)}.{bench.scope([shown_backbone(pair[0])])}"
    return replace(judged, verdict=verdict, reason=reason, cases=tuple(cases))


def _smoothness_cases(differences: Sequence[Difference], runs: tuple[str, ...]) -> list[Case]:
    """One case a measure, each decided alone: they are analyses of the same runs, not tests beside each other."""
    drafts = [
        Draft(
            difference.metric,
            Question("without minus with homotopy parameter", difference),
            runs,
            untested=difference.why_undecidable,
            verdict="confounded" if difference.confounded else "cannot_tell",
        )
        for difference in differences
    ]
    first, *others = (settle([draft], [], tested=True)[0] for draft in drafts)
    return [first, *(replace(case, role="secondary") for case in others)]


def _over_analyses(cases: Sequence[Case]) -> Verdict:
    first, others = cases[0].verdict, {case.verdict for case in cases[1:]}
    opposite: dict[Verdict, set[Verdict]] = {
        "supported": {"contradicted"}, "contradicted": {"supported"}, "cannot_tell": {"supported", "contradicted"}
    }  # fmt: skip
    return "depends_on_analysis" if opposite.get(first, set()) & others else first


def smoothness_differences(bench: Bench, with_it: Experiment, without: Experiment) -> list[Difference]:
    """Without minus with the homotopy parameter, seed by seed, above zero where it makes training smoother: every
    measure, the deciding one first, then the earlier one with every window."""
    wanted = [name for name in bench.study.judgement.smoothness.measures if name in MEASURES]
    measured: list[tuple[str, str, Callable[[npt.ArrayLike], float]]] = []
    measured += [(name.replace("_", " "), *MEASURES[name]) for name in wanted]
    for window in sorted(WINDOWS, key=lambda window: (window != EARLIER_WINDOW, window)):
        measured.append((f"{EARLIER_MEASURE}, window {window}", "loss", partial(smoothed_rise, window=window)))
    found = []
    for title, column, measure in measured:
        scores = [_by_seed(experiment, column, measure) for experiment in (without, with_it)]
        shared = bench.study.in_plan(with_it, sorted(set(scores[0]) & set(scores[1])))
        used, mixed, confounded = bench.study.comparable_seeds(without, with_it, shared)
        if used:
            values = tuple(scores[0][seed] - scores[1][seed] for seed in used)
            found.append(
                Difference(title, used, values, without_items=True, dropped=mixed, confounded=confounded,
                           test=bench.study.analysis.test)
            )  # fmt: skip
    return found


def _by_seed(experiment: Experiment, column: str, measure: Callable[[npt.ArrayLike], float]) -> dict[int, float]:
    """Seed -> the measure of its curve; only seeds with a defined value."""
    values = {}
    for seed, curve in experiment.curves.items():
        logged = curve[column].dropna().to_numpy()
        if logged.size > max(WINDOWS) or (column != "loss" and logged.size > 1):
            value = measure(logged)
            if math.isfinite(value):
                values[seed] = value
    return values


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

    complete = sorted((e for e in bench.solo if e.status == "complete"), key=lambda e: e.name)
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
    """BLEU of both, and their difference with its interval, and seed by seed; the second outcome where both have it."""
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
    second = bench.study.difference(solo, lora, SECOND_OUTCOME)
    loss = f" Second outcome, lower is better: {difference_text(second)}." if second is not None else ""
    return f"{text}; difference {difference_text(difference)}{by_seed}.{loss}"


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
    low, high = (f"{end:.3f}".replace("-", "−") for end in (min(lasts), max(lasts)))
    return f"{bench.label(solo)}: homotopy parameters went from {start:g} to between {low} and {high}."


def backbone_of_run(bench: Bench, run: str) -> str:
    """The display name of a run's backbone."""
    found = bench.study.named(run)
    return shown_backbone(found) if found is not None else "this backbone"


JUDGES: dict[str, Callable[[Bench, Claim], Judged]] = {
    "outperforms_lora": outperforms_lora,
    "fewer_than_lora": fewer_than_lora,
    "fewer_than_full": fewer_than_full,
    "smooth_and_stable": smooth_and_stable,
}
