"""A small backbone from nothing: a byte-level BPE and a stock Hugging Face language model, trained on free text.

It stands in for pretrained weights where no model hub is reachable. It learns the embedded corpus's world, never the
meaning-representation format, so that the frozen model has to fail at the task and an adapter has something to teach.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from replication.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from replication.training import TrainingResult
    from replication.training_config import TrainingConfig


@dataclass(frozen=True)
class PretrainingConfig:
    """How a small backbone is made.

    `vocabulary_size` counts the 256 bytes and the separator; `dev_passages` are held out of the text for the dev loss.
    """

    training: TrainingConfig
    vocabulary_size: int = 512
    dev_passages: int = 100
    max_length: int = 96

    def __post_init__(self) -> None:
        if self.vocabulary_size < 257:
            raise ConfigError(
                f"vocabulary_size={self.vocabulary_size}: a byte-level vocabulary needs at least 257 entries"
            )
        if self.dev_passages < 1:
            raise ConfigError(f"dev_passages={self.dev_passages}: at least 1 is needed")


def train_tokenizer(texts: Sequence[str], vocabulary_size: int, separator: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE in GPT-2's manner; the same texts in the same order give the same merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[separator],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=separator, eos_token=separator, pad_token=separator
    )


def pretrain(
    build_model: Callable[..., PreTrainedModel],
    passages: Sequence[str],
    config: PretrainingConfig,
    *,
    separator: str,
    seed: int,
    more_text: Sequence[str] = (),
    progress: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, TrainingResult]:
    """Train tokenizer and model; `build_model(vocab_size=..., bos_token_id=..., eos_token_id=...)` gives fresh weights.

    `passages`: one text each; the model learns nothing else. `more_text` is seen by the tokenizer alone, so that the
    signs of the fine-tuning format are tokens of their own. Returns the model in evaluation mode, its tokenizer, and
    the curves of the training.
    """
    from replication.backbones import separator_id
    from replication.determinism import seed_everything
    from replication.examples import encode_text
    from replication.training import train

    if len(passages) <= config.dev_passages:
        raise ConfigError(
            f"dev_passages={config.dev_passages}: the text has {len(passages)} passages, nothing is left to train on"
        )
    tokenizer = train_tokenizer([*passages, *more_text], config.vocabulary_size, separator)
    separating = separator_id(tokenizer, separator)
    order = list(range(len(passages)))
    random.Random(seed).shuffle(order)
    encoded = [encode_text(tokenizer, passages[index], separating, config.max_length) for index in order]
    seed_everything(seed)
    model = build_model(vocab_size=len(tokenizer), bos_token_id=separating, eos_token_id=separating)
    result = train(
        model,
        encoded[config.dev_passages :],
        encoded[: config.dev_passages],
        config.training,
        seed=seed,
        pad_id=separating,
        progress=progress,
    )
    return model.eval(), tokenizer, result
