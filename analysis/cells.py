"""Measured means against printed cells, within tolerances that were fixed before the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.published import METRICS, PublishedTable, Tolerances
from analysis.records import Experiment
from analysis.results import experiment_labels, is_reading
from analysis.statistics import SeedSummary, summarise_seeds


@dataclass(frozen=True)
class CellComparison:
    """A measured mean against a printed figure, both on the metric scripts' own scale."""

    experiment: str
    label: str
    printed_row: str
    metric: str
    measured: SeedSummary
    printed: str
    half_width: float
    agrees: bool


def compare_cells(
    experiments: Sequence[Experiment], tables: Sequence[PublishedTable], tolerances: Tolerances
) -> list[CellComparison]:
    """Means against printed cells of the same backbone and method; none for a profile not comparable."""
    found = []
    labels = experiment_labels(experiments)
    for experiment in experiments:
        record, metrics = experiment.record, experiment.metrics
        if tolerances.why_not_comparable(experiment.profile) or record is None or metrics is None:
            continue
        if experiment.status != "complete" or (
            record.method == "solo_connection" and not is_reading(experiment, 120, 2)
        ):
            continue
        for table in tables:
            for row in table.rows:
                if (row.backbone, row.method) != (record.backbone, record.method):
                    continue
                for metric in METRICS:
                    printed, values = table.value(row, metric), metrics.values(metric)
                    if printed is None or values is None:
                        continue
                    summary, reach = summarise_seeds(values), tolerances.metrics[metric].half_width
                    found.append(
                        CellComparison(
                            experiment.name,
                            labels[experiment.name],
                            f"{row.label} ({table.place})",
                            metric,
                            summary,
                            table.scaled(row, metric)[0],
                            reach,
                            abs(summary.mean - printed) <= reach + 1e-12,
                        )
                    )
    return found
