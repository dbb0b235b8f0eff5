"""Corpus BLEU-4 of the E2E scripts' Python mteval mode.

Sources: Papineni et al. 2002; metrics/pymteval.py of tuetschek/e2e-metrics. Case-insensitive, several
references, the closest reference length (the shorter one of a tie), on the scale 0 to 1. Two corners differ
from sacrebleu and are kept, because published E2E figures come from the original: an empty prediction is
one (empty) word long, and a prediction of fewer than n words lowers the number of n-grams tried below zero.
A corpus of almost only one- and two-word predictions can therefore score above 1.

The last step is written twice: `bleu_from_statistics` with the math module, which gives the official value to the last
bit on every machine, and `Bleu.score` with numpy, which scores 10,000 resamples at once, 20 times as fast. The tests
hold one to the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replication.metrics.metric import Floats, Rows, texts
from replication.metrics.mteval_counts import counts
from replication.metrics.mteval_tokenizer import tokenize
from replication.metrics.programs import Programs
from replication.metrics.texts import References, TextMetric, Texts

ORDER = 4
N_STATISTICS = 2 * ORDER + 2
SHORT = 4
"""A prediction of fewer words has, in the official NIST, a negative number of n-grams (BLEU: under three)."""

# Floors of the original, which keep the logarithms defined when nothing matched or nothing could match.
_LEAST_MATCHES = 1e-15
_LEAST_TRIED = 1e-9


class Bleu(TextMetric):
    """Corpus BLEU-4."""

    name = "BLEU"
    label = "BLEU"
    scale = "0 to 1"
    leads = True
    position = 1

    def text_statistics(self, predictions: Texts, references: References) -> Floats:
        """(n_items, 10): as `segment_statistics`."""
        return segment_statistics(predictions, references).astype(np.float64)

    def score(self, sums: Floats) -> Floats:
        """`bleu_from_statistics` of many sums, shape (..., 10) to (...)."""
        matched = np.maximum(sums[..., :ORDER], _LEAST_MATCHES)
        tried = np.maximum(sums[..., ORDER : 2 * ORDER], _LEAST_TRIED)
        length, reference = sums[..., -2], sums[..., -1]
        brevity = np.where(length <= reference, 1 - reference / np.where(length == 0, 1e-5, length), 0.0)
        return np.asarray(np.exp(brevity + np.log(matched / tried).sum(axis=-1) / ORDER))

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """By `bleu_from_statistics`."""
        return bleu_from_statistics(self.total(self.item_statistics(rows)))

    def notes(self, rows: Rows) -> tuple[str, ...]:
        """Empty and very short predictions, which matter to NIST as well."""
        words = [tokenize(text) for text in texts(rows, "prediction")]
        notes = []
        if empty := sum(tokens == [""] for tokens in words):
            notes.append(f"{empty} of {len(words)} predictions are empty")
        if short := sum(len(tokens) < SHORT for tokens in words):
            notes.append(
                f"{short} of {len(words)} predictions have fewer than {SHORT} words; the official script "
                "subtracts n-grams for them, so BLEU and NIST can be too high, BLEU even above 1"
            )
        return tuple(notes)


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU of raw texts; `references[i]` holds at least one reference of `predictions[i]`."""
    return bleu_from_statistics(segment_statistics(predictions, references).sum(axis=0))


def segment_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> npt.NDArray[np.int64]:
    """Sufficient statistics, one row per item: shape (n_items, 10), integers.

    Columns: 0-3 n-grams matched (n = 1..4), 4-7 n-grams tried, 8 words in the prediction, 9 words in the
    reference closest in length. Sum any selection of rows and pass it to `bleu_from_statistics`: a
    bootstrap never retokenises.
    """
    if not predictions:
        return np.zeros((0, N_STATISTICS), dtype=np.int64)
    found = counts(tuple(predictions), tuple(map(tuple, references)))
    tried = found.lengths[:, None] - np.arange(ORDER)
    return np.column_stack([found.matched[:, :ORDER], tried, found.lengths, found.closest])


def bleu_from_statistics(sums: npt.ArrayLike) -> float:
    """BLEU of statistics summed over items, shape (10,)."""
    values = np.asarray(sums, dtype=np.float64)
    if values.shape != (N_STATISTICS,):
        raise ValueError(
            f"sums has shape {values.shape}; pass the sum of rows of segment_statistics, ({N_STATISTICS},)"
        )
    matches, tried = values[:ORDER], values[ORDER : 2 * ORDER]
    candidate_length, reference_length = values[-2:]
    log_precision = sum(
        math.log(max(matched, _LEAST_MATCHES) / max(total, _LEAST_TRIED))
        for matched, total in zip(matches.tolist(), tried.tolist(), strict=True)
    )
    brevity = 0.0
    if candidate_length <= reference_length:
        brevity = 1.0 - reference_length / (candidate_length or 1e-5)
    return math.exp(brevity) * math.exp(log_precision / ORDER)


METRIC = Bleu()
