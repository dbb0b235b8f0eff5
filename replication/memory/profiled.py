"""The peak of a training step as torch's allocator really saw it, on this CPU: what predictions are held to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from replication.memory.step import TrainingStep


def measured_peak(build: Callable[[], TrainingStep]) -> int:
    """Largest running sum of bytes allocated less bytes freed during one step, counted from its start.

    The second step of two is measured: libraries allocate for themselves at the first. Compares with
    `MemoryPrediction.above_start`; resident size would hold the interpreter and torch's own code as well.
    """
    step = build()
    step.prepare()
    step.run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step.run()
    return running_peak(_allocations(profiler))


def running_peak(changes: Iterable[int]) -> int:
    """The largest sum of a first part of `changes`; 0 if none is positive."""
    now = best = 0
    for change in changes:
        now += change
        best = max(best, now)
    return best


def _allocations(profiler: profile) -> list[int]:
    """Bytes of every allocation (above 0) and release (below 0) on the CPU, in order of time."""
    inner = profiler.profiler
    assert inner is not None
    assert inner.kineto_results is not None
    events: list[Any] = [event for event in inner.kineto_results.events() if event.name() == "[memory]"]
    cpu = torch._C._autograd.DeviceType.CPU
    return [e.nbytes() for e in sorted(events, key=lambda event: event.start_ns()) if e.device_type() == cpu]
