"""Settings of one training run, checked when they are made; needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from replication.errors import ConfigError

BF16, BF16_WEIGHTS = "bf16", "bf16_weights"
PRECISIONS = ("no", BF16, BF16_WEIGHTS)
BATCHINGS = ("random", "bucketed")
_LATER = ("prefix_cache", "attention", "compile", "fused_adamw", "pin_memory")
"""Settings that records, identities and checkpoints name only where they are not the default."""


@dataclass(frozen=True)
class TrainingConfig:
    """The LoRA paper's E2E recipe, except `steps`, which depends on the corpus (there: 5 epochs).

    One step is one update of the weights, on `batch_size * accumulation_steps` examples. `log_every`,
    `eval_every` and `checkpoint_every` count steps; None means only at the start and the end
    (`eval_every`), or only at the end (`checkpoint_every`). `threads` None leaves torch's number of CPU
    threads as it is. `mixed_precision`: "bf16" computes in bfloat16 (autocast) over float32 weights, "bf16_weights"
    over a backbone whose weights are bfloat16 (`narrow_weights` of replication/training/bfloat16.py, before a method
    is attached), while adapters, head and optimizer stay float32. `batching`: how an epoch is cut into batches
    (`replication.examples.indices_of_step`); a record without the field was made with "random". `prefix_cache`: run the
    blocks before the first trained one once an example, in evaluation mode, and keep up to so many GiB of their output
    on the disk (replication/training/prefix_cache.py); None runs them at every step.

    Four settings for speed on a GPU, each off unless given: `attention` is the implementation that transformers uses
    ("sdpa", "eager", "flash_attention_2"; None: its own choice), set where the backbone is loaded; `compile` names a
    backend of torch.compile ("inductor") for the training steps; `fused_adamw` updates all parameters in one kernel;
    `pin_memory` copies batches from page-locked memory without waiting, where there is a GPU.
    """

    steps: int
    learning_rate: float = 2e-4
    batch_size: int = 8
    accumulation_steps: int = 1
    warmup_steps: int = 500
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    max_length: int = 512
    max_grad_norm: float | None = None
    gradient_checkpointing: bool = False
    mixed_precision: str = "no"
    log_every: int = 10
    eval_every: int | None = None
    checkpoint_every: int | None = None
    deterministic: bool = True
    threads: int | None = None
    batching: str = "random"
    prefix_cache: float | None = None
    attention: str | None = None
    compile: str | None = None
    fused_adamw: bool = False
    pin_memory: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation_steps", "max_length", "log_every"):
            self._whole(name, 1)
        self._whole("warmup_steps", 0)
        for name in ("eval_every", "checkpoint_every", "threads"):
            self._whole(name, 1, optional=True)
        self._number("learning_rate", "a number above 0", lambda value: value > 0)
        self._number("weight_decay", "a number of at least 0", lambda value: value >= 0)
        self._number("label_smoothing", "a number from 0 to below 1", lambda value: 0 <= value < 1)
        if self.max_grad_norm is not None:
            self._number("max_grad_norm", "None or a number above 0", lambda value: value > 0)
        for name in ("gradient_checkpointing", "deterministic", "fused_adamw", "pin_memory"):
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "true or false")
        if self.mixed_precision not in PRECISIONS:
            self._refuse("mixed_precision", f"one of {', '.join(PRECISIONS)}")
        if self.batching not in BATCHINGS:
            self._refuse("batching", f"one of {', '.join(BATCHINGS)}")
        if self.prefix_cache is not None:
            valid = "None (off) or the most GiB on the disk, at least 0 and at most 1e9"
            self._number("prefix_cache", valid, lambda value: 0 <= value <= 1e9)
        for name in ("attention", "compile"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                self._refuse(name, "None or a name")
        if self.compile is not None and self.prefix_cache is not None:
            self._refuse("compile", "None with prefix_cache, which changes the forward pass by hooks on the way")
        if self.warmup_steps > self.steps:
            self._refuse("warmup_steps", f"at most steps={self.steps}")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> TrainingConfig:
        """From a parameter file's mapping; ConfigError names unknown and missing fields."""
        valid = [field.name for field in fields(cls)]
        if unknown := [str(name) for name in settings if name not in valid]:
            raise ConfigError(f"unknown training setting {', '.join(unknown)}; valid are {', '.join(valid)}")
        if "steps" not in settings:
            raise ConfigError("training setting steps is missing; set it to the number of weight updates")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values, in the order of the fields; `_LATER` ones only if they are not the default."""
        unset = {
            field.name for field in fields(self) if field.name in _LATER and getattr(self, field.name) == field.default
        }
        return {name: value for name, value in asdict(self).items() if name not in unset}

    def _whole(self, name: str, least: int, *, optional: bool = False) -> None:
        value = getattr(self, name)
        if optional and value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self._refuse(name, f"{'None or ' if optional else ''}a whole number of at least {least}")

    def _number(self, name: str, valid: str, holds: Any) -> None:
        value = getattr(self, name)
        if isinstance(value, str):
            valid += " (a number, not text: YAML 1.1 reads 2e-4 as text and 2.0e-4 as a number)"
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self._refuse(name, valid)
        if not holds(value):
            self._refuse(name, valid)

    def _refuse(self, name: str, valid: str) -> None:
        raise ConfigError(f"training setting {name} must be {valid}, got {getattr(self, name)!r}")


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Rate of update `step` (1 .. steps): linear from 0 over the warm-up, then linear down towards 0.

    Equals `transformers.get_linear_schedule_with_warmup`, whose first update under a warm-up has rate 0.
    """
    done = step - 1
    if done < config.warmup_steps:
        return config.learning_rate * done / config.warmup_steps
    return config.learning_rate * (config.steps - done) / max(1, config.steps - config.warmup_steps)
