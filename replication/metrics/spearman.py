"""Spearman's correlation: Pearson's of the ranks, equal values sharing the mean of theirs."""

from __future__ import annotations

import numpy as np

from replication.metrics.metric import Floats, Rows, numbers
from replication.metrics.pearson import Pearson, moments, pearson
from replication.metrics.programs import Programs


class Spearman(Pearson):
    """In a resample each item keeps its rank in the whole test set."""

    name = "spearman"
    label = "Spearman"
    leads = False

    def item_statistics(self, rows: Rows) -> Floats:
        """(n_items, 6): moments of the ranks."""
        return moments(ranks(numbers(rows, "prediction")), ranks(numbers(rows, "label")))

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """By `pearson` of the ranks."""
        return pearson(ranks(numbers(rows, "prediction")), ranks(numbers(rows, "label")))


def ranks(values: Floats) -> Floats:
    """Ranks from 1."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray(((last - counts + 1 + last) / 2)[inverse])


METRIC = Spearman()
