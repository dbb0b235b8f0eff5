"""F1 of class 1, of predicted classes; answers of questions have another F1 (answer_f1.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from replication.metrics.metric import Floats, Metric, Rows, classes, divided


class F1(Metric):
    """2 TP / (2 TP + FP + FN); 0 when there is nothing to divide by, as the official GLUE scripts have it."""

    name = "f1"
    label = "F1"
    scale = "fraction, 0 to 1"
    of_one_item = False
    reported_for: Mapping[str, Sequence[str]] = {"classification": ("mrpc", "qqp")}

    def item_statistics(self, rows: Rows) -> Floats:
        """(n_items, 3): true positive, false positive, false negative."""
        predicted, positive = classes(rows, "prediction") == 1, classes(rows, "label") == 1
        return np.stack([positive & predicted, ~positive & predicted, positive & ~predicted], axis=1).astype(np.float64)

    def score(self, sums: Floats) -> Floats:
        """From the three counts."""
        hit, false, missed = np.moveaxis(sums, -1, 0)
        return divided(2 * hit, 2 * hit + false + missed)


METRIC = F1()
