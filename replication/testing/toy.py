"""A problem small enough to see: a tiny GPT-2 that has learned to count meets sequences with another rule.

Each sequence is 12 of 24 symbols. `counting` goes up by one: 7 8 9 10 ... (modulo 24); `skipping` goes up by two.
`alternating` repeats two symbols: 5 17 5 17 ... The first two rules need the last symbol only; the third needs the one
before it, so a model that counts has to change what its attention carries. Everything is drawn from seeds and trained
by `replication.training`, in seconds on one core. It shows how methods behave, not how well they do
on language.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replication.errors import ConfigError
from replication.examples import Encoded
from replication.methods.full import FullConfig
from replication.methods.shared.base import MethodConfig, attach, detach, report_state
from replication.training.config import TrainingConfig

if TYPE_CHECKING:
    from torch import nn

    from replication.training.loop import TrainingResult

SYMBOLS, LENGTH, GIVEN = 24, 12, 2  # the loss leaves out the given symbols, which cannot be predicted


def _counting(draw: random.Random) -> list[int]:
    start = draw.randrange(SYMBOLS)
    return [(start + position) % SYMBOLS for position in range(LENGTH)]


def _skipping(draw: random.Random) -> list[int]:
    start = draw.randrange(SYMBOLS)
    return [(start + 2 * position) % SYMBOLS for position in range(LENGTH)]


def _alternating(draw: random.Random) -> list[int]:
    pair = draw.sample(range(SYMBOLS), 2)
    return [pair[position % 2] for position in range(LENGTH)]


RULES: dict[str, Callable[[random.Random], list[int]]] = {
    "counting": _counting,
    "skipping": _skipping,
    "alternating": _alternating,
}


@dataclass(frozen=True)
class Adapted:
    """One toy run: the model with its method attached, the loop's result, and what the method chose, if it chooses."""

    model: nn.Module
    result: TrainingResult
    choices: dict[str, Any] | None

    @property
    def dev_loss(self) -> float:
        """Nats per symbol on the dev sequences after the last step."""
        assert self.result.dev_loss is not None
        return self.result.dev_loss


def sequences(rule: str, count: int, seed: int) -> list[Encoded]:
    """`count` sequences of a rule of `RULES`, always the same for a seed; ConfigError for another rule."""
    if rule not in RULES:
        raise ConfigError(f"rule={rule!r}: unknown; valid are {', '.join(RULES)}")
    draw = random.Random(f"{rule}/{seed}")
    return [Encoded(RULES[rule](draw), [0] * GIVEN + [1] * (LENGTH - GIVEN)) for _ in range(count)]


def splits(rule: str) -> tuple[list[Encoded], list[Encoded]]:
    """400 sequences to learn from and 60 for the dev loss."""
    return sequences(rule, 400, seed=0), sequences(rule, 60, seed=1)


def toy_training(steps: int, learning_rate: float, **changes: Any) -> TrainingConfig:
    """Batches of 16, two steps of warm-up at most, one thread, no label smoothing."""
    shared: dict[str, Any] = {"batch_size": 16, "warmup_steps": min(2, steps), "label_smoothing": 0.0, "threads": 1}
    return TrainingConfig(steps=steps, learning_rate=learning_rate, **{**shared, **changes})


def counting_model(blocks: int = 2, width: int = 32, steps: int = 300, seed: int = 0) -> nn.Module:
    """A stock GPT-2 without dropout, trained to count; evaluation mode. Takes a few seconds of one core."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from replication.training.loop import train

    sizes: dict[str, Any] = {"vocab_size": SYMBOLS, "n_positions": LENGTH, "n_embd": width, "n_head": 2}
    no_dropout: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(GPT2Config(**sizes, **no_dropout, n_layer=blocks, bos_token_id=0, eos_token_id=0))
        attach(model, FullConfig())
        train(model, *splits("counting"), toy_training(steps, 3e-3, warmup_steps=min(10, steps)), seed=seed, pad_id=0)
    return detach(model).eval()


def adapt(
    base: nn.Module,
    config: MethodConfig,
    *,
    seed: int,
    steps: int = 60,
    learning_rate: float = 0.01,
    rule: str = "alternating",
    prepare: Callable[[nn.Module], object] | None = None,
    **training: Any,
) -> Adapted:
    """Fine-tune a copy of `base` by one method, on the sequences of `rule`.

    `prepare(model)` may change start values after the method is attached. `training` changes `toy_training`.
    """
    from replication.training.loop import train

    model = attach(copy.deepcopy(base), config)
    if prepare is not None:
        prepare(model)
    settings = toy_training(steps, learning_rate, **training)
    callback = config.training_callback(settings)
    result = train(
        model,
        *splits(rule),
        settings,
        seed=seed,
        pad_id=0,
        report_state=report_state,
        callback=callback,
    )
    return Adapted(model, result, callback.summary() if callback else None)
