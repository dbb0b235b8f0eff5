"""Published figures with what was measured beside them: one line a printed row, and one a cell for `compare`.

Every cell gets a word. Where the profile may not be compared with the paper it is `not_comparable`, whatever the
figures; `cells.py` judges the rest by the tolerances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis import cells as judges
from analysis.blocks import Block, Cell
from analysis.published import METRICS, PublishedTable, Row, Tolerances
from analysis.records import Experiment
from analysis.results import ResultRow
from analysis.standings import meaning
from analysis.tables import METRIC_NAMES, format_score


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
    word: str

    def as_json(self) -> dict[str, Any]:
        """The cell with stable keys."""
        return {
            "printed_row": self.row, "method": self.method, "metric": self.metric, "published": self.printed,
            "published_spread": self.spread, "standing": self.standing, "standing_means": meaning(self.standing),
            "source": self.source, "measured": self.measured if self.experiment else None,
            "experiment": self.experiment, "verdict": self.word,
        }  # fmt: skip


def beside_cells(
    tables: Sequence[PublishedTable], rows: Sequence[ResultRow], why_not: str | None, judged: Sequence[Any] = ()
) -> list[BesideCell]:
    """Every printed cell of a method that was run. `judged` are the cells that `cells.py` compared."""
    words = {(_place(cell), cell.metric): _word(cell) for cell in judged}
    methods = {row.method for row in rows if row.method}
    found = []
    for table in tables:
        for printed in table.rows:
            if printed.method not in methods:
                continue
            ours = _measured(printed, rows)
            for metric in METRICS:
                if metric in printed.cells:
                    judged_as = words.get((f"{table.id}/{printed.id}", metric))
                    judged_as = judged_as or words.get((f"{printed.label} ({table.place})", metric))
                    found.append(_cell(table, printed, metric, ours, why_not, judged_as))
    return found


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
    headers = [text for name in METRIC_NAMES.values() for text in (f"{name} printed", f"{name} here")]
    caption = "Published beside measured, on the same scale"
    if why_not is not None:
        caption += f"; not comparable with this profile. {why_not}"
    gaps = tuple(f"{table.place}: {table.gaps}" for table in tables if table.gaps)
    note = "Here: this profile's run of the same method, of several the best by BLEU; its backbone is another."
    return Block(
        caption, ("Printed row", *headers, "Parameters printed", "Verdict", "Source"), tuple(lines),
        (*((note,) if why_not is not None and lines else ()), *gaps), key="beside",
    )  # fmt: skip


def _measured(printed: Row, rows: Sequence[ResultRow]) -> ResultRow | None:
    """The complete run of the printed row's method: on its backbone if there is one, else the best by BLEU."""
    alike = [row for row in rows if row.method == printed.method and row.status == "complete"]
    same = [row for row in alike if row.backbone == printed.backbone]
    scored = [row for row in same or alike if row.scores["BLEU"] is not None]
    return max(scored, key=lambda row: row.scores["BLEU"].mean if row.scores["BLEU"] else 0.0, default=None)


def _cell(
    table: PublishedTable, printed: Row, metric: str, ours: ResultRow | None, why_not: str | None, judged: str | None
) -> BesideCell:
    value, spread = table.scaled(printed, metric)
    standing = printed.cells[metric].standing
    if why_not is not None:  # whatever the cell holds
        word = "not_comparable"
    elif standing == "unreadable":
        word = "unreadable"
    else:
        word = judged or ("not_run" if ours is None or ours.backbone != printed.backbone else "not_comparable")
    summary = ours.scores.get(metric) if ours else None
    return BesideCell(
        printed.label, printed.method, metric, value, spread, standing, table.place, format_score(summary),
        ours.experiment if ours and summary is not None else None, word,
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
        found.setdefault(cell.word.replace("_", " "), []).append(METRIC_NAMES[cell.metric])
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in found.items())


def judged_cells(
    experiments: Sequence[Experiment], tables: Sequence[PublishedTable], tolerances: Tolerances, profile: str
) -> Sequence[Any]:
    """The words of `cells.py`: of every cell where it judges every cell, else of those it compared."""
    return list(judges.judge_cells(experiments, tables, tolerances, profile))


def _place(cell: Any) -> str:
    """Table and row of a judged cell, or the printed row as the older form calls it."""
    return f"{cell.table}/{cell.row}" if hasattr(cell, "table") else str(cell.printed_row)


def _word(cell: Any) -> str:
    """The word of a compared cell; the older form only says whether it lies within the tolerance."""
    word = getattr(cell, "word", None)
    return str(word) if word else "within_tolerance" if cell.agrees else "not_reproduced"
