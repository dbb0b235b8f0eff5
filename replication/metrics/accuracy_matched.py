"""Accuracy on MNLI's matched development split, whose texts come from the genres of the training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from replication.errors import DataError
from replication.metrics.accuracy import Accuracy
from replication.metrics.metric import Floats, Rows
from replication.metrics.programs import Programs

_SUBSETS = ("matched", "mismatched")


class SubsetAccuracy(Accuracy):
    """Accuracy of the rows of one subset; the others count for nothing."""

    reported_for: Mapping[str, Sequence[str]] = {"classification": ("mnli",)}

    def __init__(self, subset: str, *, leads: bool = False):
        self.subset, self.leads = subset, leads
        self.name, self.label = f"accuracy_{subset}", f"accuracy, {subset}"

    def item_statistics(self, rows: Rows) -> Floats:
        """(n_items, 2): right and counted, counted."""
        counted = np.array([_subset(row) == self.subset for row in rows], dtype=np.float64)
        return super().item_statistics(rows) * counted[:, None]

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """The score; DataError if no row is of the subset."""
        if all(_subset(row) != self.subset for row in rows):
            raise DataError(f"no row has the subset {self.subset!r}; both development splits are scored, each apart")
        return super().official(rows, programs)


def _subset(row: Any) -> str:
    if "subset" not in row:
        raise DataError(
            f"row {row.get('id')!r}: field 'subset' is missing; valid are {', '.join(_SUBSETS)}. Score a file of one "
            "split as mnli_matched or mnli_mismatched"
        )
    if row["subset"] not in _SUBSETS:
        raise DataError(f"row {row.get('id')!r}: field 'subset' is {row['subset']!r}; valid are {', '.join(_SUBSETS)}")
    return str(row["subset"])


METRIC = SubsetAccuracy("matched", leads=True)
