"""What the runs of one profile say about the paper's claims, by rules fixed in `paper_results/`.

Only a profile that the tolerances name as comparable gets a verdict. Every other profile gets
`not_tested` with what was observed in it, and the counts at the papers' own shapes, which need no training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.counted import reduction
from analysis.published import Claim, Claims, Tolerances, printed_count
from analysis.records import Experiment, of_generation
from analysis.results import (
    BACKBONE_NAMES,
    base_parameters,
    bleu_difference,
    experiment_labels,
    is_reading,
    reference_lora,
)
from analysis.statistics import largest_rise, smooth, summarise_seeds, t_interval
from analysis.tables import METRIC_NAMES, format_score

Word = Literal["supported", "contradicted", "inconclusive", "not_tested"]
SMOOTHING_WINDOW = 10  # logged values
CLAIMED_REDUCTION_FROM_LORA = 0.585  # 59 % after rounding
CLAIMED_REDUCTION_FROM_FULL = 0.99


@dataclass(frozen=True)
class Verdict:
    """One claim: the word, the reason for it, what was observed or counted, and which runs were used."""

    claim: Claim
    word: Word
    reason: str
    observed: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


def judge(experiments: Sequence[Experiment], claims: Claims, tolerances: Tolerances) -> list[Verdict]:
    """One verdict per claim, in the claims' order, from one profile's `experiments`: its generation tasks alone."""
    study = Study(tuple(of_generation(experiments)), claims, tolerances)
    return [JUDGES[claim.key](study, claim) for claim in claims.claims]


@dataclass(frozen=True)
class Study:
    """The experiments of one profile with the files they are judged by."""

    experiments: tuple[Experiment, ...]
    claims: Claims
    tolerances: Tolerances

    @property
    def why_not(self) -> str | None:
        """Why this profile is never set against the paper; None when it may be."""
        profile = self.experiments[0].profile if self.experiments else ""
        return self.tolerances.why_not_comparable(profile)

    def solo(self) -> list[Experiment]:
        """Experiments with Solo Connection that left a record."""
        return [e for e in self.experiments if e.record is not None and e.record.method == "solo_connection"]

    def lora_of(self, experiment: Experiment) -> Experiment | None:
        """The LoRA experiment on the same backbone and task."""
        if experiment.record is None:
            return None
        reference = reference_lora(self.experiments, experiment.record)
        return next((e for e in self.experiments if reference is not None and reference in e.records.values()), None)

    def reading(self, backbone: str, rank: int, skip_length: int) -> Experiment | None:
        """The complete run of one reading of the method on one backbone."""
        return next(
            (
                e
                for e in self.solo()
                if e.status == "complete"
                and e.record is not None
                and e.record.backbone == backbone
                and is_reading(e, rank, skip_length)
            ),
            None,
        )

    def label(self, experiment: Experiment) -> str:
        """What tables call it."""
        return experiment_labels(self.experiments)[experiment.name]


def _outperforms_lora(study: Study, claim: Claim) -> Verdict:
    observed, runs = [], []
    for solo in study.solo():
        lora = study.lora_of(solo)
        if lora is not None and solo.metrics and lora.metrics:
            observed.append(_scores_against(study, solo, lora))
            runs += [solo.name, lora.name]
    evidence = tuple(observed), (), tuple(dict.fromkeys(runs))
    if study.why_not:
        return Verdict(claim, "not_tested", study.why_not, *evidence)
    chosen = study.reading("gpt2-medium", 120, 2)
    lora = study.lora_of(chosen) if chosen else None
    if chosen is None or lora is None or lora.status != "complete":
        return Verdict(
            claim,
            "not_tested",
            "LoRA and Solo Connection (r=120, k=2) on GPT-2 Medium are not both complete.",
            *evidence,
        )
    items, seeds = bleu_difference(chosen, lora), _seed_differences(chosen, lora)
    over_seeds = t_interval(seeds) if len(seeds) >= 3 else None
    if items is None or over_seeds is None:
        return Verdict(claim, "inconclusive", "Fewer than three shared seeds on the same items.", *evidence)
    reason = (
        f"BLEU difference {_signed(items.estimate)}: over items {_signed(items.low)} to "
        f"{_signed(items.high)}, "
        f"over {len(seeds)} seeds {_signed(over_seeds.low)} to {_signed(over_seeds.high)}."
    )
    word: Word = "inconclusive"
    if min(items.low, over_seeds.low) > 0:
        word = "supported"
    elif max(items.high, over_seeds.high) < 0:
        word = "contradicted"
    return Verdict(claim, word, reason, *evidence)


def _fewer_than_lora(study: Study, claim: Claim) -> Verdict:
    counted = tuple(
        f"{BACKBONE_NAMES[shape.backbone]}, r={shape.solo_rank}, k={shape.skip_length}: {shape.solo:,} "
        "against LoRA's "
        f"{shape.lora:,}, {_percent(reduction(shape.solo, shape.lora))} fewer by exact count and "
        f"{_percent(reduction(shape.solo, printed_count(shape.lora_printed)))} fewer than the printed "
        f"{shape.lora_printed}."
        for shape in study.claims.counted
    )
    observed, runs = [], []
    for solo in study.solo():
        lora = study.lora_of(solo)
        if solo.record is not None and lora is not None and lora.record is not None:
            ours, theirs = solo.record.counts.adapter, lora.record.counts.adapter
            observed.append(
                f"{study.label(solo)}: {ours:,} adapter parameters against {theirs:,} of "
                f"{study.label(lora)}, "
                f"{_percent(reduction(ours, theirs))} fewer on this backbone."
            )
            runs += [solo.name, lora.name]
    evidence = tuple(observed), counted, tuple(dict.fromkeys(runs))
    chosen = study.reading("gpt2-large", 120, 6)
    lora = study.lora_of(chosen) if chosen else None
    if study.why_not or chosen is None or lora is None or chosen.record is None or lora.record is None:
        reason = "No backbone of this profile has GPT-2 Large's shapes. There the claim is counted, not trained."
        return Verdict(claim, "not_tested", reason, *evidence)
    ours, theirs = chosen.record.counts.adapter, lora.record.counts.adapter
    printed = next(shape.lora_printed for shape in study.claims.counted if shape.backbone == "gpt2-large")
    exact, rounded = reduction(ours, theirs), reduction(ours, printed_count(printed))
    reason = f"{_percent(exact)} fewer by exact count, {_percent(rounded)} fewer than the printed {printed}."
    if exact >= CLAIMED_REDUCTION_FROM_LORA:
        return Verdict(claim, "supported", reason, *evidence)
    return Verdict(
        claim, "inconclusive" if rounded >= CLAIMED_REDUCTION_FROM_LORA else "contradicted", reason, *evidence
    )


def _fewer_than_full(study: Study, claim: Claim) -> Verdict:
    counted = tuple(
        f"{BACKBONE_NAMES[shape.backbone]}, r={shape.solo_rank}, k={shape.skip_length}: {shape.solo:,} "
        "against "
        f"{shape.full:,}, {_percent(reduction(shape.solo, shape.full), 2)} fewer."
        for shape in study.claims.counted
    )
    observed = tuple(
        f"{study.label(solo)}: {solo.record.counts.adapter:,} adapter parameters against "
        f"{base_parameters(solo.record):,} "
        "of the whole backbone, "
        f"{_percent(reduction(solo.record.counts.adapter, base_parameters(solo.record)), 2)} fewer."
        for solo in study.solo()
        if solo.record is not None
    )
    evidence = observed, counted, tuple(solo.name for solo in study.solo())
    chosen = study.reading("gpt2-medium", 120, 2)
    if study.why_not or chosen is None or chosen.record is None:
        reason = "No backbone of this profile has GPT-2 Medium's shapes; the share depends on the backbone's size."
        return Verdict(claim, "not_tested", reason, *evidence)
    share = reduction(chosen.record.counts.adapter, base_parameters(chosen.record))
    word: Word = "supported" if share > CLAIMED_REDUCTION_FROM_FULL else "contradicted"
    return Verdict(claim, word, f"{_percent(share, 2)} fewer on GPT-2 Medium.", *evidence)


def _smooth_and_stable(study: Study, claim: Claim) -> Verdict:
    rises = {e.name: loss_rises(e) for e in study.experiments}
    observed = [
        f"{study.label(e)}: largest rise of the smoothed training loss above its lowest value so far "
        f"{format_score(summarise_seeds(list(rises[e.name].values())))} nats per token."
        for e in study.experiments
        if rises[e.name]
    ]
    observed += [text for solo in study.solo() if (text := _parameter_range(study, solo))]
    evidence = tuple(observed), (), tuple(e.name for e in study.experiments if rises[e.name])
    if study.why_not:
        return Verdict(claim, "not_tested", study.why_not, *evidence)
    pair = _ablation(study)
    if pair is None:
        return Verdict(
            claim,
            "not_tested",
            "No run of Solo Connection without its homotopy parameter to compare with.",
            *evidence,
        )
    with_it, without = (rises[experiment.name] for experiment in pair)
    shared = sorted(set(with_it) & set(without))
    if len(shared) < 3:
        return Verdict(claim, "inconclusive", f"Only {len(shared)} shared seeds; three are needed.", *evidence)
    smaller = sum(with_it[seed] < without[seed] for seed in shared)
    larger = sum(with_it[seed] > without[seed] for seed in shared)
    reason = (
        f"With the homotopy parameter the largest rise is smaller on {smaller} and larger on "
        f"{larger} of {len(shared)} seeds."
    )
    word: Word = "supported" if smaller == len(shared) else "contradicted" if larger == len(shared) else "inconclusive"
    return Verdict(claim, word, reason, *evidence)


JUDGES: dict[str, Callable[[Study, Claim], Verdict]] = {
    "outperforms_lora": _outperforms_lora,
    "fewer_than_lora": _fewer_than_lora,
    "fewer_than_full": _fewer_than_full,
    "smooth_and_stable": _smooth_and_stable,
}


def loss_rises(experiment: Experiment) -> dict[int, float]:
    """Seed -> largest rise of the smoothed training loss, nats per token; only seeds that were trained."""
    rises = {}
    for seed, curve in experiment.curves.items():
        losses = curve["loss"].dropna().to_numpy()
        if losses.size > SMOOTHING_WINDOW:
            rises[seed] = largest_rise(smooth(losses, SMOOTHING_WINDOW)[SMOOTHING_WINDOW - 1 :])
    return rises


def _scores_against(study: Study, solo: Experiment, lora: Experiment) -> str:
    text = "; ".join(
        f"{METRIC_NAMES['BLEU']} of {study.label(e)} {format_score(summarise_seeds(values))}"
        for e in (solo, lora)
        if e.metrics and (values := e.metrics.values("BLEU"))
    )
    items, seeds = bleu_difference(solo, lora), _seed_differences(solo, lora)
    if items is not None:
        text += f"; difference {_signed(items.estimate)}, 95 % over items {_signed(items.low)} to {_signed(items.high)}"
    over_seeds = t_interval(seeds)
    if over_seeds is not None:
        text += f", 95 % over {len(seeds)} seeds {_signed(over_seeds.low)} to {_signed(over_seeds.high)}"
    return f"{text}."


def _seed_differences(first: Experiment, second: Experiment) -> list[float]:
    """BLEU of first minus second for every seed that both were scored with."""
    if first.metrics is None or second.metrics is None:
        return []
    a, b = first.metrics.seeds, second.metrics.seeds
    pairs = [(a[seed]["BLEU"], b[seed]["BLEU"]) for seed in sorted(set(a) & set(b))]
    return [x - y for x, y in pairs if x is not None and y is not None]


def _parameter_range(study: Study, solo: Experiment) -> str:
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


def _ablation(study: Study) -> tuple[Experiment, Experiment] | None:
    """Complete Solo runs that differ in nothing but the homotopy parameter's presence."""

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


def _percent(share: float, places: int = 1) -> str:
    return f"{100 * share:.{places}f} %"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
