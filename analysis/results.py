"""From experiments to rows: mean and spread over seeds, BLEU's uncertainty over items, parameter ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np

from analysis.bootstrap import (
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
from analysis.decision import LEAST_SEEDS, Difference
from analysis.items import is_approximate, item_statistics, statistic_of
from analysis.labels import experiment_labels
from analysis.names import BACKBONE_NAMES, METHOD_NAMES, METHOD_ORDER
from analysis.published import METRICS
from analysis.records import Experiment, Status, of_generation
from analysis.scores import GENERATION
from analysis.statistics import SeedSummary, summarise_seeds, t_interval
from replication.records import RunRecord

__all__ = [
    "BACKBONE_NAMES", "METHOD_NAMES", "METHOD_ORDER", "RESAMPLES", "ResultRow", "base_parameters", "bleu_difference",
    "bleu_over_items", "experiment_labels", "generation_difference", "is_reading", "metric_over_items", "metric_stack",
    "reference_lora", "result_rows", "segment_stack",
]  # fmt: skip

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
    return [_row(experiment, labels[experiment.name], experiments) for experiment in experiments]


def bleu_over_items(experiment: Experiment, method: str = "bca") -> Interval | None:
    """95 % interval of the seeds' mean BLEU over test items; None without predictions."""
    return metric_over_items(experiment, "BLEU", method)


def metric_over_items(experiment: Experiment, metric: str, method: str = "bca") -> Interval | None:
    """95 % interval of the seeds' mean score over test items; None without predictions, and for METEOR.

    Of approximate metrics (ROUGE_L, CIDEr) the estimate may differ from metrics.json in its last
    digits.
    """
    stack = metric_stack(experiment, metric)
    if stack is None:
        return None
    score = statistic_of(metric, GENERATION)
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
        is_approximate(metric, GENERATION),
    )


def segment_stack(experiment: Experiment, seeds: tuple[int, ...] | None = None) -> Floats | None:
    """BLEU statistics of every seed's predictions, shape (n_seeds, n_items, 10)."""
    return metric_stack(experiment, "BLEU", seeds)


def metric_stack(experiment: Experiment, metric: str, seeds: tuple[int, ...] | None = None) -> Floats | None:
    """`item_statistics` of every seed's predictions, shape (n_seeds, n_items, k); None without predictions."""
    wanted = tuple(experiment.predictions) if seeds is None else seeds
    chosen = [experiment.predictions[seed] for seed in wanted if seed in experiment.predictions]
    if not chosen or not chosen[0] or len({len(rows) for rows in chosen}) > 1:
        return None
    found = [item_statistics(metric, GENERATION, rows) for rows in chosen]
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
    score = statistic_of(metric, GENERATION)
    estimate = float(np.mean(score(a.sum(axis=1))) - np.mean(score(b.sum(axis=1))))
    return paired_from_replicates(estimate, _replicates(metric, a), _replicates(metric, b))


def _replicates(metric: str, stack: Floats) -> Floats:
    """`seed_replicates` of one experiment's stack, kept: every comparison it takes part in uses the same draws."""
    return _kept_replicates(metric, stack.shape, stack.tobytes(), RESAMPLES)


@lru_cache(maxsize=64)
def _kept_replicates(metric: str, shape: tuple[int, ...], content: bytes, resamples: int) -> Floats:
    stack = np.frombuffer(content).reshape(shape)
    return seed_replicates(stack, statistic_of(metric, GENERATION), resamples=resamples)


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


def _row(experiment: Experiment, label: str, experiments: Sequence[Experiment]) -> ResultRow:
    record, metrics = experiment.record, experiment.metrics
    lora = reference_lora(experiments, record) if record else None
    scores: dict[str, SeedSummary | None] = dict.fromkeys(METRICS)
    if metrics is not None:
        for metric in metrics.metrics:
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
