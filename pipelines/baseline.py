"""The method `baseline` in the stages: `finetune` counts training rows, `predict` needs at most an untrained backbone.

adapter/seed-<s>/baseline.json holds what was learned. Everything else a run writes has the form of any method's: a
record of 0 steps, curves of one row, prediction rows (without logits or scores).
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cost import seed_cost
from pipelines.paths import BASELINE_FILE, corpus_of
from pipelines.settings import BASELINE
from pipelines.tasks import read_rows
from replication.errors import ConfigError, DataError
from replication.fileio import read_json, replaced_directory, write_json

if TYPE_CHECKING:
    from pipelines.fitting import Fitted
    from pipelines.plan import Plan
    from replication.counting import Counts
    from replication.methods.baseline import BaselineConfig


def is_baseline(plan: Plan) -> bool:
    """Whether the plan's experiment trains nothing and attaches nothing."""
    return plan.experiment.method == BASELINE


def check_baseline(plan: Plan) -> None:
    """ConfigError naming file and field when a baseline does not apply to the form of the plan's task."""
    if not is_baseline(plan):
        return
    form = plan.settings.task(plan.experiment.task).form
    try:
        config_of(plan).check_form(form)
    except ConfigError as error:
        raise ConfigError(f"{plan.settings.params_file}: experiments.{plan.key}.settings.kind: {error}") from error


def config_of(plan: Plan) -> BaselineConfig:
    """The plan's configuration; ConfigError when its method is another one."""
    from replication.methods.baseline import BaselineConfig

    config = plan.method(plan.experiment.seeds[0])
    if not isinstance(config, BaselineConfig):
        raise ConfigError(f"{plan.key}: method {config.method} is no baseline")
    return config


def describe_baseline(plan: Plan) -> str:
    """What `finetune --dry-run` says."""
    kind, seeds = config_of(plan).kind, ", ".join(map(str, plan.experiment.seeds))
    return f"would compute {plan.key}: baseline {kind}, task {plan.experiment.task}, nothing trained, seeds {seeds}"


def learn_baseline(plan: Plan, seed: int, finished: Path) -> None:
    """Write one seed's adapter, record, curves and cost, as `finetune.keep` does; complete or not at all."""
    from pipelines.records import training_record
    from replication.methods.baseline import learn
    from replication.records import write_curves, write_record

    started = time.perf_counter()
    learned = learn(config_of(plan), read_rows(plan.prepared, "train"))
    with replaced_directory(finished) as folder:
        write_json(folder / "adapter" / BASELINE_FILE, learned)
        fitted = nothing_fitted(plan)
        write_curves(folder / "training" / "curves.csv", fitted.result.curves)
        record = training_record(plan, seed, fitted, folder / "adapter", corpus_of(plan.prepared))
        write_record(folder / "training" / "record.json", record.model_copy(update={"training": {"steps": 0}}))
        write_json(folder / "cost.json", seed_cost(time.perf_counter() - started))


def nothing_fitted(plan: Plan) -> Fitted:
    """A training of no steps of no parameters, with one row of curves without losses."""
    from torch import nn

    from pipelines.fitting import Fitted
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
    counts = baseline_counts(plan)
    return Fitted(nn.Module(), counts, counts, result, None)


def baseline_counts(plan: Plan) -> Counts:
    """Nothing trains; `total` is the headless backbone where the baseline reads it, else 0. Loads no weights."""
    from replication.backbones import build_empty
    from replication.counting import Counts

    none = Counts(adapter=0, importance=0, head=0, trainable=0, total=0)
    if not config_of(plan).uses_backbone:
        return none
    labels = plan.task.num_labels()
    model = build_empty(plan.experiment.backbone, task=plan.task.model_task, num_labels=labels)
    return replace(none, total=sum(parameter.numel() for parameter in model.base_model.parameters()))


def predict_baseline(plan: Plan, seed: int) -> list[dict[str, Any]]:
    """One row for each reported item, in order."""
    from replication.methods.baseline import predict_rows

    path = plan.run / "adapter" / f"seed-{seed}" / BASELINE_FILE
    learned, items = read_json(path), read_rows(plan.prepared, "test")
    if learned.get("kind") != config_of(plan).kind:
        raise DataError(
            f"{path}, kind: {learned.get('kind')!r}, but the experiment's is {config_of(plan).kind!r}; "
            f"`dvc repro finetune@{plan.key}` makes it anew"
        )
    return predict_rows(learned, items, _cosines(plan, seed, items) if config_of(plan).uses_backbone else None)


def _cosines(plan: Plan, seed: int, items: list[dict[str, Any]]) -> list[float]:
    from pipelines.fitting import load_base
    from replication.backbones import load_tokenizer
    from replication.methods.baseline import text_cosines
    from replication.training.determinism import deterministic_algorithms
    from replication.training.progress import progress_bar

    body, options = load_base(plan, seed).base_model, plan.task.settings()
    tokenizer = load_tokenizer(plan.experiment.backbone, plan.weights)
    title = f"predict {plan.key}, seed {seed}"
    with deterministic_algorithms(plan.settings.threads), progress_bar(title, total=len(items)) as advance:
        return text_cosines(
            body,
            tokenizer,
            items,
            max_length=options["max_length"],
            batch_size=options["batch_size"],
            progress=advance,
        )
