"""Ordered allocations and frees, and what was in memory at the peak. Plain arithmetic."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

RESIDENT = ("parameters", "buffers", "batch", "optimizer_state")
"""Components that are there before the step begins and after it."""
PASSING = ("gradients", "saved_activations", "workspace")
"""Components that the step makes; `workspace` is whatever is none of the others."""


@dataclass(frozen=True)
class Event:
    """An allocation (`bytes` above 0) or the release (below 0) of one storage, in one phase of the step."""

    storage: int
    bytes: int
    phase: str


@dataclass(frozen=True)
class Peak:
    """The largest sum of live bytes, the storages that were live then, and the phase; empty: nothing allocated."""

    bytes: int
    storages: frozenset[int]
    phase: str


@dataclass(frozen=True)
class MemoryPrediction:
    """Bytes of device memory at the moment of a training step when most are in use, by component.

    The components add up to `total`. `saved_after_forward` and `all_gradients` describe other moments and are no
    part of the sum: what autograd keeps when the forward pass has ended (each storage once, without parameters),
    and the gradients of all trained parameters.
    """

    parameters: int
    buffers: int
    batch: int
    optimizer_state: int
    gradients: int
    saved_activations: int
    workspace: int
    phase: str
    saved_after_forward: int
    all_gradients: int

    @property
    def total(self) -> int:
        """The peak."""
        return sum(getattr(self, name) for name in (*RESIDENT, *PASSING))

    @property
    def above_start(self) -> int:
        """The peak without what was there before the step: what a profiler of one step sees."""
        return sum(getattr(self, name) for name in PASSING)

    def to_dict(self) -> dict[str, Any]:
        """Components, their sum and the rest as JSON values."""
        return {**dataclasses.asdict(self), "total": self.total}


def peak_of(events: Iterable[Event]) -> Peak:
    """The first moment at which the live bytes are largest."""
    live: dict[int, int] = {}
    now = 0
    best = Peak(0, frozenset(), "")
    for event in events:
        now += event.bytes
        if event.bytes > 0:
            live[event.storage] = event.bytes
        else:
            live.pop(event.storage, None)
        if now > best.bytes:
            best = Peak(now, frozenset(live), event.phase)
    return best


def shares(peak: Peak, sizes: Mapping[int, int], gradients: set[int], saved: set[int]) -> dict[str, int]:
    """Bytes at the peak by component: a storage that is a gradient counts as that, then as saved, else workspace."""
    found = dict.fromkeys(PASSING, 0)
    for storage in peak.storages:
        name = "gradients" if storage in gradients else "saved_activations" if storage in saved else "workspace"
        found[name] += sizes[storage]
    return found
