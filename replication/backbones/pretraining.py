"""A small backbone from nothing: a byte-level BPE and a stock Hugging Face language model, trained on free text.

It replaces pretrained weights where no model hub is reachable. It learns the embedded corpus's world, never the
meaning-representation format, so that the frozen model has to fail at the task and an adapter has something to teach.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication.backbones.vocabularies import special_tokens, train_tokenizer
from replication.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from replication.backbones.objectives import Objective
    from replication.training.config import TrainingConfig
    from replication.training.loop import TrainingResult


@dataclass(frozen=True)
class PretrainingConfig:
    """Settings of a small backbone's pretraining.

    `vocabulary_size` counts the 256 bytes and the special tokens; `dev_passages` are held out of the text for the dev
    loss. Where the objective corrupts the text, `noise_share` is the share of corrupted tokens (None: the objective's
    usual one) and `copies` is how often each passage is in the training set, each time with different noise.
    """

    training: TrainingConfig
    vocabulary_size: int = 512
    dev_passages: int = 100
    max_length: int = 96
    noise_share: float | None = None
    copies: int = 1

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "dev_passages", "max_length", "copies"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigError(f"{name}={value!r}: a whole number is needed")
        share = self.noise_share
        if share is not None and (isinstance(share, bool) or not isinstance(share, int | float)):
            raise ConfigError(f"noise_share={share!r}: a share between 0 and 1 is needed")
        if self.vocabulary_size < 257:
            raise ConfigError(
                f"vocabulary_size={self.vocabulary_size}: a byte-level vocabulary needs at least 257 entries"
            )
        if self.dev_passages < 1:
            raise ConfigError(f"dev_passages={self.dev_passages}: at least 1 is needed")
        if self.copies < 1:
            raise ConfigError(f"copies={self.copies}: at least 1 is needed")
        if self.noise_share is not None and not 0 < self.noise_share < 1:
            raise ConfigError(f"noise_share={self.noise_share}: a share between 0 and 1 is needed")


def pretrain(
    build_model: Callable[..., PreTrainedModel],
    passages: Sequence[str],
    config: PretrainingConfig,
    *,
    separator: str,
    seed: int,
    more_text: Sequence[str] = (),
    architecture: str = "gpt2",
    task: str = "causal_lm",
    progress: str | None = None,
    checkpoint_directory: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    stop: Callable[[], int] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, TrainingResult]:
    """Train tokenizer and model; `build_model(vocab_size=..., bos_token_id=..., ...)` returns a new model.

    `passages`: one text each; the model learns nothing else. only the tokenizer sees `more_text`, so that the
    symbols of the fine-tuning format become tokens. `architecture` decides the special tokens (`vocabularies`)
    and their ids in the model's configuration, `task` the objective (`objectives`). `checkpoint_directory`, `identity`
    and `stop` are `replication.training.loop.train`'s. Returns the model in evaluation
    mode, its tokenizer, and the curves of the training.
    """
    from replication.backbones.objectives import noise_for, objective_for
    from replication.examples import separator_id
    from replication.training.determinism import seed_everything
    from replication.training.loop import train

    if len(passages) <= config.dev_passages:
        raise ConfigError(
            f"dev_passages={config.dev_passages}: the text has {len(passages)} passages, nothing is left to train on"
        )
    objective = objective_for(task)
    _check_objective(config, objective)
    tokenizer = train_tokenizer([*passages, *more_text], config.vocabulary_size, separator, architecture=architecture)
    separator_id(tokenizer, separator)
    order = list(range(len(passages)))
    random.Random(seed).shuffle(order)

    def encoded(indices: Sequence[int], copies: int) -> list[Any]:
        return [
            objective.encode(
                tokenizer,
                passages[index],
                config.max_length,
                noise_for(objective, config.noise_share, seed, index, copy),
            )
            for copy in range(copies)
            for index in indices
        ]

    dev = encoded(order[: config.dev_passages], 1)
    learned = encoded(order[config.dev_passages :], config.copies)
    seed_everything(seed)
    ids = special_tokens(architecture, separator).config_ids(tokenizer)
    model = build_model(vocab_size=len(tokenizer), **ids)
    result = train(
        model,
        learned,
        dev,
        config.training,
        seed=seed,
        pad_id=int(tokenizer.pad_token_id),
        loss_function=objective.loss,
        collate_function=objective.collate,
        progress=progress,
        checkpoint_directory=checkpoint_directory,
        identity=identity,
        stop=stop,
    )
    return model.eval(), tokenizer, result


def _check_objective(config: PretrainingConfig, objective: Objective) -> None:
    """ConfigError for a setting that the objective would ignore."""
    if not objective.share:
        for name, unset in (("copies", 1), ("noise_share", None)):
            if (value := getattr(config, name)) != unset:
                raise ConfigError(f"{name}={value}: the {objective.name} objective corrupts nothing; leave it out")
    if config.training.label_smoothing and objective.loss is not None:
        raise ConfigError(
            f"label_smoothing={config.training.label_smoothing}: the {objective.name} objective has none; set it to 0"
        )
