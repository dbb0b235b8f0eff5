"""Checks that stop a training run: before it starts, or at a batch without a finite loss."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from replication.errors import ConfigError, DataError, TrainingError
from replication.training.config import TrainingConfig
from replication.training.prefix_cache import check_prefix_cache

VIRTUAL_TOKENS = "_replication_virtual_tokens"
"""Attribute of a model: how many positions a method takes before the input."""


def check_before_training(
    model: Any,
    train_examples: Sequence[Any],
    dev_examples: Sequence[Any],
    config: TrainingConfig,
    processes: int,
    *,
    trains: bool,
) -> None:
    """All that can be known to fail before any work."""
    sharded = asks_for_sharding() and processes > 1
    window = config.batch_size * config.accumulation_steps
    if trains and not train_examples:
        raise DataError("there are no training examples")
    if trains and window > len(train_examples):
        raise ConfigError(
            f"batch_size * accumulation_steps is {window}, more than the {len(train_examples)} training "
            "examples; lower one of them"
        )
    if config.batch_size % processes:
        raise ConfigError(f"batch_size {config.batch_size} must be a multiple of {processes} processes")
    if config.gradient_checkpointing and not hasattr(model, "activation_checkpointing_enable"):
        raise ConfigError(f"{type(model).__name__} cannot do gradient_checkpointing; set it to false")
    check_compile(config.compile)
    has = getattr(getattr(model, "config", None), "_attn_implementation", None)
    # transformers may put a kernel of another name in the place of flash attention
    if config.attention not in (None, has) and has in (None, "eager", "sdpa"):
        raise ConfigError(
            f"training setting attention={config.attention!r}: the model has {has!r}, and training does not change it; "
            "load or build the model with it (load_model(..., attention=...))"
        )
    if trains and config.prefix_cache is not None:
        check_prefix_cache(model, config.gradient_checkpointing)
        if sharded:
            raise ConfigError("prefix_cache: a block that is left out is not gathered by FSDP2; remove the setting")
    positions = free_positions(model)
    for name, examples in (("training", train_examples), ("dev", dev_examples)):
        for number, length in enumerate(map(len, examples)):
            if length > min(config.max_length, positions or length):
                raise DataError(
                    f"{name} example {number} (counted from 0) has {length} tokens; max_length is "
                    f"{config.max_length} and the model has {positions or 'any number of'} positions. Encode "
                    "the examples with the smaller of the two as max_length"
                )


def asks_for_sharding(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `accelerate launch --use_fsdp --fsdp_version 2` started the process; ConfigError for other kinds of FSDP
    and for DeepSpeed.
    """

    def is_on(name: str) -> bool:
        return environment.get(name, "false").lower() == "true"

    if is_on("ACCELERATE_USE_DEEPSPEED"):
        raise ConfigError("ACCELERATE_USE_DEEPSPEED: the loop has no DeepSpeed; use --use_fsdp --fsdp_version 2")
    if not is_on("ACCELERATE_USE_FSDP"):
        return False
    if (version := environment.get("FSDP_VERSION", "1")) != "2":
        raise ConfigError(f"FSDP_VERSION={version}: the loop shards by FSDP2; start it with --fsdp_version 2")
    if is_on("FSDP_OFFLOAD_PARAMS"):
        raise ConfigError("FSDP_OFFLOAD_PARAMS=true: the loop does not offload; start it without --fsdp_offload_params")
    return True


def check_compile(backend: str | None) -> None:
    """ConfigError for a backend that torch.compile does not have."""
    if backend is None:
        return
    import torch

    if backend not in torch.compiler.list_backends(exclude_tags=()):
        valid = ", ".join(torch.compiler.list_backends())
        raise ConfigError(f"training setting compile={backend!r}: not a backend of torch.compile; valid are {valid}")


def free_positions(model: Any) -> int | None:
    """Positions of the model that are left for texts: virtual tokens of a method take some. None: any number."""
    positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return None if positions is None else positions - getattr(model, VIRTUAL_TOKENS, 0)


def unusable_batch(
    step: int, what: str, value: float, indices: Sequence[int], examples: Sequence[Any]
) -> TrainingError:
    """The error to raise when update `step` cannot be made from the examples at `indices`."""
    shown = ", ".join(map(str, indices[:32])) + (", ..." if len(indices) > 32 else "")
    hint = getattr(examples[indices[0]], "text", "")
    return TrainingError(
        f"step {step}: the {what} is {value} on the batch of training examples {shown} (counted from 0"
        + (f"; the first is {hint!r}" if hint else "")
        + f"). Weights and checkpoints are those of step {step - 1} or before. Lower learning_rate, set "
        "max_grad_norm, or look at these examples"
    )
