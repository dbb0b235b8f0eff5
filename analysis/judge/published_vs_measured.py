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
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from analysis.judge.comparable import is_reading, setting_of, unequal
from analysis.judge.decision import Difference
from analysis.judge.number_format import format_score
from analysis.judge.study import Row as StudyRow
from analysis.judge.study import Study
from analysis.load.paper_files import DIRECTORY, METRICS, meaning
from analysis.load.paper_folder import Published
from analysis.load.published import PublishedTable, Row, Tolerances
from analysis.load.runs import Experiment
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
    judge = _Judge(study.profile, in_order(study.generation), published.tolerances, others)
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


def in_order(study: Study) -> list[Experiment]:
    """The experiments, by task: those in which LoRA and Solo Connection are complete come first, of these the grid's,
    and those of an earlier grid last, so that every row is taken from one task where one has them all.
    """
    done = {s for s in study.settings if study.at(s, "lora") and study.at(s, "solo_connection")}
    compared = {experiment.name for experiment in study.compared}

    def place(experiment: Experiment) -> tuple[bool, bool, bool]:
        setting = setting_of(experiment)
        planned = study.judgement.part_of(study.profile, setting) is not None
        return experiment.name not in compared, setting not in done, not planned

    return sorted(study.experiments, key=place)


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
        experiment = self.run_of(table, row)
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

    def run_of(self, table: PublishedTable, row: Row) -> Experiment | None:
        """The first complete run of a row's corpus, backbone and method; Solo Connection in the reading of 0.26M."""
        for experiment in self.experiments:
            record = experiment.record
            if record is None or experiment.status != "complete":
                continue
            if (table.task, row.backbone, row.method) != (record.corpus.name, record.backbone, record.method):
                continue
            if record.method != "solo_connection" or is_reading(experiment, 120, 2):
                return experiment
        return None

    def direction(self, table: PublishedTable, row: Row, reference: Row, metric: str) -> str | None:
        """How measured and published differences to the reference row agree in sign; None if they do not."""
        runs = self.run_of(table, row), self.run_of(table, reference)
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
    tables, rows = published.tables, _rows(study.generation)
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


@dataclass(frozen=True)
class LoraDifference:
    """One published row minus the LoRA row of its table and backbone, on one metric, and the same of the runs here.

    `published` is None where a digit of either cannot be read; `standing` is that of the row's own figure; `levels` are
    LoRA's scores, published and measured, on the metric scripts' own scale. `measured` holds differences by seed alone:
    no test examples are resampled for it.
    """

    table: str
    row: str
    reference: str
    method: str
    metric: str
    published: Decimal | None
    standing: str
    verdict: CellVerdictName
    levels: tuple[float | None, float | None]
    measured: Difference | None


def lora_differences(
    study: Study, published: Published, judged: Sequence[CellVerdict] | None = None
) -> list[LoraDifference]:
    """Every published row of a method that was run against its LoRA row: differences compare where scores may not."""
    study = study.generation
    rows, found = _rows(study), []
    judged = judge_cells(study, published) if judged is None else judged
    verdicts = {(verdict.table, verdict.row, verdict.metric): verdict for verdict in judged}
    methods = {row.method for row in rows} - {"lora"}
    for table in published.tables:
        for row in table.rows:
            lora = (other for other in table.rows if (other.backbone, other.method) == (row.backbone, "lora"))
            reference = next(lora, None)
            if row.method not in methods or reference is None:
                continue
            for metric in METRICS:
                if metric in row.cells and metric in reference.cells:
                    cells = [verdicts[table.id, line.id, metric] for line in (row, reference)]
                    first = _measured(row, rows, cells[0].experiment)
                    alike = [other for other in rows if first is not None and other.setting == first.setting]
                    runs = first, _measured(reference, alike, cells[1].experiment)
                    found.append(_lora_difference(study, table, (row, reference), metric, cells[0].verdict, runs))
    return found


def _lora_difference(
    study: Study,
    table: PublishedTable,
    lines: tuple[Row, Row],
    metric: str,
    verdict: CellVerdictName,
    runs: Sequence[StudyRow | None],
) -> LoraDifference:
    values = [table.value(line, metric) for line in lines]
    texts = [table.scaled(line, metric)[0] for line in lines]
    known = values[0] is not None and values[1] is not None
    first, second = (None if run is None else study.named(run.experiment) for run in runs)
    summary = runs[1].scores.get(metric) if runs[1] is not None else None
    return LoraDifference(
        table.location, lines[0].label, lines[1].label, lines[0].method, metric,
        Decimal(texts[0]) - Decimal(texts[1]) if known else None, lines[0].cells[metric].standing, verdict,
        (values[1], summary.mean if summary else None),
        None if first is None or second is None else _by_seed(study, first, second, metric),
    )  # fmt: skip


def _by_seed(study: Study, first: Experiment, second: Experiment, metric: str) -> Difference | None:
    a, b = first.metrics, second.metrics
    if a is None or b is None or a.items != b.items or unequal(first, second):
        return None
    used, mixed, confounded = study.comparable_seeds(first, second, study.usable_seeds(first, second))
    pairs = [(a.seeds[seed].get(metric), b.seeds[seed].get(metric)) for seed in used]
    values = tuple(x - y for x, y in pairs if x is not None and y is not None)
    if not values or len(values) < len(pairs):
        return None
    return Difference(metric, used, values, dropped=mixed, confounded=confounded)


def _rows(study: Study) -> list[StudyRow]:
    rows = {row.experiment: row for row in study.rows_as_given}
    return [rows[experiment.name] for experiment in in_order(study)]


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
