"""BLEU, NIST, ROUGE-L, CIDEr and reference loss of generated texts as sums over items, for resampling items.

What a corpus score needs of its whole reference set stays that of the full set in every resample: NIST's information
weights and CIDEr's document frequencies. BLEU and NIST are exact. ROUGE-L and CIDEr are the official formulas on
`approximate_tokenizer`, whether or not Java is installed, so that a report does not depend on it: they are approximate.
The tests hold each against the metric that writes metrics.json (replication.metrics, pycocoevalcap); their item scores
are computed here because pycocoevalcap counts the references anew for every system."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.stats.bootstrap import Floats, Rowwise
from replication.metrics import approximate_tokenizer
from replication.metrics.bleu import ORDER, statistics_from_counts
from replication.metrics.mteval_tokenizer import tokenize
from replication.metrics.ngrams import LONGEST, Ngram, ReferenceCounts, count_ngrams, count_references
from replication.metrics.reference_loss import REFERENCE_LOSS, item_losses

Row = Mapping[str, Any]
Texts = tuple[str, ...]
References = tuple[Texts, ...]
APPROXIMATE = ("ROUGE_L", "CIDEr")
_BETA = 1.2  # ROUGE-L: how much recall counts
_SIGMA = 6.0  # CIDEr: width of the penalty on lengths
_NIST_BETA = math.log(0.5) / math.log(1.5) ** 2


def generation_statistics(metric: str, rows: Sequence[Row]) -> Floats | None:
    """Sufficient statistics of predictions with references, shape (n_items, k).

    None for METEOR and unknown metrics, and for the reference loss unless every row has it.
    """
    if metric == REFERENCE_LOSS:
        losses = item_losses(rows)
        return None if losses is None else np.array(losses, dtype=np.float64)
    if metric not in _STATISTICS or not rows:
        return None
    predictions = tuple(str(row["prediction"]) for row in rows)
    references = tuple(tuple(row["references"]) for row in rows)
    return _rows_of(metric, predictions, references)


@lru_cache(maxsize=512)
def _rows_of(metric: str, predictions: Texts, references: References) -> Floats:
    """One pass a metric and set of predictions, however many comparisons use it."""
    rows = _STATISTICS[metric](predictions, references)
    rows.setflags(write=False)
    return rows


def _bleu_rows(predictions: Texts, references: References) -> Floats:
    """(n_items, 10): as `replication.metrics.bleu.segment_statistics` has them."""
    return statistics_from_counts([tokenize(text) for text in predictions], _counted(references)).astype(np.float64)


def _bleu(sums: Floats) -> Floats:
    """`bleu_from_statistics` of many sums, shape (..., 10) to (...)."""
    matched, tried = np.maximum(sums[..., :ORDER], 1e-15), np.maximum(sums[..., ORDER : 2 * ORDER], 1e-9)
    length, reference = sums[..., -2], sums[..., -1]
    brevity = np.where(length <= reference, 1 - reference / np.where(length == 0, 1e-5, length), 0.0)
    return np.asarray(np.exp(brevity + np.log(matched / tried).sum(axis=-1) / ORDER))


def _nist_rows(predictions: Texts, references: References) -> Floats:
    """(n_items, 11): information matched per order (5), n-grams tried per order (5), mean reference length."""
    counted, corpus = _counted(references), _corpus_counts(references)
    rows = np.zeros((len(predictions), 2 * LONGEST + 1))
    for row, text, reference in zip(rows, predictions, counted, strict=True):
        words = tokenize(text)
        for ngram, count in count_ngrams(words).items():
            if ngram in reference.most:
                information = math.log(corpus[ngram[:-1]] / corpus[ngram], 2)
                row[len(ngram) - 1] += min(count, reference.most[ngram]) * information
        row[LONGEST:-1] = len(words) - np.arange(LONGEST)
        row[-1] = sum(reference.lengths) / len(reference.lengths)
    return rows


def _nist(sums: Floats) -> Floats:
    """NIST of many sums, shape (..., 11) to (...): as `nist_from_counts` ends."""
    tried = sums[..., LONGEST:-1]
    gain = (sums[..., :LONGEST] / np.where(tried == 0, 1.0, tried)).sum(axis=-1)
    ratio = np.clip(tried[..., 0] / sums[..., -1], 1e-300, 1.0)
    return np.asarray(gain * np.exp(_NIST_BETA * np.log(ratio) ** 2))


@lru_cache(maxsize=8)
def _counted(references: References) -> tuple[ReferenceCounts, ...]:
    return tuple(count_references(texts) for texts in references)


@lru_cache(maxsize=8)
def _corpus_counts(references: References) -> Counter[Ngram]:
    corpus: Counter[Ngram] = Counter()
    for reference in _counted(references):
        corpus.update(reference.total)
    corpus[()] = sum(sum(reference.lengths) for reference in _counted(references))
    return corpus


@lru_cache(maxsize=8)
def _tokenised(references: References) -> tuple[tuple[list[str], ...], ...]:
    """Words of every reference, by the approximate tokenizer."""
    return tuple(tuple(text.split(" ") for text in approximate_tokenizer.tokenize(texts)) for texts in references)


def _rouge_rows(predictions: Texts, references: References) -> Floats:
    """(n_items, 2): ROUGE-L of the item (best precision and best recall apart, as COCO has it), and one."""
    said = [text.split(" ") for text in approximate_tokenizer.tokenize(predictions)]
    scores = [_rouge_l(words, texts) for words, texts in zip(said, _tokenised(references), strict=True)]
    return _with_ones(scores)


def _rouge_l(words: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    places: dict[str, int] = {}
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << place
    common = [_common_subsequence(places, len(words), reference) for reference in references]
    precision = max(length / len(words) for length in common)
    recall = max(length / len(reference) for length, reference in zip(common, references, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common_subsequence(places: Mapping[str, int], length: int, other: Sequence[str]) -> int:
    """Length of the longest common subsequence, one bit a word (Hyyro 2004); `places`: word -> where it stands."""
    everywhere = (1 << length) - 1
    row = everywhere
    for word in other:
        hit = row & places.get(word, 0)
        row = ((row + hit) | (row - hit)) & everywhere
    return length - row.bit_count()


Vector = tuple[tuple[dict[Ngram, float], ...], tuple[float, ...], int]


def _cider_rows(predictions: Texts, references: References) -> Floats:
    """(n_items, 2): CIDEr-D of the item with the full reference set's document frequencies, and one."""
    vectors, frequency = _reference_vectors(references)
    size, scores = math.log(len(references)), []
    for text, texts in zip(approximate_tokenizer.tokenize(predictions), vectors, strict=True):
        vector = _vector(text.split(), frequency, size)
        scores.append(10 * sum(_similarity(vector, other) for other in texts) / len(texts))
    return _with_ones(scores)


@lru_cache(maxsize=8)
def _reference_vectors(references: References) -> tuple[tuple[tuple[Vector, ...], ...], dict[Ngram, float]]:
    frequency: Counter[Ngram] = Counter()
    words = [[[word for word in text if word] for text in texts] for texts in _tokenised(references)]
    for texts in words:
        frequency.update({ngram for text in texts for ngram in count_ngrams(text, ORDER)})
    logs, size = {ngram: math.log(count) for ngram, count in frequency.items()}, math.log(len(references))
    return tuple(tuple(_vector(text, logs, size) for text in texts) for texts in words), logs


def _vector(words: Sequence[str], frequency: Mapping[Ngram, float], size: float) -> Vector:
    """tf-idf of the n-grams by order, their norms, and the number of word pairs, CIDEr's length."""
    weights: tuple[dict[Ngram, float], ...] = tuple({} for _ in range(ORDER))
    for ngram, count in count_ngrams(words, ORDER).items():
        weights[len(ngram) - 1][ngram] = count * (size - frequency.get(ngram, 0.0))
    norms = tuple(math.sqrt(sum(weight**2 for weight in order.values())) for order in weights)
    return weights, norms, max(0, len(words) - 1)


def _similarity(said: Vector, other: Vector) -> float:
    """Mean over orders of the clipped cosine, times the penalty on the difference of lengths."""
    total = 0.0
    for ours, theirs, norm, other_norm in zip(said[0], other[0], said[1], other[1], strict=True):
        if norm and other_norm:
            shared = sum(
                min(weight, theirs[ngram]) * theirs[ngram] for ngram, weight in ours.items() if ngram in theirs
            )
            total += shared / (norm * other_norm)
    return total / ORDER * math.exp(-((said[2] - other[2]) ** 2) / (2 * _SIGMA**2))


def _with_ones(scores: Sequence[float]) -> Floats:
    return np.stack([np.asarray(scores, dtype=np.float64), np.ones(len(scores))], axis=1)


def share(sums: Floats) -> Floats:
    """First column over the second, shape (..., 2) to (...); 0 where nothing was counted."""
    counted = sums[..., 1]
    return np.asarray(np.where(counted == 0, 0.0, sums[..., 0] / np.where(counted == 0, 1.0, counted)))


_STATISTICS: dict[str, Callable[[Texts, References], Floats]] = {
    "BLEU": _bleu_rows,
    "NIST": _nist_rows,
    "ROUGE_L": _rouge_rows,
    "CIDEr": _cider_rows,
}
GENERATION_SCORES: dict[str, Rowwise] = {
    "BLEU": Rowwise(_bleu),
    "NIST": Rowwise(_nist),
    "ROUGE_L": Rowwise(share),
    "CIDEr": Rowwise(share),
    REFERENCE_LOSS: Rowwise(share),
}
"""Metric -> the function from a sum of `generation_statistics` to the score."""
