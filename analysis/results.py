"""From experiments to rows: mean and spread over seeds, BLEU's uncertainty over items, parameter ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from analysis.labels import BACKBONE_NAMES, METHOD_NAMES, METHOD_ORDER, experiment_labels
from analysis.published import METRICS
from analysis.records import Experiment, Status, of_generation
from analysis.statistics import (
    Interval,
    PairedDifference,
    SeedSummary,
    bootstrap_interval,
    paired_bootstrap,
    summarise_seeds,
)
from replication.metrics.bleu import bleu_from_statistics, segment_statistics
from replication.records import RunRecord

RESAMPLES = 2000
__all__ = [
    "BACKBONE_NAMES", "METHOD_NAMES", "METHOD_ORDER", "RESAMPLES", "ResultRow", "base_parameters", "bleu_difference",
    "bleu_over_items", "experiment_labels", "is_reading", "reference_lora", "result_rows", "segment_stack",
]  # fmt: skip


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


def result_rows(experiments: Sequence[Experiment]) -> list[ResultRow]:
    """One row per generation experiment, in the order given, also for experiments without results."""
    experiments = of_generation(experiments)
    labels = experiment_labels(experiments)
    return [_row(experiment, labels[experiment.name], experiments) for experiment in experiments]


def bleu_over_items(experiment: Experiment, method: str = "bca") -> Interval | None:
    """95 % interval of the seeds' mean BLEU over test items; None without predictions."""
    stack = segment_stack(experiment)
    if stack is None:
        return None
    return bootstrap_interval(stack, bleu_from_statistics, method=method, resamples=RESAMPLES)


def bleu_difference(first: Experiment, second: Experiment) -> PairedDifference | None:
    """first minus second on the same items and shared seeds; None where there are none."""
    seeds = [seed for seed in first.predictions if seed in second.predictions]
    if not seeds or _questions(first) != _questions(second):
        return None
    a, b = segment_stack(first, tuple(seeds)), segment_stack(second, tuple(seeds))
    if a is None or b is None:
        return None
    return paired_bootstrap(a, b, bleu_from_statistics, resamples=RESAMPLES)


def segment_stack(experiment: Experiment, seeds: tuple[int, ...] | None = None) -> npt.NDArray[np.float64] | None:
    """BLEU statistics of every seed's predictions, shape (n_seeds, n_items, 10)."""
    chosen = [rows for seed, rows in experiment.predictions.items() if seeds is None or seed in seeds]
    if not chosen or not chosen[0] or len({len(rows) for rows in chosen}) > 1:
        return None
    return np.stack(
        [
            _segments(tuple((row["prediction"], tuple(row["references"])) for row in rows)).astype(np.float64)
            for rows in chosen
        ]
    )


@lru_cache(maxsize=256)
def _segments(pairs: tuple[tuple[str, tuple[str, ...]], ...]) -> npt.NDArray[np.int64]:
    return segment_statistics([text for text, _ in pairs], [references for _, references in pairs])


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
    plain = {"sparsity": 0.0, "links": None, "lora": None, "layer_norm": False, "homotopy_parameter": 0.1,
             "train_autoencoder": True, "shared_autoencoder": True}  # fmt: skip
    return (config.get("rank"), config.get("skip_length")) == (rank, skip_length) and all(
        config.get(name, value) == value for name, value in plain.items()
    )
