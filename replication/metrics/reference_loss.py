"""Loss on the references of generated texts: nats a token, teacher-forced; lower is better.

Each row holds the sum over its scored references' tokens and their number (replication/tasks/reference_losses.py);
the score is the ratio of the two sums over rows: every token has the same weight. Rows without them have no such score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from replication.metrics.metric import Floats, Metric, Rows, numbers, share


class ReferenceLoss(Metric):
    """Negative log-likelihood over tokens."""

    name = "reference_loss"
    label = "reference loss"
    direction = "lower"
    scale = "nats a token, 0 and up"
    position = 6
    reported_for: Mapping[str, Sequence[str]] = {"generation": ("e2e",)}

    def measured(self, rows: Rows) -> bool:
        """Whether every row has its loss."""
        return bool(rows) and all("reference_nll" in row and "reference_tokens" in row for row in rows)

    def item_statistics(self, rows: Rows) -> Floats:
        """(n_items, 2): nats, tokens."""
        return np.stack([numbers(rows, "reference_nll"), numbers(rows, "reference_tokens")], axis=1)

    def score(self, sums: Floats) -> Floats:
        """Nats a token."""
        return share(sums)

    def total(self, statistics: Floats) -> Floats:
        """Sums without rounding in between."""
        return np.array([math.fsum(column) for column in statistics.T])


METRIC = ReferenceLoss()
