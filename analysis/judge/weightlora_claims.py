"""The claims of the WeightLoRA paper: as good with fewer parameters, WeightLoRA+ best, better than random, less memory.

A claim over tasks is decided by the difference pooled over the learned tasks, one test for each rival, backbone and K;
the single tasks are secondary, and so is, where a grid names the tasks, a K that did not run on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median

from analysis.judge.bench import (
    Bench,
    Case,
    Draft,
    Judged,
    compare_runs,
    joined_verdict,
    lowered,
    pooled_draft,
    settle,
)
from analysis.judge.comparable import Setting, keep_of, preset_of, setting_of
from analysis.judge.decision import Verdict
from analysis.judge.number_format import format_ratios, listed, percent, signed
from analysis.load.names import backbone_name, score_name
from analysis.load.published import Claim, reduction
from analysis.load.runs import Experiment
from analysis.load.searches import Memory

UNREADABLE = "no table of the paper could be read"
Group = tuple[str, str, str]  # backbone, variant (K, preset), what is compared


def fewer_and_as_good(bench: Bench, claim: Claim) -> Judged:
    """Claim 1: WeightLoRA minus LoRA is not worse than by the margin, with at most half of the adapter parameters."""
    most, drafts = bench.study.judgement.fewer_parameters.share, []
    for setting, lora, ours in _pairs(bench, "lora", "weight_lora"):
        title, (share, text) = bench.title(setting, ours), parameters_kept(ours, lora)
        if share > most:
            few = "more than half of LoRA's adapter parameters"
            drafts.append(
                (setting, ours, Draft(title, None, (ours.name, lora.name), f"{text}, {few}", "", few, "not_tested"))
            )
            continue
        what = "WeightLoRA minus LoRA"
        drafts.append((setting, ours, compare_runs(bench, title, what, ours, lora, keeps=True, found=text)))
    return _over_tasks(bench, claim, drafts, keeps=True)


def plus_is_best(bench: Bench, claim: Claim) -> Judged:
    """Claim 2: WeightLoRA+ minus LoRA and minus every WeightLoRA run, in almost all tasks."""
    drafts = []
    for setting in bench.study.settings:
        loras, weighted = bench.study.at(setting, "lora")[:1], bench.study.at(setting, "weight_lora")
        for plus in bench.study.at(setting, "weight_lora_plus") if loras and weighted else []:
            for rival in (*loras, *weighted):
                keep = keep_of(rival)
                against = "LoRA" if keep is None else f"WeightLoRA K={keep}"
                what = f"WeightLoRA+ minus {against}"
                drafts.append((setting, plus, compare_runs(bench, bench.title(setting), what, plus, rival)))
    return _over_tasks(bench, claim, drafts, almost_all=bench.study.judgement.almost_all.share)


def better_than_random(bench: Bench, claim: Claim) -> Judged:
    """Claim 3: WeightLoRA minus the random control with the same K."""
    drafts = [
        (setting, ours, compare_runs(bench, bench.title(setting, ours), "WeightLoRA minus random", ours, control))
        for setting, control, ours in _pairs(bench, "random_lora", "weight_lora")
        if keep_of(control) == keep_of(ours)
    ]
    return replace(_over_tasks(bench, claim, drafts), draws=tuple(_among_draws(bench)))


def _among_draws(bench: Bench) -> Iterator[str]:
    """Where WeightLoRA's score lies among repeated draws of the same K adapters, all of one training seed."""
    for draws in bench.study.draws:
        record, metrics, setting = draws.record, draws.metrics, setting_of(draws)
        for ours in bench.study.at(setting, "weight_lora"):
            seed = record.training_seed if record else None
            if (
                metrics is None
                or ours.metrics is None
                or seed not in ours.metrics.seeds
                or keep_of(ours) != keep_of(draws)
            ):
                continue
            found = [score for seeds in metrics.seeds.values() if (score := seeds[metrics.primary]) is not None]
            score = ours.metrics.seeds[seed].get(metrics.primary)
            if score is None or not found:
                continue
            below, ties = sum(one < score for one in found), sum(one == score for one in found)
            yield (
                f"{bench.title(setting, ours)}, seed {seed} alone: WeightLoRA's {score_name(metrics.primary)} "
                f"of {score:.3f} lies above {below} of {len(found)} random draws"
                + (f" and equals {ties}" if ties else "")
                + f" ({min(found):.3f} to {max(found):.3f}, median {median(found):.3f}): percentile "
                f"{100 * (below + ties / 2) / len(found):.0f}. This is no part of the test."
            )


def _pairs(bench: Bench, rival: str, method: str) -> Iterable[tuple[Setting, Experiment, Experiment]]:
    """Every setting with its rival runs (of LoRA the first) and the method's."""
    for setting in bench.study.settings:
        others = bench.study.at(setting, rival)
        for other in others[:1] if rival == "lora" else others:
            for ours in bench.study.at(setting, method):
                yield setting, other, ours


def _over_tasks(
    bench: Bench,
    claim: Claim,
    drafts: Sequence[tuple[Setting, Experiment, Draft]],
    *,
    keeps: bool = False,
    almost_all: float | None = None,
) -> Judged:
    """The verdict by the pooled comparisons of the planned settings (without a plan, of all)."""
    groups, broken = _groups(bench, claim, drafts)
    primary = [
        pooled
        for (backbone, variant, what), members in groups.items()
        if (pooled := pooled_draft(bench, _pooled_title(backbone, variant, members), what, members, keeps=keeps))
    ] + broken
    secondary = [draft for _, _, draft in drafts if all(draft is not one for one in primary)]
    waiting = bench.unfinished(claim)
    cases = settle(primary, secondary, tested=bench.never_tests is None and waiting is None)
    judged = Judged(
        claim, "not_tested", "", tuple(case.text for case in cases),
        _counted(bench) if claim.key == "fewer_and_as_good" else (),
        tuple(dict.fromkeys(run for case in cases for run in case.runs)), tuple(cases), bench.profile,
        published=UNREADABLE,
    )  # fmt: skip
    if bench.never_tests:
        return replace(judged, reason=bench.never_tests)
    rest = [f"{case.title} ({case.untested})" for case in cases if case.role == "secondary" and case.untested]
    without_test = f" Without a test: {'; '.join(rest)}." if rest else ""
    if waiting:
        reason = waiting.sentence + without_test
        return replace(judged, reason=reason, waiting=waiting.brief, brief=_mostly(judged, groups))
    if not primary:
        reason = f"The {bench.profile} profile has no pair of runs that tests this claim.{without_test}"
        kinds: tuple[Verdict, ...] = ("confounded", "cannot_tell")
        undecided: Verdict = next((kind for kind in kinds if any(case.verdict == kind for case in cases)), "not_tested")
        return replace(judged, verdict=undecided, reason=reason)
    verdict, leads = joined_verdict(cases), ""
    if almost_all is not None:
        pooled_tasks = {draft.title for members in groups.values() for draft in members}
        verdict, leads = _almost_all(verdict, cases, pooled_tasks, almost_all)
    reason = " ".join(case.text for case in cases if case.role == "primary") + leads + _singles(cases) + without_test
    if why := bench.published.authors.facts.why_not_comparable(bench.profile):
        reason += f" This says nothing about the paper's own figures: {lowered(why)}"
    return replace(judged, verdict=verdict, reason=reason)


def _groups(
    bench: Bench, claim: Claim, drafts: Sequence[tuple[Setting, Experiment, Draft]]
) -> tuple[dict[Group, list[Draft]], list[Draft]]:
    """What is pooled: of the learned tasks, the drafts of one backbone, variant and rival.

    Where a grid names the tasks, a variant without some of them is not pooled; if that leaves none for a rival, a draft
    in its place says so.
    """
    planned, unlearned = bench.planned(claim), {setting for setting, _, draft in drafts if draft.gated}
    found: dict[Group, list[Draft]] = {}
    tasks: dict[Group, set[Setting]] = {}
    for setting, ours, draft in drafts:
        counts = draft.what and setting not in unlearned and setting not in bench.study.analysis.without
        if counts and (planned is None or setting in planned):
            variant = f"K={keep_of(ours)}" + (f", {preset}" if (preset := preset_of(ours)) else "")
            group = setting[0], variant, draft.what
            found.setdefault(group, []).append(draft)
            tasks.setdefault(group, set()).add(setting)
    if planned is None:
        return found, []
    wanted = {backbone: set().union(*(t for g, t in tasks.items() if g[0] == backbone)) for backbone, _, _ in found}
    whole = {group: members for group, members in found.items() if tasks[group] == wanted[group[0]]}
    kinds = {(group[0], group[2].split(" K=")[0]): members for group, members in found.items()}
    for backbone, _, what in whole:
        kinds.pop((backbone, what.split(" K=")[0]), None)
    reason = "no K was run on every task"
    broken = [
        Draft(f"{len(wanted[backbone])} learned tasks on {backbone_name(backbone)}", None,
              tuple(dict.fromkeys(run for draft in members for run in draft.runs)),
              f"{what} not pooled, {reason}", "", reason, "not_tested")
        for (backbone, what), members in kinds.items()
    ]  # fmt: skip
    return whole, broken


def _mostly(judged: Judged, groups: Mapping[Group, Sequence[Draft]]) -> str:
    """The task that makes up most of the pooled difference that is shown first, if one does."""
    shown = judged.headline
    for (_, _, what), members in groups.items():
        titles = {draft.title for draft in members}
        found = [case for case in judged.cases if case.title in titles and case.findings]
        effects = {case.title: case.effects[0] for case in found if case.findings[0].question.name == what}
        if shown is not None and shown.question.name == what and len(effects) > 1:
            return dominant(effects)
    return ""


def dominant(effects: Mapping[str, float]) -> str:
    """`mostly CoLA (−0.167)` where one task's difference is more than half of the sum of all; else empty."""
    title, effect = max(effects.items(), key=lambda entry: abs(entry[1]))
    total = sum(effects.values())
    return f"mostly {title.split(' on ')[0]} ({signed(effect)})" if total and effect / total > 0.5 else ""


def _pooled_title(backbone: str, variant: str, members: Sequence[Draft]) -> str:
    tested = sum(draft.untested is None for draft in members)
    return f"{tested} learned tasks pooled on {backbone_name(backbone)}, {variant}"


def _almost_all(verdict: Verdict, cases: Sequence[Case], pooled: set[str], share: float) -> tuple[Verdict, str]:
    """The verdict on "in almost all cases", over the tasks that were pooled.

    The mean must be ahead of every rival in at least `share` of them, and none may be shown to trail.
    """
    tasks: dict[str, list[Case]] = {}
    for case in cases:
        if case.untested is None and case.title in pooled:
            tasks.setdefault(case.title, []).append(case)
    ahead = sum(all(effect > 0 for case in found for effect in case.effects) for found in tasks.values())
    trails = sum(any(case.verdict == "contradicted" for case in found) for found in tasks.values())
    text = f" Ahead of every rival in {ahead} of {len(pooled)} tasks ({percent(share, 0)} are needed)"
    text += f", shown to trail in {trails}." if trails else ", shown to trail in none."
    if verdict == "supported" and (ahead < share * len(pooled) or trails):
        verdict = "cannot_tell"
    if trails > (1 - share) * len(pooled):
        verdict = "contradicted"
    return verdict, text


def _singles(cases: Sequence[Case]) -> str:
    """` Single tasks, adjusted: 3 cannot tell, 1 contradicted.`"""
    tested = [case.verdict for case in cases if case.role == "secondary" and case.untested is None]
    if not tested:
        return ""
    counts = [f"{tested.count(verdict)} {verdict.replace('_', ' ')}" for verdict in dict.fromkeys(sorted(tested))]
    return f" Single comparisons, adjusted: {listed(counts)}."


def _counted(bench: Bench) -> tuple[str, ...]:
    counted = bench.published.authors.facts.counted
    whole, head = counted.all.number, counted.head.number
    return tuple(
        f"DeBERTaV3-base, r={counted.rank}, K={keep} of {counted.adapters}: {int(figure.number):,} adapter parameters "
        f"against {int(whole):,}, {percent(reduction(figure.number, whole))} fewer; with the task head ({int(head):,}) "
        f"{percent(reduction(figure.number + head, whole + head))} fewer."
        for keep, figure in counted.kept.items()
    )


def saves_memory(bench: Bench, claim: Claim) -> Judged:
    """Claim 4: the peaks of phase 2 against those with all adapters, by their medians; no repeat may cross."""
    memory, least_saving = bench.memory, bench.study.judgement.memory.share
    remainder = "That no intuition about layers is needed cannot be measured; claim 3's control is related."
    if memory is None:
        reason = f"Peak memory was not measured in the {bench.profile} profile. {remainder}"
        return Judged(claim, "not_tested", reason, profile=bench.profile)
    everything = memory.adapters or bench.adapters_of(memory.backbone)
    whole = memory.all_adapters_peaks_bytes
    fewer = [row for row in memory.rows if whole and (everything is None or row.keep < everything)]
    savings = {row.keep: reduction(median(row.phase2_peaks_bytes), median(whole)) for row in fewer}
    below = [savings[row.keep] >= least_saving and max(row.phase2_peaks_bytes) < min(whole) for row in fewer]
    tokens = f"{memory.batch} x {memory.length} tokens per step"
    where = f"{backbone_name(memory.backbone)}, r={memory.rank or 'unknown'}, {tokens}"
    observed = tuple(
        f"{where}: K={row.keep}: phase-2 peak {_megabytes(row.phase2_peaks_bytes)}"
        + (f", {_beside(savings[row.keep])} all adapters" if row.keep in savings else "")
        + "."
        for row in memory.rows
    )
    if bench.never_tests or not savings:
        reason = bench.never_tests or "No peak with all adapters to compare."
        return Judged(claim, "not_tested", reason, observed, profile=bench.profile)
    cases = tuple(
        Case(f"{where}, K={keep}", "counted", f"phase-2 peak {_beside(saving)} all adapters", "", (), (saving,))
        for keep, saving in savings.items()
    )
    outcome = "less memory" if all(below) else "less memory for some K" if any(below) else "no less memory"
    least, most = min(savings.values()), max(savings.values())
    lower = [str(keep) for keep, is_lower in zip(savings, below, strict=True) if is_lower]
    higher = [str(keep) for keep in savings if str(keep) not in lower]
    shown = f"K of {', '.join(lower)}" if lower else "no K"
    splits = (f"less with K={', '.join(lower)}" if lower else "", f"not with K={', '.join(higher)}" if higher else "")
    reason = (
        f"{bench.profile} profile, {where}: phase-2 peaks lie from {_beside(most)} to {_beside(least)} the peak "
        f"with all adapters ({_megabytes(whole)}), for K of {', '.join(map(str, savings))}; medians of {len(whole)} "
        f"fresh processes. Every repeat is lower, and the median by {percent(least_saving)} or more, for {shown}. "
        f"{_resumed(memory, everything)}"
        f"Phase 1 trains every adapter: a run that begins with it has that peak whatever K is. {remainder}"
    )
    return Judged(
        claim, "counted", reason, observed, (), (), cases, bench.profile, outcome, unit="less peak memory in phase 2",
        brief=f"{'; '.join(filter(None, splits))}; “no intuition needed” was not tested",
    )  # fmt: skip


def _resumed(memory: Memory, everything: int | None) -> str:
    """What all adapters need in a process that resumes, as every phase 2 does and the reference does not."""
    again = next((row for row in memory.rows if row.keep == everything), None)
    if again is None or not memory.all_adapters_peaks_bytes:
        return ""
    peak = median(again.phase2_peaks_bytes)
    fewer = [reduction(median(row.phase2_peaks_bytes), peak) for row in memory.rows if row.keep < again.keep]
    ends = f", from which the K lie {_beside(max(fewer))} to {_beside(min(fewer))}" if fewer else ""
    return (
        f"Resumed from a checkpoint, as each phase 2 is and the reference is not, all adapters peak at "
        f"{_megabytes(again.phase2_peaks_bytes)}, {_beside(reduction(peak, median(memory.all_adapters_peaks_bytes)))} "
        f"the reference{ends}. "
    )


def _beside(saving: float) -> str:
    """`4.8 % below`, or `1.5 % above`."""
    return f"{percent(abs(saving))} {'below' if saving >= 0 else 'above'}"


def _megabytes(peaks: Sequence[int]) -> str:
    """`802 MB (795 to 810)`: the median, and the extremes where there are several."""
    extremes = f" ({min(peaks) / 1e6:,.0f} to {max(peaks) / 1e6:,.0f})" if len(peaks) > 1 else ""
    return f"{median(peaks) / 1e6:,.0f} MB{extremes}"


def parameters_kept(ours: Experiment, lora: Experiment) -> tuple[float, str]:
    """Share of LoRA's adapter parameters, of the seed that kept most, and the description of all seeds'."""
    counts, b = [record.counts for record in ours.records.values()], lora.record
    if not counts or b is None or not b.counts.adapter:
        return 1.0, "parameters unknown"
    shares = [one.adapter / b.counts.adapter for one in counts]
    whole = [one.trainable / max(1, b.counts.trainable) for one in counts]
    text = f"with {format_ratios(shares)} of LoRA's adapter parameters ({format_ratios(whole)} with the task head)"
    return max(shares), text


JUDGES: dict[str, Callable[[Bench, Claim], Judged]] = {
    "fewer_and_as_good": fewer_and_as_good,
    "plus_is_best": plus_is_best,
    "better_than_random": better_than_random,
    "saves_memory": saves_memory,
}
