"""Train one method with one seed: shared by the stages `finetune` and `search`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.shared.experiment import Experiment
from pipelines.shared.paths import Rows
from pipelines.shared.signals import between_steps
from replication.counting import Counts, parameter_counts
from replication.training.config import BF16_WEIGHTS

if TYPE_CHECKING:
    from torch import nn

    from replication.training.callbacks import Callback
    from replication.training.loop import TrainingResult
    from replication.training.tracking import Track


@dataclass(frozen=True)
class Fitted:
    """A trained model with its counts at the start and at the end, the curves, and what the method chose on the way."""

    model: nn.Module
    counts_at_start: Counts
    counts: Counts
    result: TrainingResult
    choices: dict[str, Any] | None


def fit(
    experiment: Experiment,
    train_rows: Rows,
    dev_rows: Rows,
    *,
    seed: int,
    title: str | None,
    checkpoint_directory: Path | None = None,
    identity: dict[str, Any] | None = None,
    track: Track | None = None,
    watch: Callable[[Any], Callback] = lambda callback: callback,
) -> Fitted:
    """Load the backbone, attach the method, train. All random sources start from the run's training seed.

    `watch` may put another callback around the method's.
    """
    from replication.backbones import load_tokenizer
    from replication.methods import attach, report_state
    from replication.training.bfloat16 import fast_bfloat16_products
    from replication.training.loop import train

    form, options, training = experiment.form, experiment.options, experiment.training
    method, start = experiment.methods[seed], experiment.training_seeds[seed]
    model = attach(load_base(experiment, start), method)
    tokenizer = load_tokenizer(experiment.backbone.name, experiment.weights)
    form.prepare_model(model, tokenizer)
    at_start = parameter_counts(model)
    callback = watch(method.training_callback(training))
    with fast_bfloat16_products(enabled=training.mixed_precision != "no"), between_steps() as stop:
        result = train(
            model,
            form.encode(tokenizer, train_rows, options),
            form.encode(tokenizer, dev_rows, options),
            training,
            seed=start,
            pad_id=form.pad_id(tokenizer, options),
            checkpoint_directory=checkpoint_directory,
            identity=identity,
            report_state=report_state,
            callback=callback,
            progress=title,
            track=track,
            loss_function=form.training_loss(training.label_smoothing),
            collate_function=form.collate,
            stop=stop,
        )
    return Fitted(model, at_start, parameter_counts(model), result, callback.summary() if callback else None)


def load_base(experiment: Experiment, seed: int) -> Any:
    """The backbone for the experiment's task, in bfloat16 if its training says so; a head missing in the weights is
    initialised from `seed`.
    """
    import torch

    from replication.backbones import load_model
    from replication.training.determinism import seed_everything

    seed_everything(seed)
    return load_model(
        experiment.backbone.name,
        experiment.weights,
        task=experiment.form.model_task,
        num_labels=experiment.num_labels,
        dtype=torch.bfloat16 if experiment.training.mixed_precision == BF16_WEIGHTS else torch.float32,
        attention=experiment.training.attention,
    )


def describe(experiment: Experiment) -> str:
    """Parameter counts on the real architecture built without memory; checks that the method fits it."""
    seeds = ", ".join(map(str, experiment.seeds))
    if experiment.baseline is not None:
        return (
            f"would compute {experiment.key}: baseline {experiment.baseline.kind}, task {experiment.task}, nothing "
            f"trained, seeds {seeds}"
        )
    from replication.backbones import build_empty
    from replication.methods import attach

    base = build_empty(experiment.backbone.name, task=experiment.form.model_task, num_labels=experiment.num_labels)
    counts = parameter_counts(attach(base, experiment.methods[experiment.seeds[0]]))
    return (
        f"would train {experiment.key}: {experiment.method} on {experiment.backbone.name}, task {experiment.task}, "
        f"{counts.trainable:,} trainable of {counts.total:,} parameters, {experiment.training.steps} steps of "
        f"{experiment.training.batch_size}, learning rate {experiment.training.learning_rate:g}, seeds {seeds}"
    )
