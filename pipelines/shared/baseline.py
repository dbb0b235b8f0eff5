"""The method `baseline` in the stages: `finetune` counts training rows, `predict` needs at most an untrained backbone.

adapter/seed-<s>/baseline.json holds what was learned. Everything else a run writes has the form of any method's: a
record of 0 steps, curves of one row, prediction rows (without logits or scores).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.shared.cost import Start, seed_cost
from pipelines.shared.paths import BASELINE_FILE, corpus_of, read_rows
from replication.errors import ConfigError, DataError
from replication.fileio import read_json, replaced_directory, write_json

if TYPE_CHECKING:
    from pipelines.shared.experiment import Experiment
    from pipelines.shared.fitting import Fitted
    from replication.counting import Counts
    from replication.methods.baseline import BaselineConfig


def config_of(experiment: Experiment) -> BaselineConfig:
    """The experiment's configuration; ConfigError if its method is another one."""
    if experiment.baseline is None:
        raise ConfigError(f"{experiment.where}: method {experiment.method} is no baseline")
    return experiment.baseline


def learn_baseline(experiment: Experiment, seed: int, finished: Path) -> None:
    """Write one seed's adapter, record, curves and cost, as `finetune.finished_seed` does; complete or not at all."""
    from pipelines.shared.records import outcome, saved_adapter, training_record
    from replication.methods.baseline import learn
    from replication.records import write_curves, write_record

    start = Start()
    learned = learn(config_of(experiment), read_rows(experiment.prepared, "train"))
    with replaced_directory(finished) as folder:
        write_json(folder / "adapter" / BASELINE_FILE, learned)
        fitted = nothing_fitted(experiment)
        write_curves(folder / "training" / "curves.csv", fitted.result.curves)
        adapter = saved_adapter(experiment, folder / "adapter")
        record = training_record(experiment, seed, outcome(experiment, fitted), adapter, corpus_of(experiment.prepared))
        write_record(folder / "training" / "record.json", record.model_copy(update={"training": {"steps": 0}}))
        write_json(folder / "cost.json", seed_cost(start))


def nothing_fitted(experiment: Experiment) -> Fitted:
    """A training of no steps of no parameters, with one row of curves without losses."""
    from torch import nn

    from pipelines.shared.fitting import Fitted
    from replication.training.loop import TrainingResult

    row: dict[str, Any] = {"step": 0, "loss": None, "dev_loss": None, "learning_rate": None}
    result = TrainingResult(
        steps=0,
        tokens_seen=0,
        final_loss=None,
        dev_loss=None,
        curves=[row],
        update_seconds=0.0,
        peak_memory_bytes=0,
        peak_cuda_memory_bytes=None,
    )
    counts = baseline_counts(experiment)
    return Fitted(nn.Module(), counts, counts, result, None)


def baseline_counts(experiment: Experiment) -> Counts:
    """Nothing trains; `total` is the headless backbone where the baseline reads it, else 0. Loads no weights."""
    from replication.backbones import build_empty
    from replication.counting import Counts

    none = Counts(adapter=0, importance=0, head=0, trainable=0, total=0)
    if not config_of(experiment).uses_backbone:
        return none
    model = build_empty(experiment.backbone.name, task=experiment.form.model_task, num_labels=experiment.num_labels)
    return replace(none, total=sum(parameter.numel() for parameter in model.base_model.parameters()))


def predict_baseline(experiment: Experiment, seed: int) -> list[dict[str, Any]]:
    """One row for each reported item, in order."""
    from replication.methods.baseline import predict_rows

    path = experiment.run / "adapter" / f"seed-{seed}" / BASELINE_FILE
    learned, items = read_json(path), read_rows(experiment.prepared, "test")
    if learned.get("kind") != config_of(experiment).kind:
        raise DataError(
            f"{path}, kind: {learned.get('kind')!r}, but the experiment's is {config_of(experiment).kind!r}; "
            f"`dvc repro finetune@{experiment.key}` recomputes it"
        )
    return predict_rows(
        learned, items, _cosines(experiment, seed, items) if config_of(experiment).uses_backbone else None
    )


def _cosines(experiment: Experiment, seed: int, items: list[dict[str, Any]]) -> list[float]:
    from pipelines.shared.fitting import load_base
    from replication.backbones import load_tokenizer
    from replication.methods.baseline import text_cosines
    from replication.training.determinism import deterministic_algorithms
    from replication.training.device import default_device
    from replication.training.progress import progress_bar

    body, options = load_base(experiment, seed).base_model, experiment.options.recorded()
    tokenizer = load_tokenizer(experiment.backbone.name, experiment.weights)
    title = f"predict {experiment.key}, seed {seed}"
    with deterministic_algorithms(experiment.threads), progress_bar(title, total=len(items)) as advance:
        return text_cosines(
            body.to(default_device()),
            tokenizer,
            items,
            max_length=options["max_length"],
            batch_size=options["batch_size"],
            progress=advance,
        )
