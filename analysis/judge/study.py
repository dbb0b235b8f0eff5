"""The experiments of one profile, whatever their task's form: rows of tables, differences, and what was learned.

A difference is first minus second on one metric, on the same items and over shared seeds. Every run is resampled once
and its replicates are kept, so that all comparisons it takes part in use the same draws.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from analysis.judge.comparable import (
    Setting,
    base_parameters,
    differ_in_items,
    differ_in_processor,
    is_plain,
    keep_of,
    more_is_better,
    protocol_of,
    reference_loras,
    setting_of,
    setting_title,
    shared_seeds,
    unequal,
    variant_of,
)
from analysis.judge.decision import CONFIDENCE, LEAST_SEEDS, Difference
from analysis.load.constant import constant_mark, constant_seeds
from analysis.load.judgement import Judgement, Part, load_judgement
from analysis.load.names import BASELINES, method_key, method_label, method_order, task_name
from analysis.load.runs import GENERATION, Experiment, Status, experiment_labels
from analysis.load.searches import Search, rate_found
from analysis.stats.bootstrap import (
    RESAMPLES,
    Floats,
    Interval,
    PairedDifference,
    bca_ends,
    jackknife,
    paired_from_replicates,
    percentile_ends,
    seed_replicates,
)
from analysis.stats.items import is_approximate, item_statistics, statistic_of
from analysis.stats.mean_test import Noise, Test
from analysis.stats.seeds import SeedSummary, summarise_seeds
from replication.records import ParameterCounts

LearnedVerdict = Literal["learned", "did not learn", "not known"]
POOLED_METRIC = "mean of primary measures"


@dataclass(frozen=True)
class Row:
    """One experiment as tables show it; scores on the metric scripts' own scale (BLEU 0.7203, accuracy 0.86).

    `label` is the method with the settings that distinguish variants, `title` distinguishes the experiment from every
    other of its kind. `counts`, and `to_lora` and `to_full`, ratios of adapter parameters: the fewest and the most over
    seeds, which differ where a method selects among projections of several widths. `plain`: may represent the published
    method (`is_plain`). `constant_seeds` predict the same for every example, and `constant` says so. `task_title`
    names the task in tables, `evaluation` the protocol of its scores.
    """

    profile: str
    experiment: str
    method: str
    label: str
    title: str
    backbone: str
    task: str
    corpus: str
    corpus_label: str
    licence: str
    note: str
    split: str
    comparable: bool | None
    form: str
    protocol: str | None
    status: Status
    metrics: tuple[str, ...]
    primary: str | None
    scores: Mapping[str, SeedSummary | None]
    items: int | None
    counts: Mapping[str, tuple[int, int]]
    counts_at_start: Mapping[str, tuple[int, int]]
    to_lora: tuple[float, float] | None
    to_full: tuple[float, float] | None
    seeds: tuple[int, ...]
    steps: int | None
    learning_rate: float | None
    rate_found: str
    approximate: tuple[str, ...]
    score_notes: tuple[str, ...]
    evaluation: str
    missing: tuple[str, ...]
    plain: bool
    constant: str = ""
    constant_seeds: tuple[int, ...] = ()
    task_title: str = ""

    @property
    def setting(self) -> Setting:
        """Backbone and task."""
        return self.backbone, self.task


@dataclass(frozen=True)
class Learned:
    """Whether LoRA clearly beats the frozen backbone on one task of one backbone."""

    backbone: str
    task: str
    verdict: LearnedVerdict
    reason: str
    lora: str | None = None
    frozen: str | None = None
    difference: Difference | None = None


@dataclass(frozen=True)
class Analysis:
    """How comparisons are judged; anything but the default is a sensitivity analysis.

    `gate`: only learned tasks count. `processors`: runs of one seed must be made on one type of processor. `left_out`:
    seeds not used. `without`: tasks that are not pooled. `test`: which noise decides (`stats.mean_test`).
    """

    gate: bool = True
    processors: bool = True
    left_out: tuple[int, ...] = ()
    without: tuple[Setting, ...] = ()
    test: Test = "both"


@dataclass(frozen=True)
class Study:
    """The experiments of one profile.

    `experiments` are those of the tables; `gates` decide whether a task was learned, and `draws` are repeated random
    choices (`judgement.yaml`, roles). Pilots are not used.
    """

    profile: str
    experiments: tuple[Experiment, ...]
    searches: Mapping[str, Search] = field(default_factory=dict)
    judgement: Judgement = field(default_factory=load_judgement)
    gates: tuple[Experiment, ...] = ()
    draws: tuple[Experiment, ...] = ()
    analysis: Analysis = Analysis()
    _replicates: dict[Any, tuple[Floats, Floats, Floats] | None] = field(
        default_factory=dict, repr=False, compare=False
    )

    @staticmethod
    def of(
        experiments: Sequence[Experiment],
        searches: Mapping[str, Search] | None = None,
        profile: str = "",
        judgement: Judgement | None = None,
    ) -> Study:
        """The study of one profile's experiments; `profile` names it where there is none."""
        judgement, by_role = judgement or load_judgement(), defaultdict[str, list[Experiment]](list)
        for experiment in experiments:
            by_role[judgement.role(experiment.profile, experiment.name)].append(experiment)
        shown = tuple(by_role["compared"] + by_role["earlier"])
        name = profile or next((experiment.profile for experiment in experiments), "")
        return Study(name, shown, dict(searches or {}), judgement, tuple(by_role["gate"]), tuple(by_role["draws"]))

    @cached_property
    def generation(self) -> Study:
        """Only the generation tasks: those of the Solo Connection paper."""
        return self._only(lambda experiment: experiment.form == GENERATION)

    @cached_property
    def tasks(self) -> Study:
        """Every other form: the tasks of the WeightLoRA paper."""
        return self._only(lambda experiment: experiment.form != GENERATION)

    def keep(self, replicates: Mapping[Any, Any]) -> None:
        """Take over the replicates of another study of the same runs."""
        self._replicates.update(replicates)

    @property
    def replicates(self) -> Mapping[Any, Any]:
        """Cache of resampled scores."""
        return self._replicates

    def _only(self, wanted: Any) -> Study:
        parts = (tuple(filter(wanted, part)) for part in (self.experiments, self.gates, self.draws))
        experiments, gates, draws = parts
        return replace(self, experiments=experiments, gates=gates, draws=draws)

    @cached_property
    def rows_as_given(self) -> list[Row]:
        """One row per experiment, in the caller's order; experiments that have not run come from the plan."""
        kinds = [[e for e in self.experiments if (e.form == GENERATION) == generates] for generates in (True, False)]
        titles = {name: title for kind in kinds for name, title in experiment_labels(kind).items()}
        loras = reference_loras(self.experiments)
        return _with_task_titles([_row(e, titles[e.name], loras, self.searches) for e in self.experiments])

    @cached_property
    def rows(self) -> list[Row]:
        """`rows_as_given` by backbone and method."""
        rows = self.rows_as_given
        backbones = list(dict.fromkeys(row.backbone for row in rows))
        return sorted(rows, key=lambda row: (backbones.index(row.backbone), method_order(row.method), row.label))

    @property
    def settings(self) -> list[Setting]:
        """Every backbone and task that is compared, in the order of the experiments."""
        return list(dict.fromkeys(setting_of(experiment) for experiment in self.compared))

    @property
    def compared(self) -> list[Experiment]:
        """The experiments that enter verdicts: those of an earlier grid are only shown."""
        return [e for e in self.experiments if self.judgement.role(e.profile, e.name) == "compared"]

    @property
    def begun(self) -> set[Setting]:
        """The settings of which a compared run left anything; one that only params.yaml lists has not begun."""
        return {setting_of(experiment) for experiment in self.compared if experiment.status != "missing"}

    def title(self, setting: Setting) -> str:
        """`CoLA on MiniLM-L6`; `CoLA [cola-2000] on MiniLM-L6` where the backbone has several compared tasks on one
        corpus.
        """
        return self._titles.get(setting) or setting_title(self.experiments, setting)

    @cached_property
    def _titles(self) -> dict[Setting, str]:
        names = {setting: setting_title(self.experiments, setting) for setting in self.settings}
        often = Counter(names.values())
        return {
            setting: name if often[name] == 1 else name.replace(" on ", f" [{setting[1]}] on ", 1)
            for setting, name in names.items()
        }

    def named(self, name: str) -> Experiment | None:
        """The experiment of that name."""
        return next((experiment for experiment in self.experiments if experiment.name == name), None)

    def at(self, setting: Setting, method: str) -> list[Experiment]:
        """Compared, scored experiments of one method on one backbone and task, smallest K first."""
        return list(self._compared_at.get((setting, method), ()))

    @cached_property
    def _compared_at(self) -> dict[tuple[Setting, str], list[Experiment]]:
        return _scored(self.compared)

    def twin(self, experiment: Experiment) -> str | None:
        """The name of another run that could stand for the same method in the same setting; None if there is none."""
        if experiment.record is None:
            return None
        key = method_key(experiment.record.method, experiment.record.method_config)
        same = (other for other in self.at(setting_of(experiment), key) if other.name != experiment.name)
        return next((other.name for other in same if variant_of(other) == variant_of(experiment)), None)

    @cached_property
    def loras(self) -> dict[Setting, Experiment]:
        """The compared LoRA run of each backbone and task."""
        return reference_loras(self.compared)

    def over_items(self, experiment: Experiment, metric: str | None = None, method: str = "bca") -> Interval | None:
        """Interval, at the rule's confidence, of the seeds' mean score over test items; None without predictions.

        `metric` defaults to the primary one; None for one without scores of single items (METEOR).
        For approximate metrics (ROUGE_L, CIDEr) the estimate may differ from scores.json in its last digits.
        """
        metric = metric or (experiment.metrics.primary if experiment.metrics else "BLEU")
        found = self._resampled(experiment, metric, tuple(experiment.predictions))
        if found is None:
            return None
        stack, estimates, replicates = found
        estimate, means = float(estimates.mean()), replicates.mean(axis=1)
        if method == "percentile":
            return Interval(estimate, *percentile_ends(means, CONFIDENCE))
        left_out = jackknife(stack, statistic_of(metric, experiment.form, protocol_of(experiment)))
        return Interval(estimate, *bca_ends(means, estimate, left_out, CONFIDENCE))

    def difference(
        self, first: Experiment, second: Experiment, metric: str | None = None, seeds: Sequence[int] | None = None
    ) -> Difference | None:
        """first minus second on `metric`, by default the grid's measure, or else the primary one; None without shared
        seeds on the same items.

        `seeds` are those to use of the shared ones (default: `usable_seeds`). Seeds whose runs were made on different
        types of processor are dropped; where fewer than the rule's least number is left, the difference is
        `confounded`.
        """
        a, b = first.metrics, second.metrics
        if metric is None and (part := self._part(first)) is not None:
            metric = part.tasks[setting_of(first)[1]]
        if a is None or b is None or a.items != b.items or (metric is None and a.primary != b.primary):
            return None
        if differ_in_items(first, second):
            return None
        metric, usable = metric or a.primary, self.usable_seeds(first, second)
        used, mixed, confounded = self.comparable_seeds(
            first, second, usable if seeds is None else [seed for seed in usable if seed in seeds]
        )
        pairs = [(a.seeds[seed].get(metric), b.seeds[seed].get(metric)) for seed in used]
        values = tuple(x - y for x, y in pairs if x is not None and y is not None)
        if not values or len(values) < len(pairs):
            return None
        over_items = self.paired(first, second, metric, used)
        return Difference(
            metric,
            used,
            values,
            over_items,
            () if over_items is None else (Noise(over_items.standard_error**2, max(1, a.items - 1)),),
            approximate=is_approximate(metric, first.form, protocol_of(first)),
            dropped=mixed,
            confounded=confounded,
            test=self.analysis.test,
            item_count=a.items,
        )

    def _part(self, experiment: Experiment) -> Part | None:
        return self.judgement.part_of(experiment.profile, setting_of(experiment))

    def usable_seeds(self, first: Experiment, second: Experiment) -> list[int]:
        """The shared seeds that the grid names."""
        return self.in_plan(first, shared_seeds(first, second))

    def in_plan(self, experiment: Experiment, seeds: Sequence[int]) -> list[int]:
        """Those of `seeds` that the experiment's part of the grid names: of a gate its own; all outside the grid."""
        part = self._part(experiment)
        if part is None:
            return list(seeds)
        gate = self.judgement.role(experiment.profile, experiment.name) == "gate"
        return [seed for seed in seeds if seed in (part.gate_seeds if gate else part.seeds)]

    def comparable_seeds(
        self, first: Experiment, second: Experiment, shared: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
        """Of the shared seeds: those to use, those whose runs were made on different types of processor, and whether
        the comparison is confounded, for too few others are left: then all are used."""
        wanted = tuple(seed for seed in shared if seed not in self.analysis.left_out)
        mixed: tuple[int, ...] = ()
        if self.analysis.processors:
            mixed = tuple(seed for seed in wanted if differ_in_processor(first, second, seed))
        alike = tuple(seed for seed in wanted if seed not in mixed)
        confounded = bool(mixed) and len(alike) < LEAST_SEEDS
        return wanted if confounded else alike, mixed, confounded

    def pooled(self, pairs: Sequence[tuple[Experiment, Experiment]]) -> Difference | None:
        """Seed by seed the mean over pairs (one a task) of first minus second in the primary measure.

        Items are resampled within tasks, whose noises are independent. Over the seeds that all pairs share, but those
        that a pair drops for its processors; `confounded` if too few are left. None without a shared seed.
        """
        seeds = sorted(set.intersection(*(set(self.usable_seeds(*pair)) for pair in pairs))) if pairs else []
        found = [self.difference(*pair, seeds=seeds) for pair in pairs]
        parts = [part for part in found if part is not None]
        if not seeds or len(parts) < len(pairs):
            return None
        dropped = tuple(sorted({seed for part in parts for seed in part.dropped}))
        common = set.intersection(*(set(part.seeds) for part in parts))
        if all(set(part.seeds) == common for part in parts):
            return pool(parts)
        confounded = len(common) < LEAST_SEEDS  # what one task drops is dropped everywhere
        study = replace(self, analysis=replace(self.analysis, processors=False)) if confounded else self
        again = [study.difference(*pair, seeds=seeds if confounded else sorted(common)) for pair in pairs]
        whole = pool([part for part in again if part is not None])
        return replace(whole, dropped=dropped, confounded=confounded or whole.confounded)

    def paired(
        self, first: Experiment, second: Experiment, metric: str, seeds: tuple[int, ...]
    ) -> PairedDifference | None:
        """The difference over test items, of the mean of these seeds; None without predictions on the same items."""
        if not seeds or differ_in_items(first, second):
            return None
        a, b = self._resampled(first, metric, seeds), self._resampled(second, metric, seeds)
        if a is None or b is None:
            return None
        return paired_from_replicates(float(a[1].mean() - b[1].mean()), a[2], b[2], confidence=CONFIDENCE)

    def learned(self, setting: Setting) -> Learned:
        """The rule of `judgement.yaml` on the gate's own seeds.

        A setting without gate runs falls back to the compared runs, which favours LoRA: LoRA minus frozen is above zero
        over test items, or over seeds.
        """
        found = _scored(self.gates)
        gates = [next(iter(found.get((setting, method), [])), None) for method in ("lora", "frozen")]
        if gates[0] is not None and gates[1] is not None:
            return self._learned_by_gate(setting, gates[0], gates[1])
        part = self.judgement.part_of(self.profile, setting)
        if (part is not None and part.gate_seeds) or any(setting_of(gate) == setting for gate in self.gates):
            return Learned(*setting, "not known", "its gate runs (LoRA and frozen on separate seeds) are not complete")
        lora, frozen = (next(iter(self.at(setting, method)), None) for method in ("lora", "frozen"))
        if lora is None or frozen is None:
            absent = " and ".join(name for name, run in (("LoRA", lora), ("frozen", frozen)) if run is None)
            return Learned(*setting, "not known", f"not run: {absent}")
        if reason := unequal(lora, frozen):
            return Learned(*setting, "not known", reason, lora.name, frozen.name)
        difference = self.difference(lora, frozen)
        names = lora.name, frozen.name
        if difference is None:
            return Learned(*setting, "not known", "no shared seeds on the same items", *names)
        if difference.confounded:
            return Learned(*setting, "not known", str(difference.why_undecidable), *names, difference)
        if not more_is_better(lora, difference.metric):
            return Learned(*setting, "not known", "less is better of its primary measure", *names, difference)
        interval = difference.over_items or difference.over_seeds
        if interval is None:
            return Learned(*setting, "not known", "one seed and no score of single items", *names, difference)
        if interval.low > 0:
            return Learned(*setting, "learned", "LoRA clearly beats frozen", *names, difference)
        return Learned(*setting, "did not learn", "LoRA does not clearly beat frozen", *names, difference)

    def _learned_by_gate(self, setting: Setting, lora: Experiment, frozen: Experiment) -> Learned:
        """LoRA's mean against the best of the frozen body's and every trivial baseline's, by the measure's margin."""
        names, difference = (lora.name, frozen.name), self.difference(lora, frozen)
        if reason := unequal(lora, frozen):
            return Learned(*setting, "not known", reason, *names)
        if difference is None or lora.metrics is None or difference.metric not in self.judgement.measures:
            return Learned(*setting, "not known", "no shared gate seeds, or a measure without a margin", *names)
        if difference.confounded:
            return Learned(*setting, "not known", f"its gate's runs: {difference.why_undecidable}", *names, difference)
        part = self._part(lora)
        if part is not None and difference.seeds != part.gate_seeds:
            wanted = ", ".join(map(str, part.gate_seeds))
            return Learned(*setting, "not known", f"the gate's runs do not share the seeds {wanted}", *names)
        metric, margin = difference.metric, self.judgement.measures[difference.metric].learned_by
        rivals = {frozen.name: _mean_score(frozen, metric, difference.seeds)}
        rivals |= {run.name: _mean_score(run, metric) for kind in BASELINES for run in self.at(setting, kind)}
        best = max(rivals, key=lambda name: rivals[name])
        lead = _mean_score(lora, metric, difference.seeds) - rivals[best]
        against = "frozen" if best == frozen.name else "the trivial baseline"
        reason = f"LoRA lies {lead:+.3f} from {against} on the gate's seeds; {margin:g} is required"
        return Learned(*setting, "learned" if lead >= margin else "did not learn", reason, *names, difference)

    def _resampled(
        self, experiment: Experiment, metric: str, seeds: tuple[int, ...]
    ) -> tuple[Floats, Floats, Floats] | None:
        """Of these seeds: item statistics, each seed's score, and the replicates, shape (resamples, n_seeds).

        Every seed with predictions is resampled once, and kept.
        """
        key, everything = (experiment.profile, experiment.name, metric), tuple(experiment.predictions)
        if not set(seeds) <= set(everything):
            return None
        if key not in self._replicates:
            stack, found = item_stack(experiment, metric, everything), None
            if stack is not None:
                statistic = statistic_of(metric, experiment.form, protocol_of(experiment))
                scores = np.asarray(statistic(stack.sum(axis=1)), dtype=np.float64)
                found = stack, scores, seed_replicates(stack, statistic, resamples=RESAMPLES)
            self._replicates[key] = found
        kept = self._replicates[key]
        if kept is None:
            return None
        stack, scores, replicates = kept
        where = [everything.index(seed) for seed in seeds]
        return stack[where], scores[where], replicates[:, where]


def pool(parts: Sequence[Difference]) -> Difference:
    """The mean of differences over the same seeds, one a task; each part's replicates are shifted against the others',
    since tasks of equal size share their draws."""
    count, seeds = len(parts), parts[0].seeds
    by_seed = tuple(float(np.mean(values)) for values in zip(*(part.by_seed for part in parts), strict=True))
    items = tuple(Noise(noise.variance / count**2, noise.degrees) for part in parts for noise in part.items)
    draws = [part.over_items for part in parts if part.over_items is not None]
    over_items = None
    if len(draws) == count:
        size = min(draw.replicates.size for draw in draws)
        shifted = [np.roll(draw.replicates[:size], place * size // count) for place, draw in enumerate(draws)]
        mean = np.mean(shifted, axis=0)
        ends = percentile_ends(mean, CONFIDENCE)
        overlap = sum(draw.overlap for draw in draws) / count**2
        over_items = PairedDifference(float(np.mean([draw.estimate for draw in draws])), *ends, mean, overlap)
    metrics = {part.metric for part in parts}
    return Difference(
        metrics.pop() if len(metrics) == 1 else POOLED_METRIC,
        seeds,
        by_seed,
        over_items,
        items if over_items is not None else (),
        approximate=any(part.approximate for part in parts),
        dropped=tuple(sorted({seed for part in parts for seed in part.dropped})),
        confounded=any(part.confounded for part in parts),
        test=parts[0].test,
        item_count=sum(part.item_count or 0 for part in parts) or None,
    )


def learned_rule(judgement: Judgement) -> str:
    """What `Study.learned` decides by, in a sentence or two."""
    return (
        f"{judgement.learned.replace('`', '')} In a profile without gate runs a task counts as learned when the "
        "interval over test examples of LoRA minus frozen, on the compared runs, lies above zero."
    )


def item_stack(experiment: Experiment, metric: str, seeds: tuple[int, ...] | None = None) -> Floats | None:
    """`item_statistics` of these seeds' predictions (by default all), shape (n_seeds, n_items, k); None without."""
    stacks = []
    for seed in tuple(experiment.predictions) if seeds is None else seeds:
        rows = experiment.predictions.get(seed)
        found = item_statistics(metric, experiment.form, rows, protocol_of(experiment)) if rows else None
        if found is None:
            return None
        stacks.append(found)
    return np.stack(stacks) if len({stack.shape for stack in stacks}) == 1 else None


def _with_task_titles(rows: Sequence[Row]) -> list[Row]:
    """`CoLA`, or a corpus's own name; `CoLA [cola-2000]` where a backbone has several tasks on one corpus."""
    tasks: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        tasks.setdefault((row.backbone, row.corpus or row.task), set()).add(row.task)
    names = [
        task_name(row.corpus or row.task)
        + (f" [{row.task}]" if len(tasks[row.backbone, row.corpus or row.task]) > 1 else "")
        for row in rows
    ]
    return [replace(row, task_title=name) for row, name in zip(rows, names, strict=True)]


def _scored(experiments: Sequence[Experiment]) -> dict[tuple[Setting, str], list[Experiment]]:
    """Those with scores by setting and method, smallest K first."""
    found = defaultdict[tuple[Setting, str], list[Experiment]](list)
    for experiment in experiments:
        if experiment.record is not None and experiment.metrics is not None and experiment.status == "complete":
            method = method_key(experiment.record.method, experiment.record.method_config)
            found[setting_of(experiment), method].append(experiment)
    return {
        key: sorted(those, key=lambda experiment: (keep_of(experiment) or 0, experiment.name != key[1]))
        for key, those in found.items()
    }


def _mean_score(experiment: Experiment, metric: str, seeds: Sequence[int] | None = None) -> float:
    """Mean over these seeds (default: all); minus infinity where one has no value, so that it can be no rival."""
    scores = experiment.metrics.seeds if experiment.metrics else {}
    values = [scores[seed].get(metric) for seed in (scores if seeds is None else seeds)]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else -math.inf


def _row(
    experiment: Experiment, title: str, loras: Mapping[Setting, Experiment], searches: Mapping[str, Search]
) -> Row:
    record, metrics, planned = experiment.record, experiment.metrics, experiment.planned
    backbone, task = setting_of(experiment)
    method = record.method if record else planned.method if planned else ""
    config = record.method_config if record else planned.settings if planned else {}
    scores: dict[str, SeedSummary | None] = {}
    for name in metrics.metrics if metrics else ():
        values = metrics.values(name) if metrics else None
        scores[name] = None if values is None else summarise_seeds(values)
    corpus = record.corpus if record else None
    records = list(experiment.records.values())
    lora = loras.get(setting_of(experiment)) if record else None
    counts = _fewest_and_most([one.counts for one in records])
    return Row(
        profile=experiment.profile,
        experiment=experiment.name,
        method=method_key(method, config),
        label=method_label(method, config) if method else experiment.name,
        title=title,
        backbone=backbone,
        task=task,
        corpus=corpus.name if corpus else planned.corpus if planned else "",
        corpus_label=corpus.label if corpus else "",
        licence=corpus.licence if corpus else "",
        note=corpus.note if corpus else "",
        split=corpus.reported_split if corpus else "",
        comparable=corpus.comparable if corpus else None,
        form=experiment.form,
        protocol=corpus.metric if corpus else None,
        status=experiment.status,
        metrics=metrics.metrics if metrics else (),
        primary=metrics.primary if metrics else None,
        scores=scores,
        items=metrics.items if metrics else None,
        counts=counts,
        counts_at_start=_fewest_and_most([one.counts_at_start for one in records if one.counts_at_start is not None]),
        to_lora=_ratios(counts, lora.record.counts.adapter if lora and lora.record else 0),
        to_full=_ratios(counts, base_parameters(record) if record else 0),
        seeds=tuple(metrics.seeds) if metrics else experiment.seeds,
        steps=record.training.get("steps") if record else None,
        learning_rate=record.training.get("learning_rate") if record else None,
        rate_found=rate_found(experiment, searches),
        approximate=metrics.approximate if metrics else (),
        score_notes=metrics.notes if metrics else (),
        evaluation=metrics.evaluation if metrics else "",
        missing=metrics.missing if metrics else (),
        plain=record is not None and is_plain(record),
        constant=constant_mark(experiment),
        constant_seeds=constant_seeds(experiment),
    )


def _fewest_and_most(counts: Sequence[ParameterCounts]) -> dict[str, tuple[int, int]]:
    """Of every count, over seeds."""
    dumps = [one.model_dump() for one in counts]
    values = {name: [dump[name] for dump in dumps] for name in (dumps[0] if dumps else ())}
    return {name: (min(found), max(found)) for name, found in values.items()}


def _ratios(counts: Mapping[str, tuple[int, int]], reference: int) -> tuple[float, float] | None:
    if not counts or not reference:
        return None
    fewest, most = counts["adapter"]
    return fewest / reference, most / reference
