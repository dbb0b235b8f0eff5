"""Stages under `torchrun`: which process this one is, and what the processes agree on. Imports torch only to agree.

`finetune` trains on all processes (data parallelism: each has its share of every batch, and of the dev set); rank 0
alone writes. Every other stage runs once, in rank 0, and the others end at once. The processes share a file system.
"""

from __future__ import annotations

import os
import sys
from typing import Any

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
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState()
    return broadcast_object_list([value])[0]


def leave() -> None:
    """End the group of processes, if there is one."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()
