"""Stages under `torchrun`: which process this one is, and what the processes agree on. Imports torch only to agree.

`finetune` trains on all processes (data parallelism: each has its share of every batch, and of the dev set); rank 0
alone writes. Every other stage runs once, in rank 0, and the others end at once. The processes share a file system.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from replication.errors import ConfigError

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many processes run the stage."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def writes() -> bool:
    """Whether this process writes files and messages: rank 0 does."""
    return rank() == 0


def run_once() -> None:
    """Go on alone, as if started without `torchrun`: rank 0 forgets the others, which end here."""
    if not writes():
        sys.exit(0)
    for name in _VARIABLES:
        os.environ.pop(name, None)


def agreed(value: Any) -> Any:
    """Rank 0's value in every process, which wait for each other here."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    join()
    return broadcast_object_list([value])[0]


def join() -> None:
    """Make the group of processes, on gloo where there is no accelerator; ConfigError if they do not find each other.

    Accelerate, which the training loop uses, takes this group; alone it would train each process by itself on a CPU.
    """
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # else transformers gives weights to rank 0 alone
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.accelerator.is_available())
    if state.num_processes != count():
        raise ConfigError(
            f"WORLD_SIZE={count()}, but {state.num_processes} process takes part in training: every process would "
            "train alone; start one process, or several with torchrun"
        )


def leave() -> None:
    """End the group of processes, if there is one."""
    torch = sys.modules.get("torch")
    if count() > 1 and torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
