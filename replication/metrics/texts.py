"""Metrics of generated texts with references: their item statistics are kept, since many comparisons use one run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache

from replication.metrics.metric import Floats, Metric, Rows, lists_of_texts, texts

Texts = tuple[str, ...]
References = tuple[Texts, ...]


class TextMetric(Metric):
    """A metric of the fields prediction (a text) and references (a list of texts, at least one)."""

    reported_for: Mapping[str, Sequence[str]] = {"generation": ("e2e",)}

    @abstractmethod
    def text_statistics(self, predictions: Texts, references: References) -> Floats:
        """`item_statistics` of raw texts."""

    def item_statistics(self, rows: Rows) -> Floats:
        """One pass for each set of predictions and references, cached; read-only."""
        return _kept(self, texts(rows, "prediction"), lists_of_texts(rows, "references"))


@lru_cache(maxsize=512)
def _kept(metric: TextMetric, predictions: Texts, references: References) -> Floats:
    statistics = metric.text_statistics(predictions, references)
    statistics.setflags(write=False)
    return statistics
