"""The Solo Connection runs of one profile: which run stands for which reading of the method, and what they show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.counted import reduction
from analysis.labels import score_name
from analysis.published import Claims, Tolerances
from analysis.records import Experiment
from analysis.results import base_parameters, experiment_labels, generation_difference, is_reading, reference_lora
from analysis.statistics import largest_rise, smooth, summarise_seeds
from analysis.tables import format_score
from analysis.task_results import unequal
from analysis.wording import difference_text, percent, signed
from replication.fileio import read_json

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
        f"{score_name('BLEU')} of {study.label(e)} {format_score(summarise_seeds(values))}"
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
