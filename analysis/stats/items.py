"""Per-item statistics of a metric, so that test items can be resampled.

Statistics and scores are those of the metric's object (replication.metrics): a function of a sum over items, as
`bootstrap.paired_bootstrap` wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from analysis.stats.bootstrap import Floats, Rowwise
from replication.metrics import Metric, named

Row = Mapping[str, Any]


def item_statistics(metric: str, form: str, rows: Sequence[Row], protocol: str | None = None) -> Floats | None:
    """Sufficient statistics, shape (n_items, k), of one metric of a task form.

    None without rows, for a metric that is not resampled (METEOR), and if rows miss required fields. ConfigError for
    an unknown metric. `protocol` is the metric of the corpus card (squad_v1, rouge).
    """
    found = named(metric, form, protocol)
    if not rows or found.resampled == "no" or not found.measured(rows):
        return None
    return found.item_statistics(rows)


def statistic_of(metric: str, form: str, protocol: str | None = None) -> Rowwise:
    """The function from sums of `item_statistics` to scores; a score that is undefined counts as 0."""
    return _rowwise(named(metric, form, protocol))


def is_approximate(metric: str, form: str, protocol: str | None = None) -> bool:
    """Whether the sum over items may differ from the official score in its last digits."""
    return named(metric, form, protocol).resampled == "approximate"


@lru_cache(maxsize=128)
def _rowwise(metric: Metric) -> Rowwise:
    return Rowwise(metric.score)
