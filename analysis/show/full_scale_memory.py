"""Predicted peak memory at full scale and the WeightLoRA authors' files: measurements/full_scale/memory.json.

The authors' values are `torch.cuda.max_memory_allocated() / 2**30` (Vepricov/Weight_Lora,
additional_experiments/run_memory.py), so predictions are also shown in GiB. Agreement of a prediction with a
measured file is agreement of two numbers, never a reproduction of a run.

Tables, figure and text about predicted memory: what the report shows of measurements/full_scale/memory.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from analysis.judge.number_format import percent
from analysis.load.authors import load_authors
from analysis.load.names import backbone_name, method_label
from analysis.load.paper_files import DIRECTORY, Strict, first_fault
from analysis.show.blocks import Block
from analysis.show.drawing import COLOURS, Drawing, add_legend, name_at_right, new_figure, styled
from replication.errors import DataError
from replication.fileio import read_json

MEMORY = Path(__file__).resolve().parents[2] / "measurements" / "full_scale" / "memory.json"
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
    """Bytes at the peak by component; `adapters` None: all."""

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
        """The same moment with the gradients of an earlier micro-batch, as in gradient accumulation."""
        return (self.total + self.all_gradients - self.gradients) / GIB


class Series(Strict):
    """Predictions that differ only in the number of adapters."""

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
        """One series; DataError if it is missing."""
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
    """One rank: predicted and measured GiB at the shared numbers of adapters (points,), and their fit.

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
        """Number of points of the slopes."""
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


RANK_SHADES = ("#0072B2", "#3A8FC7", "#009E73", "#B97F00", "#D55E00")
NOT_RESIDENT = (
    "Bytes that the device's allocator has given out at the peak. The resident size of a process is another, larger "
    "quantity: importing torch takes over 200 MB."
)
_ORDERS = (
    ("authors_layer_r8", "the authors' layer, from block 0 up"),
    ("authors_layer_r8_top", "the authors' layer, from the last block down"),
    ("weight_lora_r8", "WeightLoRA's phase 2, from block 0 up"),
    ("weight_lora_r8_top", "WeightLoRA's phase 2, from the last block down"),
    ("lora_r8", "LoRA, dropout 0.05, from block 0 up"),
)


def memory_block(path: str | Path = MEMORY, directory: str | Path = DIRECTORY) -> Block:
    """Prediction and the authors' measured files, one row per rank."""
    rows = []
    for item in comparisons(path, directory):
        last = f"k={item.adapters[-1]}"
        rows.append(
            (
                str(item.rank),
                f"{item.predicted[0]:.3f} / {item.measured[0]:.3f}",
                f"{item.predicted[-1]:.3f} / {item.measured[-1]:.3f} ({last})",
                f"{item.predicted_slope:.2f} / {item.measured_slope:.2f}",
                f"{item.slope_ratio:.3f}",
                _linearity(item),
                f"{item.correlation:.5f}",
                percent(item.largest_error, 2),
            )
        )
    headers = (
        "Rank",
        "GiB at k=1, predicted / measured",
        "GiB at the last k",
        "MiB an adapter, k=4 to 33",
        "Slope ratio",
        "Linearity (r²) there",
        "Correlation of the curves",
        "Largest difference",
    )
    return Block(
        "Peak memory of DeBERTaV3-base, batch 64 x 128 tokens: predicted from shapes, and the authors' files",
        headers,
        tuple(rows),
        (*memory_words(path, directory), NOT_RESIDENT),
    )


def memory_words(path: str | Path = MEMORY, directory: str | Path = DIRECTORY) -> tuple[str, ...]:
    """The comparison in numbers."""
    compared, predictions = comparisons(path, directory), read_predictions(path)
    by_rank = slope_by_rank(compared)
    added = load_authors(directory).memory.added_by_their_figure
    ratios = [check.ratio for check in predictions.checks]
    worst = max(compared, key=lambda item: item.largest_error)
    return (
        _agreement(compared),
        f"Each further unit of rank adds {by_rank[0]:.1f} KiB an adapter by prediction and "
        f"{by_rank[1]:.1f} KiB as measured (ratio {by_rank[0] / by_rank[1]:.3f}).",
        f"The prediction differs most at rank {worst.rank}: {percent(worst.largest_error, 2)} of the measured peak. "
        "A prediction is not a reproduction of a run.",
        _bend(predictions),
        f"The authors' figure adds a constant {added.text} {added.unit} to these values; no component of the "
        "prediction accounts for it, and the files themselves need none.",
        f"On {len(ratios)} small models the prediction is {percent(min(ratios), 2)} to {percent(max(ratios), 2)} of "
        "the bytes that torch's profiler saw.",
    )


def _linearity(item: Comparison) -> str:
    """Two points are always on a line."""
    if item.straight_points < 3:
        return "two points"
    return f"{item.predicted_linearity:.5f} / {item.measured_linearity:.5f}"


def _bend(predictions: Predictions) -> str:
    """Where the moment of the peak moves."""
    rows = predictions.named("authors_layer_r8").by_adapters
    forward = max((count for count, row in rows.items() if row.phase == "forward"), default=0)
    later = min((count for count, row in rows.items() if row.phase != "forward"), default=0)
    return (
        f"At rank 8 the predicted peak lies at the end of the forward pass up to k={forward} and in the backward pass "
        f"from k={later} on, which makes the slope steeper there; predictions count the gradients of an earlier "
        "micro-batch, since the authors' script accumulates six."
    )


def _agreement(compared: list[Comparison]) -> str:
    ratios = [item.slope_ratio for item in compared]
    least = min(item.correlation for item in compared)
    shape = max(item.largest_shape_error for item in compared)
    return (
        f"Slope, predicted over measured: {min(ratios):.3f} to {max(ratios):.3f}. Correlation of the curves: "
        f"{least:.4f} or more. With the first point taken off both, they differ by at most {1024 * shape:.0f} MiB."
    )


def orders_block(path: str | Path = MEMORY) -> Block:
    """Effect of the adapters' position: from block 0 upwards, or from the last block downwards."""
    predictions = read_predictions(path)
    columns = [(label, predictions.named(key).by_adapters) for key, label in _ORDERS]
    tops = (key for key, _ in _ORDERS if key.endswith("_top"))
    counts = sorted({count for key in tops for count in predictions.named(key).by_adapters})
    rows = tuple(
        (str(count), *(f"{found[count].gib:.2f}" if count in found else "not predicted" for _, found in columns))
        for count in counts
    )
    phase_1 = predictions.named("weight_lora_r8_phase1").rows[0].gib
    return Block(
        "Predicted peak in GiB at rank 8, by number of adapters and where they are",
        ("Adapters", *(label for label, _ in columns)),
        rows,
        (
            "The backward pass ends at the first adapter: from block 0 upwards one adapter already needs every block's "
            "activations, from the last block downwards the peak grows with the blocks that it reaches.",
            f"WeightLoRA's phase 1 trains all 36 adapters and their weights: {phase_1:.2f} GiB, so a run that starts "
            "with it has that peak whatever K is.",
        ),
    )


def gpt2_block(path: str | Path = MEMORY) -> Block:
    """Predicted peaks on GPT-2 Medium: full, LoRA, Solo Connection."""
    predictions = read_predictions(path)
    found = [series for series in predictions.series if series.backbone == "gpt2-medium"]
    lora = predictions.named("gpt2_medium_lora").rows[0].total
    rows = []
    for series in found:
        row = series.rows[0]
        label = method_label(series.method["method"], series.method)
        parts = (row.parameters, row.optimizer_state + row.gradients, row.saved_activations, row.workspace)
        shown = tuple(f"{part / GIB:.3f}" for part in parts)
        rows.append((label, f"{row.gib:.2f}", f"{row.total / lora:.3f}", *shown, row.phase))
    first = found[0]
    headers = (
        "Method",
        "Peak, GiB",
        "of LoRA's",
        "Parameters",
        "Optimizer and gradients",
        "Saved activations",
        "Workspace",
        "Peak in",
    )
    return Block(
        f"Predicted peak on {backbone_name(first.backbone)}, batch {first.batch} x {first.length} tokens, fp32, "
        f"{first.attention} attention",
        headers,
        tuple(rows),
        (
            "Loss over every position, as in microsoft/LoRA's code. Solo Connection saves activations only from the "
            "end of its first connection on, since nothing below it trains.",
            NOT_RESIDENT,
        ),
    )


def checks_block(path: str | Path = MEMORY) -> Block:
    """The predictor held against torch's profiler on small models."""
    rows = tuple(
        (
            backbone_name(check.backbone),
            check.what.replace("_", " "),
            f"{check.predicted_bytes / MIB:.3f}",
            f"{check.measured_bytes / MIB:.3f}",
            f"{check.ratio:.4f}",
        )
        for check in read_predictions(path).checks
    )
    return Block(
        "Predicted and measured peak of one training step above its start, MiB, on a CPU",
        ("Model", "Method", "Predicted", "Measured by the profiler", "Ratio"),
        rows,
        (NOT_RESIDENT,),
    )


@styled
def memory_drawing(path: str | Path = MEMORY, directory: str | Path = DIRECTORY) -> Drawing:
    """Measured curves with predicted points; and the two orders of inserting adapters."""
    figure, (left, right) = new_figure(2, (7.6, 3.6))
    authors, predictions = load_authors(directory).memory, read_predictions(path)
    added, ends = authors.added_by_their_figure, []
    for item, series, shade in zip(comparisons(path, directory), authors.series, RANK_SHADES, strict=False):
        counts = sorted(series.cells)
        left.plot(counts, [series.cells[count].number for count in counts], color=shade, linewidth=1.3)
        left.plot(item.adapters, item.predicted, "o", color=shade, markersize=3.6, markerfacecolor="none")
        ends.append((float(counts[-1]), series.cells[counts[-1]].number, f"r={item.rank}", shade))
    left.set_title("Measured: lines; predicted: rings")
    left.set_ylabel("peak, GiB")
    left.set_xlim(0, 37.5)
    name_at_right(left, ends, 16)
    for key, label, colour, line in (
        ("authors_layer_r8", "authors' layer, from block 0 up", RANK_SHADES[0], "-"),
        ("authors_layer_r8_top", "authors' layer, from the last block down", RANK_SHADES[0], "--"),
        ("weight_lora_r8_top", "WeightLoRA's phase 2, from the last block down", COLOURS["weight_lora"], ":"),
    ):
        points = sorted(predictions.named(key).by_adapters.items())
        right.plot([k for k, _ in points], [row.gib for _, row in points], line, color=colour, marker="o",
                   markersize=3, label=label)  # fmt: skip
    right.set_title("Predicted, r=8: where they are")
    right.set_ylim(bottom=0)
    add_legend(figure, (right,))
    for axes in (left, right):
        axes.set_xlabel("number of adapters")
    return Drawing(
        "memory_full_scale",
        "Peak memory at full scale: predicted from shapes, and measured by the authors",
        "DeBERTaV3-base, batch 64 x 128 tokens, fp32, AdamW. Left: the authors' files (their values, without the "
        f"{added.text} {added.unit} that their figure adds) and predictions "
        "for their layer on the first k projections. Right: predictions only; the backward pass ends at the first "
        "adapter, so adapters in the last blocks need far less than as many in the first. "
        f"Source: {authors.sources['files'].citation}; {predictions.made_by}.",
        "Two panels: five measured curves with predicted points on them; and predicted memory by number of adapters "
        "from either end of the model.",
        figure,
    )
