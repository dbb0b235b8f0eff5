"""Train one method with one seed: shared by the stages `finetune` and `search`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.plan import Plan
from replication.counting import Counts, parameter_counts
from replication.fileio import read_jsonl

if TYPE_CHECKING:
    from torch import nn

    from replication.examples import Encoded, TextPair
    from replication.training import TrainingConfig, TrainingResult


@dataclass(frozen=True)
class Fitted:
    """A trained model with its counts and the curves of its training."""

    model: nn.Module
    counts: Counts
    result: TrainingResult


def load_pairs(plan: Plan) -> tuple[list[TextPair], list[TextPair]]:
    """The prepared training and dev pairs."""
    from replication.examples import TextPair

    return tuple(  # type: ignore[return-value]
        [TextPair(**row) for row in read_jsonl(plan.prepared / f"{split}.jsonl")] for split in ("train", "dev")
    )


def fit(
    plan: Plan,
    train_pairs: list[TextPair],
    dev_pairs: list[TextPair],
    training: TrainingConfig,
    *,
    seed: int,
    title: str,
    checkpoint_directory: Path | None = None,
    identity: dict[str, Any] | None = None,
) -> Fitted:
    """Load the backbone, attach the method, train. All random sources start from `seed`."""
    from replication.adapters import attach, report_state
    from replication.backbones import load_model, load_tokenizer, separator_id
    from replication.training import train

    model = attach(load_model(plan.experiment.backbone, plan.weights), plan.method(seed))
    tokenizer = load_tokenizer(plan.experiment.backbone, plan.weights)
    separator = separator_id(tokenizer, plan.backbone.separator)
    result = train(
        model,
        encode(tokenizer, train_pairs, separator, training.max_length),
        encode(tokenizer, dev_pairs, separator, training.max_length),
        training,
        seed=seed,
        pad_id=separator,
        checkpoint_directory=checkpoint_directory,
        identity=identity,
        report_state=report_state,
        progress=title,
    )
    return Fitted(model, parameter_counts(model), result)


def encode(tokenizer: Any, pairs: list[TextPair], separator: int, max_length: int) -> list[Encoded]:
    """Token ids and loss masks of all pairs."""
    from replication.examples import encode_pair

    return [encode_pair(tokenizer, pair, separator, max_length) for pair in pairs]


def describe(plan: Plan) -> str:
    """What would be trained, on the real architecture built without memory; checks that the method fits it."""
    from replication.adapters import attach
    from replication.backbones import build_empty

    model = attach(build_empty(plan.experiment.backbone), plan.method(plan.experiment.seeds[0]))
    counts = parameter_counts(model)
    return (
        f"would train {plan.key}: {plan.experiment.method} on {plan.experiment.backbone}, task {plan.experiment.task}, "
        f"{counts.trainable:,} trainable of {counts.total:,} parameters, {plan.training.steps} steps of "
        f"{plan.training.batch_size}, learning rate {plan.training.learning_rate:g}, seeds "
        f"{', '.join(map(str, plan.experiment.seeds))}"
    )
