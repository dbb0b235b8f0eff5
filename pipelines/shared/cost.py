"""cost/<stage>.json: what a stage cost on this machine. Never an output: no two runs agree on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replication.records import Cost, git_revision, machine_conditions, peak_memory, write_costs


def seed_cost(seconds: float, tokens_per_second: float | None = None) -> dict[str, Any]:
    """Cost of one seed so far. In one process, later seeds show at least the earlier ones' peak memory."""
    resident, cuda = peak_memory()
    return {
        "seconds": seconds,
        "tokens_per_second": tokens_per_second,
        "peak_memory_bytes": resident,
        "peak_cuda_memory_bytes": cuda,
    }


def write_cost(run: Path, stage: str, costs: Mapping[int, Mapping[str, Any]], *, threads: int) -> Path:
    """Write each seed's cost with the machine and the git revision it was measured at."""
    where: dict[str, Any] = {"machine": machine_conditions(threads).model_dump(), "git_revision": git_revision()}
    return write_costs(run / "cost" / f"{stage}.json", {seed: Cost(**cost, **where) for seed, cost in costs.items()})
