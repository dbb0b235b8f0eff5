"""cost/<stage>.json: what a stage cost on this machine. Never an output: no two runs agree on it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replication.records import Cost, git_revision, machine_conditions, peak_memory, write_costs


@dataclass(frozen=True)
class Start:
    """When a seed's work began, by the clock and in processor time."""

    clock: float = field(default_factory=time.perf_counter)
    processor: float = field(default_factory=time.process_time)


def seed_cost(start: Start, tokens_per_second: float | None = None) -> dict[str, Any]:
    """Cost of one seed since its start. In one process, later seeds show at least the earlier ones' peak memory."""
    resident, cuda = peak_memory()
    return {
        "seconds": time.perf_counter() - start.clock,
        "cpu_seconds": time.process_time() - start.processor,
        "tokens_per_second": tokens_per_second,
        "peak_memory_bytes": resident,
        "peak_cuda_memory_bytes": cuda,
    }


def write_cost(run: Path, stage: str, costs: Mapping[int, Mapping[str, Any]], *, threads: int) -> Path:
    """Write each seed's cost with the machine and the git revision it was measured at."""
    where: dict[str, Any] = {"machine": machine_conditions(threads).model_dump(), "git_revision": git_revision()}
    return write_costs(run / "cost" / f"{stage}.json", {seed: Cost(**cost, **where) for seed, cost in costs.items()})
