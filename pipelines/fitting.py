"""Train one method with one seed: shared by the stages `finetune` and `search`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.baseline import describe_baseline, is_baseline
from pipelines.plan import Plan
from pipelines.tasks import Rows
from replication.counting import Counts, parameter_counts

if TYPE_CHECKING:
    from torch import nn

    from replication.training.config import TrainingConfig
    from replication.training.loop import TrainingResult


@dataclass(frozen=True)
class Fitted:
    """A trained model with its counts at the start and at the end, the curves, and what the method chose on the way."""

    model: nn.Module
    counts_at_start: Counts
    counts: Counts
    result: TrainingResult
    choices: dict[str, Any] | None


def fit(
    plan: Plan,
    train_rows: Rows,
    dev_rows: Rows,
    training: TrainingConfig,
    *,
    seed: int,
    title: str,
    checkpoint_directory: Path | None = None,
    identity: dict[str, Any] | None = None,
) -> Fitted:
    """Load the backbone, attach the method, train. All random sources start from `seed`, or the plan's own."""
    from replication.backbones import load_tokenizer
    from replication.methods import attach, report_state
    from replication.training.bfloat16 import fast_bfloat16_products
    from replication.training.loop import train

    method = plan.method(seed)
    seed = plan.training_seed(seed)
    model = attach(load_base(plan, seed), method)
    tokenizer = load_tokenizer(plan.experiment.backbone, plan.weights)
    plan.task.prepare_model(model, tokenizer)
    at_start = parameter_counts(model)
    callback = method.training_callback(training)
    with fast_bfloat16_products(enabled=training.mixed_precision == "bf16"):
        result = train(
            model,
            plan.task.encode(tokenizer, train_rows, training.max_length),
            plan.task.encode(tokenizer, dev_rows, training.max_length),
            training,
            seed=seed,
            pad_id=plan.task.pad_id(tokenizer),
            checkpoint_directory=checkpoint_directory,
            identity=identity,
            report_state=report_state,
            callback=callback,
            progress=title,
            **plan.task.train_arguments(training),
        )
    return Fitted(model, at_start, parameter_counts(model), result, callback.summary() if callback else None)


def load_base(plan: Plan, seed: int) -> Any:
    """The backbone for the plan's task; a head that the weights lack starts from `seed`."""
    from replication.backbones import load_model
    from replication.training.determinism import seed_everything

    seed_everything(seed)
    return load_model(
        plan.experiment.backbone,
        plan.weights,
        task=plan.task.model_task,
        num_labels=plan.task.num_labels(),
    )


def describe(plan: Plan) -> str:
    """What would be trained, on the real architecture built without memory; checks that the method fits it."""
    if is_baseline(plan):
        return describe_baseline(plan)
    from replication.backbones import build_empty
    from replication.methods import attach

    base = build_empty(plan.experiment.backbone, task=plan.task.model_task, num_labels=plan.task.num_labels())
    counts = parameter_counts(attach(base, plan.method(plan.experiment.seeds[0])))
    return (
        f"would train {plan.key}: {plan.experiment.method} on {plan.experiment.backbone}, task {plan.experiment.task}, "
        f"{counts.trainable:,} trainable of {counts.total:,} parameters, {plan.training.steps} steps of "
        f"{plan.training.batch_size}, learning rate {plan.training.learning_rate:g}, seeds "
        f"{', '.join(map(str, plan.experiment.seeds))}"
    )
