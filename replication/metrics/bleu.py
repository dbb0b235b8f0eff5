"""Corpus BLEU-4 of the E2E scripts' Python mteval mode.

Sources: Papineni et al. 2002; metrics/pymteval.py of tuetschek/e2e-metrics. Case-insensitive, several
references, the closest reference length (the shorter one of a tie), on the scale 0 to 1. Two corners differ
from sacrebleu and are kept, because published E2E figures come from the original: an empty prediction is
one (empty) word long, and a prediction of fewer than n words lowers the number of n-grams tried below zero.
A corpus of almost only one- and two-word predictions can therefore score above 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replication.metrics.mteval_tokenizer import tokenize
from replication.metrics.ngrams import ReferenceCounts, count_ngrams, count_references

ORDER = 4
N_STATISTICS = 2 * ORDER + 2

# Floors of the original, which keep the logarithms defined when nothing matched or nothing could match.
_LEAST_MATCHES = 1e-15
_LEAST_TRIED = 1e-9


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU of raw texts; `references[i]` holds at least one reference of `predictions[i]`."""
    return bleu_from_statistics(segment_statistics(predictions, references).sum(axis=0))


def segment_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> npt.NDArray[np.int64]:
    """Sufficient statistics, one row per item: shape (n_items, 10), integers.

    Columns: 0-3 n-grams matched (n = 1..4), 4-7 n-grams tried, 8 words in the prediction, 9 words in the
    reference closest in length. Sum any selection of rows and give it to `bleu_from_statistics`: a
    bootstrap never retokenises.
    """
    counted = [count_references(item) for item in references]
    return statistics_from_counts([tokenize(text) for text in predictions], counted)


def statistics_from_counts(
    predictions: Sequence[Sequence[str]], references: Sequence[ReferenceCounts]
) -> npt.NDArray[np.int64]:
    """`segment_statistics` of tokenised predictions and counted references."""
    rows = np.zeros((len(predictions), N_STATISTICS), dtype=np.int64)
    for row, words, reference in zip(rows, predictions, references, strict=True):
        for ngram, count in count_ngrams(words, ORDER).items():
            row[len(ngram) - 1] += min(count, reference.most[ngram])
        row[ORDER : 2 * ORDER] = len(words) - np.arange(ORDER)
        row[-2] = len(words)
        row[-1] = min(reference.lengths, key=lambda length: (abs(length - len(words)), length))
    return rows


def bleu_from_statistics(sums: npt.ArrayLike) -> float:
    """BLEU of statistics summed over items, shape (10,)."""
    values = np.asarray(sums, dtype=np.float64)
    if values.shape != (N_STATISTICS,):
        raise ValueError(
            f"sums has shape {values.shape}; give the sum of rows of segment_statistics, ({N_STATISTICS},)"
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
