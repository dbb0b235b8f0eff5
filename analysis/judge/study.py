"""The experiments of one profile as rows of tables, and their differences on the same items and seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np

from analysis.judge.decision import LEAST_SEEDS, Difference
from analysis.load.judgement import Judgement, load_judgement
from analysis.load.names import BASELINES, backbone_name, method_key, method_label, method_order, task_name
from analysis.load.paper_files import METRICS
from analysis.load.runs import Experiment, Status, experiment_labels, of_generation, of_tasks, questions
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
from analysis.stats.generation_items import APPROXIMATE, GENERATION_SCORES, generation_statistics
from analysis.stats.items import item_statistics, statistic_of
from analysis.stats.seeds import SeedSummary, summarise_seeds, t_interval
from replication.records import RunRecord

PLAIN_SOLO: Mapping[str, Any] = {
    "sparsity": 0.0, "links": None, "lora": None, "layer_norm": False, "homotopy_parameter": 0.1,
    "train_autoencoder": True, "shared_autoencoder": True,
}  # fmt: skip


@dataclass(frozen=True)
class ResultRow:
    """One experiment as the main table shows it; scores on the metric scripts' own scale (BLEU 0.7203)."""

    profile: str
    experiment: str
    label: str
    method: str
    backbone: str
    task: str
    corpus: str
    status: Status
    scores: Mapping[str, SeedSummary | None]
    bleu_over_items: Interval | None
    items: int | None
    trainable: int | None
    adapter: int | None
    to_lora: float | None
    to_full: float | None
    seeds: tuple[int, ...]
    approximate: tuple[str, ...]
    score_notes: tuple[str, ...]
    missing: tuple[str, ...]
    plain: bool  # whether it may stand for the published method (`is_plain`)


def result_rows(experiments: Sequence[Experiment]) -> list[ResultRow]:
    """One row per generation experiment, in the order given, also for experiments without results."""
    experiments = of_generation(experiments)
    labels = experiment_labels(experiments)
    return [_result_row(experiment, labels[experiment.name], experiments) for experiment in experiments]


def bleu_over_items(experiment: Experiment, method: str = "bca") -> Interval | None:
    """95 % interval of the seeds' mean BLEU over test items; None without predictions."""
    return metric_over_items(experiment, "BLEU", method)


def metric_over_items(experiment: Experiment, metric: str, method: str = "bca") -> Interval | None:
    """95 % interval of the seeds' mean score over test items; None without predictions, and for METEOR.

    ROUGE_L and CIDEr are approximate (`generation_items`): their estimate may differ from metrics.json in its last
    digits.
    """
    stack = metric_stack(experiment, metric)
    if stack is None:
        return None
    score = GENERATION_SCORES[metric]
    estimate = float(np.mean(score(stack.sum(axis=1))))
    replicates = _replicates(metric, stack).mean(axis=1)
    if method == "percentile":
        return Interval(estimate, *percentile_ends(replicates, 0.95))
    return Interval(estimate, *bca_ends(replicates, estimate, jackknife(stack, score), 0.95))


def bleu_difference(first: Experiment, second: Experiment) -> PairedDifference | None:
    """first minus second on the same items and shared seeds; None where there are none."""
    return _difference_over_items(first, second, "BLEU", _shared(first.predictions, second.predictions))


def generation_difference(first: Experiment, second: Experiment, metric: str = "BLEU") -> Difference | None:
    """first minus second on one of the E2E metrics or on the reference loss, where less is better.

    None without shared seeds that were scored on the same items.
    """
    a, b = first.metrics, second.metrics
    if a is None or b is None or a.items != b.items or _questions(first) != _questions(second):
        return None
    seeds = _shared(a.seeds, b.seeds)
    pairs = [(a.seeds[seed].get(metric), b.seeds[seed].get(metric)) for seed in seeds]
    values = tuple(x - y for x, y in pairs if x is not None and y is not None)
    if not values or len(values) < len(pairs):
        return None
    return Difference(
        metric,
        float(np.mean(values)),
        seeds,
        _difference_over_items(first, second, metric, seeds),
        t_interval(values) if len(values) >= LEAST_SEEDS else None,
        values,
        metric in APPROXIMATE,
    )


def segment_stack(experiment: Experiment, seeds: tuple[int, ...] | None = None) -> Floats | None:
    """BLEU statistics of every seed's predictions, shape (n_seeds, n_items, 10)."""
    return metric_stack(experiment, "BLEU", seeds)


def metric_stack(experiment: Experiment, metric: str, seeds: tuple[int, ...] | None = None) -> Floats | None:
    """`generation_statistics` of every seed's predictions, shape (n_seeds, n_items, k); None without predictions."""
    wanted = tuple(experiment.predictions) if seeds is None else seeds
    chosen = [experiment.predictions[seed] for seed in wanted if seed in experiment.predictions]
    if not chosen or not chosen[0] or len({len(rows) for rows in chosen}) > 1:
        return None
    found = [generation_statistics(metric, rows) for rows in chosen]
    return None if any(rows is None for rows in found) else np.stack(cast(list[Floats], found))


def _difference_over_items(
    first: Experiment, second: Experiment, metric: str, seeds: tuple[int, ...]
) -> PairedDifference | None:
    there = all(seed in run.predictions for run in (first, second) for seed in seeds)
    if not seeds or not there or _questions(first) != _questions(second):
        return None
    a, b = metric_stack(first, metric, seeds), metric_stack(second, metric, seeds)
    if a is None or b is None:
        return None
    score = GENERATION_SCORES[metric]
    estimate = float(np.mean(score(a.sum(axis=1))) - np.mean(score(b.sum(axis=1))))
    return paired_from_replicates(estimate, _replicates(metric, a), _replicates(metric, b))


def _replicates(metric: str, stack: Floats) -> Floats:
    """`seed_replicates` of one experiment's stack, kept: every comparison it takes part in uses the same draws."""
    return _kept_replicates(metric, stack.shape, stack.tobytes(), RESAMPLES)


@lru_cache(maxsize=64)
def _kept_replicates(metric: str, shape: tuple[int, ...], content: bytes, resamples: int) -> Floats:
    stack = np.frombuffer(content).reshape(shape)
    return seed_replicates(stack, GENERATION_SCORES[metric], resamples=resamples)


def _shared(first: Mapping[int, object], second: Mapping[int, object]) -> tuple[int, ...]:
    return tuple(sorted(set(first) & set(second)))


def base_parameters(record: RunRecord) -> int:
    """Parameters of the backbone without what the method adds: what full fine-tuning would train."""
    if record.method in ("full", "frozen"):
        return record.counts.total
    return record.counts.total - record.counts.adapter - record.counts.importance


def reference_lora(experiments: Sequence[Experiment], record: RunRecord) -> RunRecord | None:
    """The LoRA run that ratios refer to: same backbone and task; of several the one called `lora`."""
    found = [
        (experiment.name != "lora", index, other)
        for index, experiment in enumerate(experiments)
        if (other := experiment.record) is not None
        and other.method == "lora"
        and (other.backbone, other.task) == (record.backbone, record.task)
    ]
    return min(found, key=lambda entry: entry[:2])[2] if found else None


def _result_row(experiment: Experiment, label: str, experiments: Sequence[Experiment]) -> ResultRow:
    record, metrics = experiment.record, experiment.metrics
    lora = reference_lora(experiments, record) if record else None
    scores: dict[str, SeedSummary | None] = dict.fromkeys(METRICS)
    if metrics is not None:
        for metric in METRICS:
            values = metrics.values(metric)
            scores[metric] = None if values is None else summarise_seeds(values)
    adapter = record.counts.adapter if record else None
    return ResultRow(
        profile=experiment.profile,
        experiment=experiment.name,
        label=label,
        method=record.method if record else "",
        backbone=record.backbone if record else "",
        task=record.task if record else "",
        corpus=record.corpus.label if record else "",
        status=experiment.status,
        scores=scores,
        bleu_over_items=bleu_over_items(experiment),
        items=metrics.items if metrics else None,
        trainable=record.counts.trainable if record else None,
        adapter=adapter,
        to_lora=adapter / lora.counts.adapter if adapter is not None and lora and lora.counts.adapter else None,
        to_full=adapter / base_parameters(record) if adapter is not None and record else None,
        seeds=tuple(metrics.seeds) if metrics else experiment.seeds,
        approximate=metrics.approximate if metrics else (),
        score_notes=metrics.notes if metrics else (),
        missing=metrics.missing if metrics else (),
        plain=record is not None and is_plain(record),
    )


def _questions(experiment: Experiment) -> list[tuple[str, ...]]:
    rows = next(iter(experiment.predictions.values()), [])
    return [(row["mr"], *row["references"]) for row in rows]


def is_reading(experiment: Experiment, rank: int, skip_length: int) -> bool:
    """Whether a Solo run is the plain dense method with this rank and skip length, nothing else changed."""
    record = experiment.record
    if record is None or record.method != "solo_connection":
        return False
    config = record.method_config
    return (config.get("rank"), config.get("skip_length")) == (rank, skip_length) and is_plain(record)


def is_plain(record: RunRecord) -> bool:
    """False for a Solo run with a part taken out, added or frozen; its rank and skip length are free."""
    return record.method != "solo_connection" or all(
        record.method_config.get(name, value) == value for name, value in PLAIN_SOLO.items()
    )


LearnedWord = Literal["learned", "did not learn", "not known"]
# What two runs must share to be compared: the same work on the same data.
BUDGET = ("steps", "batch_size", "accumulation_steps", "max_length")


@dataclass(frozen=True)
class TaskRow:
    """One experiment as the task tables show it; scores as fractions and correlations."""

    profile: str
    experiment: str
    method: str
    label: str
    backbone: str
    task: str
    corpus: str
    corpus_label: str
    licence: str
    note: str
    split: str
    comparable: bool | None
    form: str
    status: Status
    metrics: tuple[str, ...]
    primary: str | None
    scores: Mapping[str, SeedSummary | None]
    items: int | None
    counts: Mapping[str, int]
    counts_at_start: Mapping[str, int]
    seeds: tuple[int, ...]
    steps: int | None
    learning_rate: float | None
    rate_found: str

    @property
    def place(self) -> tuple[str, str]:
        """Backbone and task: what is compared is compared within one place."""
        return self.backbone, self.task

    @property
    def task_title(self) -> str:
        """`CoLA`, or the corpus's own name where it is no whole official corpus."""
        return task_name(self.corpus or self.task)


@dataclass(frozen=True)
class Learned:
    """Whether LoRA clearly beats the frozen backbone on one task of one backbone."""

    backbone: str
    task: str
    word: LearnedWord
    reason: str
    lora: str | None = None
    frozen: str | None = None
    difference: Difference | None = None


@dataclass(frozen=True)
class TaskStudy:
    """The task experiments of one profile, with bootstrap replicates kept so that each run is resampled once.

    `experiments` are those of the tables; `gates` only tell whether a task was learned, and `draws` are repeated random
    choices (`judgement.yaml`, roles).
    """

    experiments: tuple[Experiment, ...]
    searches: Mapping[str, Search] = field(default_factory=dict)
    judgement: Judgement = field(default_factory=load_judgement)
    gates: tuple[Experiment, ...] = ()
    draws: tuple[Experiment, ...] = ()
    _replicates: dict[Any, tuple[float, Floats] | None] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def of(experiments: Sequence[Experiment], searches: Mapping[str, Search] | None = None) -> TaskStudy:
        """The study of those among `experiments` that are no generation tasks."""
        judgement, by_role = load_judgement(), defaultdict[str, list[Experiment]](list)
        for experiment in of_tasks(experiments):
            by_role[judgement.role(experiment.profile, experiment.name)].append(experiment)
        shown = tuple(by_role["compared"] + by_role["earlier"])
        return TaskStudy(shown, dict(searches or {}), judgement, tuple(by_role["gate"]), tuple(by_role["draws"]))

    @property
    def profile(self) -> str:
        """The experiments' profile."""
        return self.experiments[0].profile if self.experiments else ""

    @property
    def rows(self) -> list[TaskRow]:
        """One row per experiment, by backbone and method; experiments that have not run come from the plan."""
        rows = [_task_row(experiment, self.searches) for experiment in self.experiments]
        backbones = list(dict.fromkeys(row.backbone for row in rows))
        return sorted(rows, key=lambda row: (backbones.index(row.backbone), method_order(row.method), row.label))

    @property
    def places(self) -> list[tuple[str, str]]:
        """Every backbone and task that is compared, in the order of the experiments."""
        return list(dict.fromkeys(place_of(experiment) for experiment in self.compared))

    @property
    def compared(self) -> list[Experiment]:
        """The experiments that enter verdicts: those of an earlier grid are shown alone."""
        return [e for e in self.experiments if self.judgement.role(e.profile, e.name) == "compared"]

    def at(self, place: tuple[str, str], method: str) -> list[Experiment]:
        """Compared, scored experiments of one method on one backbone and task, smallest K first."""
        return self._scored(self.compared, place, method)

    def _scored(self, experiments: Sequence[Experiment], place: tuple[str, str], method: str) -> list[Experiment]:
        found = [
            experiment
            for experiment in experiments
            if experiment.record is not None
            and experiment.metrics is not None
            and experiment.status == "complete"
            and place_of(experiment) == place
            and method_key(experiment.record.method, experiment.record.method_config) == method
        ]
        return sorted(found, key=lambda experiment: (keep_of(experiment) or 0, experiment.name != method))

    def difference(self, first: Experiment, second: Experiment) -> Difference | None:
        """first minus second on the primary metric; None without shared seeds or on other items."""
        a, b = first.metrics, second.metrics
        if a is None or b is None or a.primary != b.primary or a.items != b.items:
            return None
        metric, seeds = a.primary, tuple(sorted(set(a.seeds) & set(b.seeds)))
        pairs = [(a.seeds[seed][metric], b.seeds[seed][metric]) for seed in seeds]
        values = [x - y for x, y in pairs if x is not None and y is not None]
        if not values or len(values) < len(pairs):
            return None
        over_items = self._over_items(first, second, metric, seeds)
        over_seeds = t_interval(values) if len(values) >= LEAST_SEEDS else None
        return Difference(metric, float(np.mean(values)), seeds, over_items, over_seeds, tuple(values))

    def learned(self, place: tuple[str, str]) -> Learned:
        """The rule of `judgement.yaml` on the gate's own seeds.

        A place without gate runs falls back on the compared runs, which favours LoRA: LoRA minus frozen lies above zero
        over test items, or over seeds.
        """
        gates = [next(iter(self._scored(self.gates, place, method)), None) for method in ("lora", "frozen")]
        if gates[0] is not None and gates[1] is not None:
            return self._learned_by_gate(place, gates[0], gates[1])
        if any(place_of(gate) == place for gate in self.gates):
            return Learned(
                *place, "not known", "its gate runs (LoRA and frozen on seeds of their own) are not complete"
            )
        lora, frozen = (next(iter(self.at(place, method)), None) for method in ("lora", "frozen"))
        if lora is None or frozen is None:
            absent = " and ".join(name for name, run in (("LoRA", lora), ("frozen", frozen)) if run is None)
            return Learned(*place, "not known", f"not run: {absent}")
        if reason := unequal(lora, frozen):
            return Learned(*place, "not known", reason, lora.name, frozen.name)
        difference = self.difference(lora, frozen)
        names = lora.name, frozen.name
        if difference is None:
            return Learned(*place, "not known", "no shared seeds on the same items", *names)
        interval = difference.over_items or difference.over_seeds
        if interval is None:
            return Learned(*place, "not known", "one seed and no score of single items", *names, difference)
        if interval.low > 0:
            return Learned(*place, "learned", "LoRA clearly beats frozen", *names, difference)
        return Learned(*place, "did not learn", "LoRA does not clearly beat frozen", *names, difference)

    def _learned_by_gate(self, place: tuple[str, str], lora: Experiment, frozen: Experiment) -> Learned:
        """LoRA's mean against the best of the frozen body's and every trivial baseline's, by the measure's margin."""
        names, difference = (lora.name, frozen.name), self.difference(lora, frozen)
        if reason := unequal(lora, frozen):
            return Learned(*place, "not known", reason, *names)
        if difference is None or lora.metrics is None or difference.metric not in self.judgement.measures:
            return Learned(*place, "not known", "no shared gate seeds, or a measure without a margin", *names)
        metric, margin = difference.metric, self.judgement.measures[difference.metric].learned_by
        baselines = [run for kind in BASELINES for run in self.at(place, kind)]
        rivals = {run.name: _mean_score(run, metric) for run in (frozen, *baselines)}
        best = max(rivals, key=lambda name: rivals[name])
        lead = _mean_score(lora, metric) - rivals[best]
        against = "frozen" if best == frozen.name else "the trivial baseline"
        reason = f"LoRA lies {lead:+.3f} from {against} on the gate's seeds; {margin:g} is asked"
        return Learned(*place, "learned" if lead >= margin else "did not learn", reason, *names, difference)

    def _over_items(
        self, first: Experiment, second: Experiment, metric: str, seeds: tuple[int, ...]
    ) -> PairedDifference | None:
        rows = [next(iter(experiment.predictions.values()), []) for experiment in (first, second)]
        if not all(rows) or questions(rows[0]) != questions(rows[1]):
            return None
        a, b = self._resampled(first, metric, seeds), self._resampled(second, metric, seeds)
        if a is None or b is None:
            return None
        return paired_from_replicates(a[0] - b[0], a[1], b[1])

    def _resampled(self, experiment: Experiment, metric: str, seeds: tuple[int, ...]) -> tuple[float, Floats] | None:
        key = experiment.name, metric, seeds
        if key not in self._replicates:
            self._replicates[key] = _resample(experiment, metric, seeds)
        return self._replicates[key]


def _mean_score(experiment: Experiment, metric: str) -> float:
    """Mean over the seeds; minus infinity where a seed has no value, so that it can be no rival."""
    values = experiment.metrics.values(metric) if experiment.metrics else None
    return -math.inf if values is None else float(np.mean(list(values)))


def unequal(first: Experiment, second: Experiment) -> str | None:
    """Why two runs must not be compared: other data or another budget. None when they may be."""
    a, b = first.record, second.record
    if a is None or b is None:
        return "one of the runs left no record"
    if (a.corpus.sha256, a.corpus.train_examples) != (b.corpus.sha256, b.corpus.train_examples):
        return f"{first.name} and {second.name} were not trained on the same data"
    for name in BUDGET:
        ours, theirs = a.training.get(name), b.training.get(name)
        if ours != theirs:
            return f"unequal {name.replace('_', ' ')}: {first.name} {ours}, {second.name} {theirs}"
    return None


def place_of(experiment: Experiment) -> tuple[str, str]:
    """Backbone and task of an experiment, from its record or else from the plan."""
    record, planned = experiment.record, experiment.planned
    if record is not None:
        return record.backbone, record.task
    return (planned.backbone, planned.task) if planned else ("unknown backbone", "unknown task")


def keep_of(experiment: Experiment) -> int | None:
    """K, for the methods that keep K adapters."""
    record = experiment.record
    keep = record.method_config.get("keep") if record else None
    return int(keep) if keep is not None else None


def place_title(experiments: Sequence[Experiment], place: tuple[str, str]) -> str:
    """`CoLA on MiniLM-L6`."""
    names = [e.record.corpus.name for e in experiments if e.record is not None and place_of(e) == place]
    planned = [e.planned.corpus for e in experiments if e.planned and e.planned.corpus and place_of(e) == place]
    return f"{task_name(next(iter([*names, *planned]), place[1]))} on {backbone_name(place[0])}"


def _resample(experiment: Experiment, metric: str, seeds: tuple[int, ...]) -> tuple[float, Floats] | None:
    corpus_metric = experiment.record.corpus.metric if experiment.record else None
    stacks = []
    for seed in seeds:
        if seed not in experiment.predictions:
            return None
        rows = item_statistics(metric, experiment.form, experiment.predictions[seed], corpus_metric)
        if rows is None:
            return None
        stacks.append(rows)
    widths = {rows.shape[1] for rows in stacks}
    if not stacks or len(widths) > 1:
        return None
    stack, statistic = np.stack(stacks), statistic_of(metric, experiment.form)
    estimate = float(np.mean(statistic(stack.sum(axis=1))))
    return estimate, seed_replicates(stack, statistic, resamples=RESAMPLES)


def _task_row(experiment: Experiment, searches: Mapping[str, Search]) -> TaskRow:
    record, metrics, planned = experiment.record, experiment.metrics, experiment.planned
    backbone, task = place_of(experiment)
    method = record.method if record else planned.method if planned else ""
    config = record.method_config if record else planned.settings if planned else {}
    scores: dict[str, SeedSummary | None] = {}
    for name in metrics.metrics if metrics else ():
        values = metrics.values(name) if metrics else None
        scores[name] = None if values is None else summarise_seeds(values)
    corpus = record.corpus if record else None
    start = record.counts_at_start if record else None
    return TaskRow(
        profile=experiment.profile,
        experiment=experiment.name,
        method=method_key(method, config),
        label=method_label(method, config) if method else experiment.name,
        backbone=backbone,
        task=task,
        corpus=corpus.name if corpus else planned.corpus if planned else "",
        corpus_label=corpus.label if corpus else "",
        licence=corpus.licence if corpus else "",
        note=corpus.note if corpus else "",
        split=corpus.reported_split if corpus else "",
        comparable=corpus.comparable if corpus else None,
        form=experiment.form,
        status=experiment.status,
        metrics=metrics.metrics if metrics else (),
        primary=metrics.primary if metrics else None,
        scores=scores,
        items=metrics.items if metrics else None,
        counts=record.counts.model_dump() if record else {},
        counts_at_start=start.model_dump() if start else {},
        seeds=tuple(metrics.seeds) if metrics else experiment.seeds,
        steps=record.training.get("steps") if record else None,
        learning_rate=record.training.get("learning_rate") if record else None,
        rate_found=rate_found(experiment, searches),
    )
