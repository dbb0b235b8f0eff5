"""Measured means against published cells, within tolerances that were fixed before the runs.

Every published cell gets one verdict:

- `within_tolerance`: the mean over seeds lies within the tolerance of the published figure;
- `direction_only`: outside it, but the measured means of the row and of its reference row differ in the published
  direction. The reference is the same table's LoRA row on the same backbone, and for LoRA its full fine-tuning row.
  Means only: the claims test whether a difference is more than noise (`decision.py`);
- `not_reproduced`: neither;
- `not_comparable`: the profile is not a paper profile (quick and cpu: always), whatever the cell holds;
- `unreadable`: the published digits could not be read;
- `not_run`: no complete run of this backbone and method, or no score of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from analysis.judge.number_format import format_score
from analysis.judge.study import Row as StudyRow
from analysis.judge.study import Study, is_reading
from analysis.load.names import score_name
from analysis.load.paper_files import DIRECTORY, METRICS, meaning
from analysis.load.paper_folder import Published
from analysis.load.published import PublishedTable, Row, Tolerances
from analysis.load.runs import Experiment
from analysis.show.blocks import Block, Cell
from analysis.stats.seeds import SeedSummary, summarise_seeds
from replication.fileio import sha256_file

CellVerdictName = Literal[
    "within_tolerance", "direction_only", "not_reproduced", "not_comparable", "not_run", "unreadable"
]  # fmt: skip
CELL_VERDICTS: tuple[CellVerdictName, ...] = (
    "within_tolerance", "direction_only", "not_reproduced", "not_comparable", "not_run", "unreadable"
)  # fmt: skip


@dataclass(frozen=True)
class CellVerdict:
    """One published cell: its verdict, the reason, and what was measured, on the metric scripts' own scale.

    `difference` is measured minus published; `other_tolerances`: the run's record names a tolerance file other than the
    present one, which decides the verdict.
    """

    profile: str
    table: str
    row: str
    label: str
    metric: str
    published: str
    standing: str
    verdict: CellVerdictName
    reason: str
    experiment: str | None = None
    measured: SeedSummary | None = None
    difference: float | None = None
    half_width: float | None = None
    reference: str | None = None
    other_tolerances: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def judge_cells(study: Study, published: Published) -> list[CellVerdict]:
    """One verdict per published cell, table by table, row by row; only generation runs have published cells."""
    experiments = study.generation.experiments
    others = {e.name for e in judged_by_others(experiments, published.directory)}
    judge = _Judge(study.profile, experiments, published.tolerances, others)
    return [
        judge.verdict(table, row, metric) for table in published.tables for row in table.rows for metric in row.cells
    ]


def judged_by_others(experiments: Sequence[Experiment], directory: str | Path = DIRECTORY) -> list[Experiment]:
    """Experiments with a record that names another tolerance file than the one in `directory`."""
    present = sha256_file(Path(directory) / "tolerances.json")
    return [e for e in experiments if any(record.tolerances_sha256 != present for record in e.records.values())]


def tolerance_warnings(experiments: Sequence[Experiment], directory: str | Path = DIRECTORY) -> list[str]:
    """A sentence for the report if runs were made under another tolerance file; empty if all agree."""
    found = [experiment.name for experiment in judged_by_others(experiments, directory)]
    if not found:
        return []
    return [
        f"The tolerances have changed since these runs were made: {', '.join(found)}. Their records name another "
        "paper_results/tolerances.json than the one they are judged by here."
    ]


@dataclass(frozen=True)
class _Judge:
    profile: str
    experiments: Sequence[Experiment]
    tolerances: Tolerances
    others: set[str]

    def verdict(self, table: PublishedTable, row: Row, metric: str) -> CellVerdict:
        cell = row.cells[metric]

        def given(verdict: CellVerdictName, reason: str, **more: Any) -> CellVerdict:
            published = table.scaled(row, metric)[0]
            return CellVerdict(
                self.profile, table.id, row.id, row.label, metric, published, cell.standing, verdict, reason, **more
            )

        if why := self.tolerances.why_not_comparable(self.profile):
            return given("not_comparable", why)
        published, tolerance = table.value(row, metric), self.tolerances.metrics.get(metric)
        if published is None:
            return given("unreadable", "The published digits could not be read.")
        experiment = self.run_of(row)
        if experiment is None:
            return given("not_run", "No complete run of this backbone and method.")
        measured = _mean(experiment, metric)
        if measured is None or tolerance is None:
            return given("not_run", f"{metric} was not scored, or has no tolerance.", experiment=experiment.name)
        off, reach = measured.mean - published, tolerance.half_width
        numbers = {
            "experiment": experiment.name, "measured": measured, "difference": off, "half_width": reach,
            "other_tolerances": experiment.name in self.others,
        }  # fmt: skip
        if abs(off) <= reach + 1e-12:
            return given("within_tolerance", f"{abs(off):.4g} from the published figure, within {reach:g}.", **numbers)
        reference = _reference(table, row)
        beyond = f"{abs(off):.4g} from the published figure, outside {reach:g}"
        if reference is not None and (text := self.direction(table, row, reference, metric)):
            return given("direction_only", f"{beyond}; {text}.", reference=reference.label, **numbers)
        return given("not_reproduced", f"{beyond}.", reference=reference.label if reference else None, **numbers)

    def run_of(self, row: Row) -> Experiment | None:
        """The first complete run of a row's backbone and method; Solo Connection in the reading of 0.26M."""
        for experiment in self.experiments:
            record = experiment.record
            if record is None or experiment.status != "complete":
                continue
            if (row.backbone, row.method) != (record.backbone, record.method):
                continue
            if record.method != "solo_connection" or is_reading(experiment, 120, 2):
                return experiment
        return None

    def direction(self, table: PublishedTable, row: Row, reference: Row, metric: str) -> str | None:
        """How measured and published differences to the reference row agree in sign; None if they do not."""
        runs = self.run_of(row), self.run_of(reference)
        means = [_mean(run, metric) if run else None for run in runs]
        published = [table.value(line, metric) for line in (row, reference)]
        if means[0] is None or means[1] is None or published[0] is None or published[1] is None:
            return None
        measured, claimed = means[0].mean - means[1].mean, published[0] - published[1]
        if measured * claimed <= 0:
            return None
        return f"{'above' if claimed > 0 else 'below'} {reference.label}, as published"


def _reference(table: PublishedTable, row: Row) -> Row | None:
    method = {"lora": "full", "full": None}.get(row.method, "lora")
    return next((other for other in table.rows if (other.backbone, other.method) == (row.backbone, method)), None)


def _mean(experiment: Experiment, metric: str) -> SeedSummary | None:
    known = experiment.metrics is not None and metric in experiment.metrics.metrics
    values = experiment.metrics.values(metric) if experiment.metrics is not None and known else None
    return None if values is None else summarise_seeds(values)


REFERENCE_METHODS = ("tgen",)
"""Never run here, but shown for reference: the scores of a system without adapters."""


@dataclass(frozen=True)
class ComparedCell:
    """One published figure on the metric scripts' own scale and the measured one of the same method."""

    row: str
    method: str
    metric: str
    published: str
    spread: str | None
    standing: str
    source: str
    measured: str
    experiment: str | None
    verdict: CellVerdictName

    def as_json(self) -> dict[str, Any]:
        """The cell with stable keys."""
        return {
            "published_row": self.row, "method": self.method, "metric": self.metric, "published": self.published,
            "published_spread": self.spread, "standing": self.standing, "standing_means": meaning(self.standing),
            "source": self.source, "measured": self.measured if self.experiment else None,
            "experiment": self.experiment, "verdict": self.verdict,
        }  # fmt: skip


def compared_cells(
    study: Study, published: Published, judged: Sequence[CellVerdict] | None = None
) -> list[ComparedCell]:
    """Every published cell of a method that was run or is a reference, with its verdict (`judge_cells`)."""
    tables, rows = published.tables, study.generation.rows_as_given
    judged = judge_cells(study, published) if judged is None else judged
    verdicts = {(verdict.table, verdict.row, verdict.metric): verdict for verdict in judged}
    methods = {row.method for row in rows if row.method}
    methods |= set(REFERENCE_METHODS) if methods else set()
    return [
        _cell(table, published_row, metric, rows, verdicts[table.id, published_row.id, metric])
        for table in tables
        for published_row in table.rows
        if published_row.method in methods
        for metric in METRICS
        if metric in published_row.cells
    ]


def comparison_block(cells: Sequence[ComparedCell], tables: Sequence[PublishedTable], why_not: str | None) -> Block:
    """One line per published row: for every metric the published value, with its standing, and ours."""
    lines = []
    rows_by_source = {(table.location, row.label): row for table in tables for row in table.rows}
    grouped: dict[tuple[str, str], list[ComparedCell]] = {}
    for cell in cells:
        grouped.setdefault((cell.source, cell.row), []).append(cell)
    for (source, label), group in grouped.items():
        parameters = rows_by_source[source, label].parameters
        shown = {cell.metric: cell for cell in group}
        pairs = [text for metric in METRICS for text in _pair(shown.get(metric))]
        count = Cell(parameters.text, standing=parameters.standing) if parameters else "not stated"
        lines.append((label, *pairs, count, _verdicts(group), source))
    headers = [text for name in map(score_name, METRICS) for text in (f"{name} published", f"{name} here")]
    caption = "Published and measured scores, on the same scale"
    if why_not is not None:
        caption += f"; not comparable with this profile. {why_not}"
    gaps = tuple(f"{table.location}: {table.gaps}" for table in tables if table.gaps)
    note = "Here: this profile's first run of the unmodified method, on a different backbone."
    return Block(
        caption, ("Published row", *headers, "Parameters published", "Verdict", "Source"), tuple(lines),
        (*((note,) if why_not is not None and lines else ()), *gaps), key="beside",
    )  # fmt: skip


def _measured(published: Row, rows: Sequence[StudyRow], judged: str | None) -> StudyRow | None:
    """The run that was judged; else the first complete one of the published row's unmodified method,
    on its backbone if there is one. Never the best of several, which would be a choice by test scores.
    """
    if judged is not None:
        return next((row for row in rows if row.experiment == judged), None)
    alike = [row for row in rows if row.method == published.method and row.status == "complete" and row.plain]
    same = [row for row in alike if row.backbone == published.backbone]
    return next((row for row in same or alike if row.scores.get("BLEU") is not None), None)


def _cell(
    table: PublishedTable, published: Row, metric: str, rows: Sequence[StudyRow], verdict: CellVerdict
) -> ComparedCell:
    value, spread = table.scaled(published, metric)
    ours = _measured(published, rows, verdict.experiment)
    summary = ours.scores.get(metric) if ours else None
    return ComparedCell(
        published.label, published.method, metric, value, spread, verdict.standing, table.location,
        format_score(summary), ours.experiment if ours and summary is not None else None, verdict.verdict,
    )  # fmt: skip


def _pair(cell: ComparedCell | None) -> tuple[str, str]:
    if cell is None:
        return "not published", "not measured"
    text = cell.published if cell.spread is None else f"{cell.published} ± {cell.spread}"
    return Cell(text, standing=cell.standing), cell.measured


def _verdicts(cells: Sequence[ComparedCell]) -> str:
    """One verdict if all cells have the same, else each with its metrics."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        found.setdefault(cell.verdict.replace("_", " "), []).append(score_name(cell.metric))
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in found.items())
