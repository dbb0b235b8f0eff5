"""The main table, and the printed rows with what was measured beside them.

A number is never shown with more digits than it carries: a spread has two significant digits and sets the
places of its mean; one seed has no spread; a printed figure keeps its printed digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.blocks import Block, Cell, csv_text, escape_latex, to_latex, to_markdown, with_best
from analysis.costs import COST_HEADER, cost_note
from analysis.labels import score_name
from analysis.published import METRICS, PublishedTable
from analysis.results import ResultRow
from analysis.scores import GENERATION
from analysis.statistics import Interval, SeedSummary
from replication.metrics import named

__all__ = [
    "Block", "Cell", "csv_text", "escape_latex", "format_count", "format_interval",
    "format_ratio", "format_score", "measured_metrics", "published_csv", "results_block", "results_csv", "rounded",
    "spread_places", "table_headers", "to_latex", "to_markdown",
]  # fmt: skip

PLACES = 4  # what the official scripts print


def measured_metrics(rows: Sequence[ResultRow]) -> list[str]:
    """The published metrics, then whatever else any of the rows was scored by."""
    return list(dict.fromkeys([*METRICS, *(metric for row in rows for metric in row.scores)]))


def table_headers(metrics: Sequence[str]) -> tuple[str, ...]:
    """Columns of the main table; the first metric has its interval beside it."""
    first, *others = map(score_name, metrics)
    return (
        "Method",
        first,
        "95 % over items",
        *others,
        "Trainable parameters",
        "Adapter parameters",
        "of LoRA's adapter",
        "of full's adapter",
        COST_HEADER,
        "Seeds",
    )


def format_score(summary: SeedSummary | None) -> str:
    """`0.541 ± 0.010` over seeds, `0.5412` with one seed, `not measured` without a score."""
    if summary is None:
        return "not measured"
    if summary.standard_deviation is None:
        return f"{summary.mean:.{PLACES}f}"
    places = spread_places(summary.standard_deviation)
    return f"{summary.mean:.{places}f} ± {summary.standard_deviation:.{places}f}"


def spread_places(spread: float) -> int:
    """Decimal places that show two significant digits of a spread, at most the scripts' own four."""
    if spread <= 0:
        return PLACES
    return min(PLACES, max(0, 1 - math.floor(math.log10(spread))))


def format_interval(interval: Interval | None) -> str:
    """`0.52 to 0.56`, in places that suit its width."""
    if interval is None:
        return "not measured"
    places = spread_places(interval.half_width)
    return f"{interval.low:.{places}f} to {interval.high:.{places}f}"


def format_count(count: int | None) -> str:
    """A whole number with thin groups: 259,499."""
    return "unknown" if count is None else f"{count:,}"


def format_ratio(ratio: float | None) -> str:
    """A share in per cent with three significant digits: `66.0 %`."""
    if ratio is None:
        return "unknown"
    percent = 100 * ratio
    if percent == 0:
        return "0 %"
    places = max(0, 2 - math.floor(math.log10(percent)))
    return f"{percent:,.{places}f} %"


def results_block(rows: Sequence[ResultRow], profile: str, costs: Mapping[str, str] | None = None) -> Block:
    """The measured rows of one profile; `costs` gives an experiment's training cost as text."""
    corpora = sorted({row.corpus for row in rows if row.corpus}) or ["unknown corpus"]
    items = sorted({row.items for row in rows if row.items is not None})
    counted = f", {' / '.join(map(str, items))} test items" if items else ""
    metrics = measured_metrics(rows)
    headers = table_headers(metrics)
    scored = {headers.index(score_name(name)): named(name, GENERATION).higher_is_better for name in metrics}
    lines = with_best([_result_cells(row, metrics, (costs or {}).get(row.experiment)) for row in rows], scored)
    fewest = {headers.index("Adapter parameters"): False, headers.index(COST_HEADER): False}
    return Block(
        caption=f"Measured here: {profile} profile, {'; '.join(corpora)}{counted}",
        headers=headers,
        rows=with_best(lines, fewest, [bool(row.adapter) for row in rows]),
        notes=(*_notes(rows), *((cost_note(profile),) if costs else ())),
        key="results",
    )


def results_csv(rows: Sequence[ResultRow], profile: str) -> str:
    """Numbers as they are (six decimals at most), blanks where there is none; ratios are of `adapter`."""
    records, metrics = [], measured_metrics(rows)
    for row in rows:
        record: dict[str, Any] = {
            "profile": profile,
            "corpus": row.corpus,
            "experiment": row.experiment,
            "method": row.method,
            "backbone": row.backbone,
            "status": row.status,
        }
        for metric in metrics:
            summary = row.scores.get(metric)
            record[metric] = rounded(summary.mean if summary else None)
            record[f"{metric}_spread"] = rounded(summary.standard_deviation if summary else None)
        interval = row.bleu_over_items
        record["BLEU_items_low"] = rounded(interval.low if interval else None)
        record["BLEU_items_high"] = rounded(interval.high if interval else None)
        record |= {
            "trainable": row.trainable,
            "adapter": row.adapter,
            "adapter_to_lora_adapter": rounded(row.to_lora),
            "adapter_to_full_adapter": rounded(row.to_full),
            "items": row.items,
            "seeds": " ".join(map(str, row.seeds)),
            "approximate": " ".join(row.approximate),
            "missing": " ".join(row.missing),
        }
        records.append(record)
    return csv_text(records)


def published_csv(tables: Sequence[PublishedTable]) -> str:
    """Every printed row: digits as printed, on the scripts' own scale, with each figure's standing."""
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
                value, spread = table.scaled(row, metric)
                record |= {
                    metric: value,
                    f"{metric}_spread": spread,
                    f"{metric}_standing": row.cells[metric].standing,
                }
            records.append(record)
    return csv_text(records)


def _result_cells(row: ResultRow, metrics: Sequence[str], cost: str | None) -> tuple[str, ...]:
    first, *others = (_marked(row, metric) for metric in metrics)
    return (
        row.label if row.status == "complete" else f"{row.label} ({row.status})",
        first,
        format_interval(row.bleu_over_items),
        *others,
        format_count(row.trainable),
        format_count(row.adapter),
        format_ratio(row.to_lora),
        format_ratio(row.to_full),
        cost or "not measured",
        {0: "none", 1: "one seed"}.get(len(row.seeds), str(len(row.seeds))),
    )


def _marked(row: ResultRow, metric: str) -> str:
    summary = row.scores.get(metric)
    return f"≈ {format_score(summary)}" if metric in row.approximate and summary else format_score(summary)


def _notes(rows: Sequence[ResultRow]) -> list[str]:
    notes = []
    if any(len(row.seeds) > 1 for row in rows):
        notes.append("Mean ± sample standard deviation over seeds. A row with one seed has no spread.")
    if any(row.bleu_over_items for row in rows):
        notes.append(
            "95 % over items: bootstrap (BCa) of the seeds' mean BLEU over test items; not a spread over seeds."
        )
    notes.append("Both ratios are of adapter parameters; full's adapter is the whole backbone.")
    approximate = sorted({score_name(name) for row in rows for name in row.approximate})
    if approximate:
        notes.append(
            f"≈ {' and '.join(approximate)} with a pure-Python tokenizer, because there was no Java: approximate."
        )
    notes += [f"{row.experiment}, {note}." for row in rows for note in row.score_notes]
    missing = sorted({score_name(name) for row in rows for name in row.missing})
    if missing:
        notes.append(
            f"{' and '.join(missing)} not measured: the official program needs Java, and nothing stands in for it."
        )
    return notes


def rounded(value: float | None) -> float | None:
    """Six decimals, for csv."""
    return None if value is None else round(value, 6)
