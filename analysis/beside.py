"""Published figures with what was measured beside them: one line a printed row, and one a cell for `compare`.

Every cell has the word that `cells.judge_cells` gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.blocks import Block, Cell
from analysis.cells import CellVerdict, CellWord
from analysis.labels import score_name
from analysis.published import METRICS, PublishedTable, Row
from analysis.results import ResultRow
from analysis.standings import meaning
from analysis.tables import format_score

REFERENCE_METHODS = ("tgen",)
"""Never run here, and shown beside the runs all the same: what a system without adapters reaches."""


@dataclass(frozen=True)
class BesideCell:
    """One printed figure on the metric scripts' own scale and the measured one of the same method."""

    row: str
    method: str
    metric: str
    printed: str
    spread: str | None
    standing: str
    source: str
    measured: str
    experiment: str | None
    word: CellWord

    def as_json(self) -> dict[str, Any]:
        """The cell with stable keys."""
        return {
            "printed_row": self.row, "method": self.method, "metric": self.metric, "published": self.printed,
            "published_spread": self.spread, "standing": self.standing, "standing_means": meaning(self.standing),
            "source": self.source, "measured": self.measured if self.experiment else None,
            "experiment": self.experiment, "verdict": self.word,
        }  # fmt: skip


def beside_cells(
    tables: Sequence[PublishedTable], rows: Sequence[ResultRow], judged: Sequence[CellVerdict]
) -> list[BesideCell]:
    """Every printed cell of a method that was run or is a reference; `judged` has its verdict (`cells.judge_cells`)."""
    verdicts = {(verdict.table, verdict.row, verdict.metric): verdict for verdict in judged}
    methods = {row.method for row in rows if row.method}
    methods |= set(REFERENCE_METHODS) if methods else set()
    return [
        _cell(table, printed, metric, rows, verdicts[table.id, printed.id, metric])
        for table in tables
        for printed in table.rows
        if printed.method in methods
        for metric in METRICS
        if metric in printed.cells
    ]


def beside_block(cells: Sequence[BesideCell], tables: Sequence[PublishedTable], why_not: str | None) -> Block:
    """One line a printed row: for every metric what was printed, with its standing, and what was measured here."""
    lines = []
    places = {(table.place, row.label): row for table in tables for row in table.rows}
    grouped: dict[tuple[str, str], list[BesideCell]] = {}
    for cell in cells:
        grouped.setdefault((cell.source, cell.row), []).append(cell)
    for (source, label), group in grouped.items():
        parameters = places[source, label].parameters
        shown = {cell.metric: cell for cell in group}
        pairs = [text for metric in METRICS for text in _pair(shown.get(metric))]
        count = Cell(parameters.text, standing=parameters.standing) if parameters else "not stated"
        lines.append((label, *pairs, count, _words(group), source))
    headers = [text for name in map(score_name, METRICS) for text in (f"{name} printed", f"{name} here")]
    caption = "Published beside measured, on the same scale"
    if why_not is not None:
        caption += f"; not comparable with this profile. {why_not}"
    gaps = tuple(f"{table.place}: {table.gaps}" for table in tables if table.gaps)
    note = "Here: this profile's first run of the same method with nothing taken out; its backbone is another."
    return Block(
        caption, ("Printed row", *headers, "Parameters printed", "Verdict", "Source"), tuple(lines),
        (*((note,) if why_not is not None and lines else ()), *gaps), key="beside",
    )  # fmt: skip


def _measured(printed: Row, rows: Sequence[ResultRow], judged: str | None) -> ResultRow | None:
    """The run that was judged; else the first complete one of the printed row's method, with nothing taken out of it:
    on its backbone if there is one. Never the best of several, which would be a choice by test scores.
    """
    if judged is not None:
        return next((row for row in rows if row.experiment == judged), None)
    alike = [row for row in rows if row.method == printed.method and row.status == "complete" and row.plain]
    same = [row for row in alike if row.backbone == printed.backbone]
    return next((row for row in same or alike if row.scores["BLEU"] is not None), None)


def _cell(
    table: PublishedTable, printed: Row, metric: str, rows: Sequence[ResultRow], verdict: CellVerdict
) -> BesideCell:
    value, spread = table.scaled(printed, metric)
    ours = _measured(printed, rows, verdict.experiment)
    summary = ours.scores.get(metric) if ours else None
    return BesideCell(
        printed.label, printed.method, metric, value, spread, verdict.standing, table.place, format_score(summary),
        ours.experiment if ours and summary is not None else None, verdict.word,
    )  # fmt: skip


def _pair(cell: BesideCell | None) -> tuple[str, str]:
    if cell is None:
        return "not printed", "not measured"
    text = cell.printed if cell.spread is None else f"{cell.printed} ± {cell.spread}"
    return Cell(text, standing=cell.standing), cell.measured


def _words(cells: Sequence[BesideCell]) -> str:
    """One word where all cells have the same, else each with its metrics."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        found.setdefault(cell.word.replace("_", " "), []).append(score_name(cell.metric))
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in found.items())
