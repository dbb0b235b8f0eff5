"""Tables, figure and words about predicted memory: what the report shows of measurements/full_scale/memory.json."""

from __future__ import annotations

from pathlib import Path

from analysis.authors import load_authors
from analysis.drawing import COLOURS, Drawing, add_legend, name_at_right, new_figure, styled
from analysis.full_scale_memory import (
    GIB,
    MEMORY,
    MIB,
    Comparison,
    Predictions,
    comparisons,
    read_predictions,
    slope_by_rank,
)
from analysis.labels import backbone_name, method_label
from analysis.published import DIRECTORY
from analysis.tables import Block
from analysis.wording import percent

RANK_SHADES = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00")
NOT_RESIDENT = (
    "Bytes that the device's allocator has given out at the peak. The resident size of a process is another, larger "
    "quantity: importing torch alone takes over 200 MB."
)
_ORDERS = (
    ("authors_layer_r8", "the authors' layer, from block 0 up"),
    ("authors_layer_r8_top", "the authors' layer, from the last block down"),
    ("weight_lora_r8", "WeightLoRA's phase 2, from block 0 up"),
    ("weight_lora_r8_top", "WeightLoRA's phase 2, from the last block down"),
    ("lora_r8", "LoRA, dropout 0.05, from block 0 up"),
)


def memory_block(path: str | Path = MEMORY, directory: str | Path = DIRECTORY) -> Block:
    """Prediction beside the authors' measured files, one row a rank."""
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
        "Peak memory of DeBERTaV3-base, batch 64 x 128 tokens: predicted from shapes, beside the authors' files",
        headers,
        tuple(rows),
        (*memory_words(path, directory), NOT_RESIDENT),
    )


def memory_words(path: str | Path = MEMORY, directory: str | Path = DIRECTORY) -> tuple[str, ...]:
    """What the comparison says, in plain numbers."""
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
        "Two numbers agree or do not; a prediction is no reproduction of a run.",
        _bend(predictions),
        f"The authors' figure adds a constant {added.text} {added.unit} to these values; no component of the "
        "prediction accounts for it, and the files themselves need none.",
        f"On {len(ratios)} small models the predictor gives {percent(min(ratios), 2)} to {percent(max(ratios), 2)} of "
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
    """What it matters where the adapters are: from block 0 upwards, or from the last block downwards."""
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
    name_at_right(left, ends, 16, leaders=False)
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
        "for their layer on the first k projections. Right: predictions alone; the backward pass ends at the first "
        "adapter, so adapters in the last blocks need far less than as many in the first. "
        f"Source: {authors.sources['files'].citation}; {predictions.made_by}.",
        "Two panels: five measured curves with predicted points on them; and predicted memory by number of adapters "
        "from either end of the model.",
        figure,
    )
