"""Several systems on the same items: aligned rows, intervals, paired differences, and the score of each item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from replication.errors import DataError
from replication.metrics.metric import Floats, Metric, Rows
from replication.metrics.resampling import Rowwise, percentile_ends, seed_replicates

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A system's score less that of the first one, with the ends of the interval where items were resampled."""

    system: str
    against: str
    metric: str
    difference: float
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def aligned(systems: Mapping[str, Rows], truth: Sequence[str]) -> dict[str, Rows]:
    """The rows of every system in the order of the first; DataError if items or their `truth` fields differ."""
    (first, rows), *others = systems.items()
    ids = [row["id"] for row in rows]
    found = {first: rows}
    for name, theirs in others:
        by_id = {row["id"]: row for row in theirs}
        if by_id.keys() != set(ids):
            odd = next(iter(by_id.keys() ^ set(ids)))
            raise DataError(f"{name}: its items are not those of {first}: only one of them has {odd!r}")
        found[name] = [by_id[item] for item in ids]
        for one, other in zip(rows, found[name], strict=True):
            if field := next((field for field in truth if one.get(field) != other.get(field)), None):
                raise DataError(f"{name}, item {one['id']!r}: its {field} is not that of {first}")
    return found


def replicates(metrics: Sequence[Metric], rows: Rows, resamples: int) -> dict[str, Floats]:
    """Scores of resampled items by metric, where it can be resampled; the draws are the same for all systems."""
    chosen = [metric for metric in metrics if metric.resampled != "no"]
    return {
        metric.name: seed_replicates(metric.item_statistics(rows), Rowwise(metric.score), resamples=resamples)[:, 0]
        for metric in chosen
    }


def ends(values: Floats) -> tuple[float, float]:
    """The percentile interval of replicates."""
    return percentile_ends(values, CONFIDENCE)


def item_scores(metrics: Sequence[Metric], rows: Rows) -> Iterator[dict[str, Any]]:
    """Each row's id, prediction and score of it alone; None where the item does not count."""
    columns: dict[str, list[float | None]] = {}
    for metric in metrics:
        if metric.resampled == "no" or not metric.of_one_item:
            continue
        statistics = np.asarray(metric.item_statistics(rows), dtype=np.float64)
        counted = statistics[:, -1] != 0
        scores = metric.score(statistics)
        columns[metric.name] = [float(score) if used else None for score, used in zip(scores, counted, strict=True)]
    for number, row in enumerate(rows):
        kept = {field: row[field] for field in ("prediction", "label") if field in row}
        yield {"id": row["id"], **kept, **{name: scores[number] for name, scores in columns.items()}}
