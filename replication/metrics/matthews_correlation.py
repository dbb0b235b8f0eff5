"""Matthews correlation; over more than two classes the generalisation R_K (Gorodkin 2004)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from replication.metrics.metric import Floats, Metric, Rows, classes, divided


class MatthewsCorrelation(Metric):
    """From the confusion matrix; with two classes the Pearson correlation of the indicators. 0 when one is constant."""

    name = "matthews_correlation"
    label = "Matthews correlation"
    scale = "correlation, -1 to 1"
    of_one_item = False
    reported_for: Mapping[str, Sequence[str]] = {"classification": ("cola",)}
    leads = True

    def item_statistics(self, rows: Rows) -> Floats:
        """(n_items, classes * classes): one in the cell of the true class (row) and the predicted class (column).

        The classes are those of the logits where rows have them, so that all runs on a task have the same width.
        """
        predicted, true = classes(rows, "prediction"), classes(rows, "label")
        number = max(2, int(max(predicted.max(), true.max())) + 1, *(len(row.get("logits", ())) for row in rows))
        cells = np.zeros((len(true), number * number))
        cells[np.arange(len(true)), true * number + predicted] = 1.0
        return cells

    def score(self, sums: Floats) -> Floats:
        """From confusion matrices; counts are whole numbers, exact up to the square root."""
        number = math.isqrt(sums.shape[-1])
        table = sums.reshape(*sums.shape[:-1], number, number)
        count, right = table.sum(axis=(-2, -1)), np.trace(table, axis1=-2, axis2=-1)
        predicted, true = table.sum(axis=-2), table.sum(axis=-1)
        spread = (count**2 - (predicted**2).sum(axis=-1)) * (count**2 - (true**2).sum(axis=-1))
        return divided(right * count - (predicted * true).sum(axis=-1), np.sqrt(np.maximum(spread, 0.0)))


METRIC = MatthewsCorrelation()
