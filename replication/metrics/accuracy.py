"""Accuracy: the share of predicted classes that are right.

Of multiple choice only where a card names it: acc.py and acc_norm.py say by which log-likelihoods a choice was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from replication.metrics.metric import Floats, Metric, Rows, classes, share


class Accuracy(Metric):
    """Right over counted."""

    name = "accuracy"
    label = "accuracy"
    scale = "fraction, 0 to 1"
    leads = True
    reported_for: Mapping[str, Sequence[str]] = {
        "classification": ("mrpc", "qnli", "qqp", "rte", "sst2", "accuracy"),
        "multiple_choice": ("accuracy",),
    }

    def item_statistics(self, rows: Rows) -> Floats:
        """(n_items, 2): right, counted."""
        right = classes(rows, "prediction") == classes(rows, "label")
        return np.stack([right, np.ones_like(right)], axis=1).astype(np.float64)

    def score(self, sums: Floats) -> Floats:
        """Right over counted."""
        return share(sums)


METRIC = Accuracy()
