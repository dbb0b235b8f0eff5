"""Pinned seeds, deterministic algorithms, and random states that fit in JSON."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from replication.errors import CheckpointError, ConfigError

_deterministic: Any = torch.utils.deterministic  # its setting is a property that torch's stubs leave out


def seed_everything(seed: int) -> None:
    """Seed every global source of chance: random, numpy, torch, and each CUDA device where there is one."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ConfigError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # covers the CUDA devices too


@contextmanager
def deterministic_algorithms(threads: int | None = None, *, enabled: bool = True) -> Iterator[None]:
    """Run a block with repeatable kernels, on `threads` CPU threads (None: as many as torch uses already).

    An operation without a deterministic kernel raises torch's RuntimeError instead of giving another answer
    next time. Floats still differ between CPU types, BLAS builds and thread counts, which is why a record
    states them. The earlier settings return afterwards, except for two environment variables that libraries
    read only once: CUBLAS_WORKSPACE_CONFIG (enter this before the first use of CUDA) and
    TOKENIZERS_PARALLELISM.
    """
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise ConfigError(f"threads must be None or a whole number of at least 1, got {threads!r}")
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.get_num_threads(),
        _deterministic.fill_uninitialized_memory,
    )
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        torch.use_deterministic_algorithms(True)
        # Filling every fresh tensor with NaN serves to find programming errors and changes no result.
        _deterministic.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = False
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = before[2]
        torch.set_num_threads(before[3])
        _deterministic.fill_uninitialized_memory = before[4]


def capture_random_states() -> dict[str, Any]:
    """The state of every source `seed_everything` seeds, as JSON values (bytes in hexadecimal)."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": {"version": version, "words": list(words), "gauss": gauss},
        "numpy": {
            "name": str(name),
            "keys": [int(key) for key in keys],
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "cuda": [state.numpy().tobytes().hex() for state in _cuda_states()],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo all draws since `capture_random_states`; CheckpointError if `states` is not its result."""
    try:
        python, numpy = states["python"], states["numpy"]
        random.setstate((python["version"], tuple(python["words"]), python["gauss"]))
        keys = np.array(numpy["keys"], dtype=np.uint32)
        np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"]))
        torch.set_rng_state(_byte_tensor(states["torch"]))
        if states["cuda"]:
            torch.cuda.set_rng_state_all([_byte_tensor(state) for state in states["cuda"]])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"the random states cannot be restored: {type(error).__name__}: {error}") from error


def _cuda_states() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _byte_tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
