"""Published figures beside measured ones: differences from LoRA, and scores where a profile may compare them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.judge.number_format import LEVEL, format_score, signed, span
from analysis.judge.published_vs_measured import CellVerdict, LoraDifference
from analysis.load.names import score_name
from analysis.load.paper_files import METRICS
from analysis.load.published import PublishedTable
from analysis.load.runs import Experiment, experiment_labels
from analysis.show.blocks import Block, Cell, csv_text


def differences_from_lora(
    found: Sequence[LoraDifference], tables: Sequence[PublishedTable], why_not: str | None
) -> Block:
    """One line per published row: for every metric its published difference from LoRA, and ours with its interval."""
    grouped: dict[tuple[str, str, str], dict[str, LoraDifference]] = {}
    for entry in found:
        grouped.setdefault((entry.table, entry.row, entry.reference), {})[entry.metric] = entry
    metrics = [metric for metric in METRICS if any(metric in entries for entries in grouped.values())]
    rows = tuple(
        (f"{row} minus {reference}", *(text for metric in metrics for text in _pair(entries.get(metric))),
         _verdicts(list(entries.values())), table)
        for (table, row, reference), entries in grouped.items()
    )  # fmt: skip
    headers = [text for name in map(score_name, metrics) for text in (f"{name} published", f"{name} here")]
    notes = [
        f"Published: the difference of two published figures, without a spread. Here: the mean over shared seeds \
and its {LEVEL} interval over seeds alone."
    ]
    if why_not is not None:
        notes.append(f"Scores are not compared, and no verdict rests on these differences. {why_not}")
    notes += [f"{table.location}: {table.gaps}" for table in tables if table.gaps]
    return Block(
        "Published and measured differences: method minus LoRA", ("Row", *headers, "Verdict on its scores", "Source"),
        rows, tuple(notes) if rows else (), key="differences_from_lora",
    )  # fmt: skip


def _pair(entry: LoraDifference | None) -> tuple[str, str]:
    if entry is None:
        return "not published", "not measured"
    text = "unreadable" if entry.published is None else f"{entry.published:+}".replace("-", "−")
    if entry.measured is None:
        return Cell(text, standing=entry.standing), "not measured"
    over_seeds = entry.measured.over_seeds
    interval = "" if over_seeds is None else f" ({span(over_seeds)})"
    return Cell(text, standing=entry.standing), f"{signed(entry.measured.effect)}{interval}"


def _verdicts(entries: Sequence[LoraDifference]) -> str:
    """One verdict if all cells have the same, else each with its metrics."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        found.setdefault(entry.verdict.replace("_", " "), []).append(score_name(entry.metric))
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in found.items())


def cells_block(
    judged: Sequence[CellVerdict], experiments: Sequence[Experiment], tables: Sequence[PublishedTable]
) -> Block:
    """Measured means against published cells; no rows in a profile that may not be compared."""
    locations = {table.id: table.location for table in tables}
    labels = experiment_labels(experiments)
    rows = tuple(
        (
            labels[cell.experiment],
            f"{cell.label} ({locations[cell.table]})",
            score_name(cell.metric),
            format_score(cell.measured),
            Cell(cell.published, standing=cell.standing),
            f"± {cell.half_width:g}",
            cell.verdict.replace("_", " "),
            cell.reason,
        )
        for cell in judged
        if cell.experiment is not None and cell.measured is not None
    )
    headers = ("Run", "Published row", "Metric", "Measured", "Published", "Tolerance", "Verdict", "Why")
    return Block("Against published cells, within paper_results/tolerances.json", headers, rows, key="cells")


def published_csv(tables: Sequence[PublishedTable]) -> str:
    """Every published row: digits as published, on the scripts' own scale, with each figure's standing."""
    records = []
    for table in tables:
        for row in table.rows:
            record: dict[str, Any] = {
                "table": table.id,
                "row": row.id,
                "label": row.label,
                "backbone": row.backbone,
                "method": row.method,
                "parameters_printed": row.parameters.text if row.parameters else None,
            }
            for metric in METRICS:
                figure = row.cells.get(metric)  # a table may print fewer
                value, spread = table.scaled(row, metric) if figure else (None, None)
                record |= {
                    metric: value,
                    f"{metric}_spread": spread,
                    f"{metric}_standing": figure.standing if figure else None,
                }
            records.append(record)
    return csv_text(records)
