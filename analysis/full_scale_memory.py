"""Predicted peak memory at full scale beside the WeightLoRA authors' files: measurements/full_scale/memory.json.

The authors' values are `torch.cuda.max_memory_allocated() / 2**30` (Vepricov/Weight_Lora,
additional_experiments/run_memory.py), so predictions are shown in GiB beside them. Agreement of a prediction with a
measured file is agreement of two numbers, never a reproduction of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from analysis.authors import load_authors
from analysis.published import DIRECTORY, Strict
from analysis.scores import first_fault
from replication.errors import DataError
from replication.fileio import read_json

MEMORY = Path(__file__).resolve().parents[1] / "measurements" / "full_scale" / "memory.json"
GIB, MIB = 2**30, 2**20
STRAIGHT = (4, 33)
"""Adapters between which the measured curves are straight: the first block and the last behave otherwise."""
COMPONENTS = (
    "parameters",
    "buffers",
    "batch",
    "optimizer_state",
    "gradients",
    "saved_activations",
    "workspace",
)


class Row(Strict):
    """Bytes at the peak by component; `adapters` None: all there are."""

    adapters: int | None
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
    total: int

    @property
    def gib(self) -> float:
        """The peak in GiB."""
        return self.total / GIB

    @property
    def accumulating_gib(self) -> float:
        """The same moment with the gradients of an earlier micro-batch in place, as in gradient accumulation."""
        return (self.total + self.all_gradients - self.gradients) / GIB


class Series(Strict):
    """Predictions that differ in the number of adapters alone."""

    key: str
    about: str
    backbone: str
    method: dict[str, Any]
    batch: int
    length: int
    order: str
    task: str
    labels: int
    train_head: bool
    attention: str | None
    fused_dropout: bool
    rows: tuple[Row, ...] = Field(min_length=1)

    @property
    def by_adapters(self) -> dict[int, Row]:
        """Rows by number of adapters."""
        return {row.adapters: row for row in self.rows if row.adapters is not None}


class Check(Strict):
    """Predicted bytes above the start of a step of a small model, and those that the profiler saw."""

    backbone: str
    what: str
    method: dict[str, Any]
    batch: int
    length: int
    predicted_bytes: int = Field(gt=0)
    measured_bytes: int = Field(gt=0)

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted_bytes / self.measured_bytes


class Predictions(Strict):
    """The file."""

    schema_version: Literal[1]
    made_by: str
    unit: str
    versions: dict[str, str]
    checks: tuple[Check, ...] = Field(min_length=1)
    series: tuple[Series, ...] = Field(min_length=1)

    def named(self, key: str) -> Series:
        """One series; DataError where it is missing."""
        found = next((series for series in self.series if series.key == key), None)
        if found is None:
            raise DataError(f"memory.json: no series {key}; run: {self.made_by}")
        return found


def read_predictions(path: str | Path = MEMORY) -> Predictions:
    """The predictions; DataError names file and field, and a row whose components do not add up."""
    try:
        found = Predictions.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}, {first_fault(error)}") from error
    for series in found.series:
        for row in series.rows:
            if sum(getattr(row, name) for name in COMPONENTS) != row.total:
                raise DataError(f"{path}, {series.key}, {row.adapters} adapters: components do not add up to total")
    return found


# --- the comparison


@dataclass(frozen=True)
class Comparison:
    """One rank: predicted and measured GiB at the shared numbers of adapters (points,), and what they say.

    Slopes: MiB an adapter by least squares over the straight part. `linearity`: squared correlation of GiB and
    number of adapters there. `correlation`: of the two curves; it does not see the intercept.
    """

    rank: int
    adapters: np.ndarray
    predicted: np.ndarray
    measured: np.ndarray
    predicted_slope: float
    measured_slope: float
    predicted_linearity: float
    measured_linearity: float
    correlation: float

    @property
    def straight_points(self) -> int:
        """How many points the slopes come from."""
        return int(_straight(self.adapters).sum())

    @property
    def slope_ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted_slope / self.measured_slope

    @property
    def largest_error(self) -> float:
        """Largest difference as a share of the measured value."""
        return float(np.max(np.abs(self.predicted / self.measured - 1)))

    @property
    def largest_shape_error(self) -> float:
        """Largest difference, in GiB, of what the curves rise above their first point."""
        rise = (self.predicted - self.predicted[0]) - (self.measured - self.measured[0])
        return float(np.max(np.abs(rise)))


def compare(adapters: np.ndarray, predicted: np.ndarray, measured: np.ndarray, rank: int) -> Comparison:
    """All of it from arrays (points,), ascending in adapters; at least two points of the straight part are needed."""
    straight = _straight(adapters)
    if straight.sum() < 2:
        raise DataError(f"rank {rank}: fewer than two numbers of adapters from {STRAIGHT[0]} to {STRAIGHT[1]}")
    x = adapters[straight]

    def slope(curve: np.ndarray) -> float:
        return float(np.polyfit(x, curve[straight], 1)[0]) * GIB / MIB

    def linearity(curve: np.ndarray) -> float:
        return float(np.corrcoef(x, curve[straight])[0, 1] ** 2)

    return Comparison(
        rank,
        adapters,
        predicted,
        measured,
        predicted_slope=slope(predicted),
        measured_slope=slope(measured),
        predicted_linearity=linearity(predicted),
        measured_linearity=linearity(measured),
        correlation=float(np.corrcoef(predicted, measured)[0, 1]),
    )


def _straight(adapters: np.ndarray) -> np.ndarray:
    return (adapters >= STRAIGHT[0]) & (adapters <= STRAIGHT[1])


def comparisons(path: str | Path = MEMORY, directory: str | Path = DIRECTORY) -> list[Comparison]:
    """The authors' layer at every rank that they measured; their script accumulates six micro-batches."""
    predictions, authors = read_predictions(path), load_authors(directory).memory
    found = []
    for series in authors.series:
        rows = predictions.named(f"authors_layer_r{series.rank}").by_adapters
        shared = sorted(set(rows) & set(series.cells))
        measured = np.array([series.cells[count].number for count in shared])
        predicted = np.array([rows[count].accumulating_gib for count in shared])
        found.append(compare(np.array(shared), predicted, measured, series.rank))
    return found


def slope_by_rank(compared: list[Comparison]) -> tuple[float, float]:
    """KiB an adapter for each further unit of rank, predicted and measured, at one number of adapters.

    Least squares over ranks, at the smallest number in the straight part that every rank has.
    """
    shared = set.intersection(*(set(item.adapters[_straight(item.adapters)].tolist()) for item in compared))
    if not shared:
        raise DataError(f"the ranks share no number of adapters from {STRAIGHT[0]} to {STRAIGHT[1]}")
    count, ranks = min(shared), [item.rank for item in compared]
    slopes = []
    for name in ("predicted", "measured"):
        peaks = [getattr(item, name)[item.adapters.tolist().index(count)] for item in compared]
        slopes.append(float(np.polyfit(ranks, peaks, 1)[0]) / count * GIB / 1024)
    return slopes[0], slopes[1]
