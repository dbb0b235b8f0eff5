"""Corpus NIST-5 of the E2E scripts' Python mteval mode.

Sources: Doddington 2002; metrics/pymteval.py of tuetschek/e2e-metrics. A matched n-gram counts by its
information: log2 of how often its first n-1 words occur in all references of the corpus over how often all
n do. Per order the information matched is divided by the n-grams tried; the sum over orders is scaled by a
length penalty against the mean reference length of each item.

The sum and the last step are written twice: `nist` adds in the order of the original, with the math module, and gives
the official figure to the last bit; `Nist` adds item by item and scores many sums at once. The tests hold one to the
other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from replication.metrics.metric import Floats, Rows, lists_of_texts, texts
from replication.metrics.mteval_counts import LONGEST, counts
from replication.metrics.programs import Programs
from replication.metrics.texts import References, TextMetric, Texts

# The penalty is one half when the output has two thirds of the reference words.
_BETA = math.log(0.5) / math.log(1.5) ** 2


class Nist(TextMetric):
    """Corpus NIST-5. In a resample the information of an n-gram stays that of the full reference set."""

    name = "NIST"
    label = "NIST"
    scale = "0 and up"
    position = 2

    def text_statistics(self, predictions: Texts, references: References) -> Floats:
        """(n_items, 11): information matched per order (5), n-grams tried per order (5), mean reference length."""
        found = counts(predictions, references)
        tried = found.lengths[:, None] - np.arange(LONGEST)
        return np.column_stack([found.information, tried, found.mean])

    def score(self, sums: Floats) -> Floats:
        """NIST of many sums, shape (..., 11) to (...)."""
        tried = sums[..., LONGEST:-1]
        gain = (sums[..., :LONGEST] / np.where(tried == 0, 1.0, tried)).sum(axis=-1)
        ratio = np.clip(tried[..., 0] / sums[..., -1], 1e-300, 1.0)
        return np.asarray(gain * np.exp(_BETA * np.log(ratio) ** 2))

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """By `nist`."""
        return nist(texts(rows, "prediction"), lists_of_texts(rows, "references"))


def nist(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus NIST of raw texts; `references[i]` holds at least one reference of `predictions[i]`.

    As in the original, a prediction of fewer than n words lowers the number of n-grams tried below zero.
    Where that number is exactly zero the original divides by it; we take one, as a maintained copy does
    (lxuechen/e2e-metrics), so that a corpus of four-word predictions has a score.
    """
    found = counts(tuple(predictions), tuple(map(tuple, references)))
    tried = [int(found.lengths.sum()) - order * len(predictions) for order in range(LONGEST)]
    gain = sum(value / (total or 1) for value, total in zip(found.total_information, tried, strict=True))
    return gain * _length_penalty(tried[0] / sum(found.mean.tolist()))


def _length_penalty(ratio: float) -> float:
    return 1.0 if ratio >= 1 else math.exp(_BETA * math.log(ratio) ** 2)


METRIC = Nist()
