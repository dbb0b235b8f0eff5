"""CIDEr as the E2E scripts report it: pycocoevalcap's scorer (the D form, sigma 6, scale 0 to 10).

Document frequencies come from the references given, so the score of a subset does not compare with the full
set's. A single item scores 0: every n-gram occurs in all documents.

The formula exists twice: the official figure comes from pycocoevalcap, to its last bit; the item statistics are
computed here, because pycocoevalcap recounts the references for every system. The tests hold one to the other,
item by item.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from replication.metrics import approximate_tokenizer
from replication.metrics.metric import Floats, Rows, lists_of_texts, share, texts, with_ones
from replication.metrics.ngrams import Ngram, count_ngrams
from replication.metrics.programs import Programs
from replication.metrics.texts import References, TextMetric, Texts

_ORDER = 4
_SIGMA = 6.0  # width of the penalty on lengths
Vector = tuple[tuple[dict[Ngram, float], ...], tuple[float, ...], int]


class Cider(TextMetric):
    """In a resample the document frequencies stay those of the full reference set.

    The items are those of `approximate_tokenizer`, with or without Java, so that intervals do not depend on it.
    """

    name = "CIDEr"
    label = "CIDEr"
    scale = "0 to 10"
    position = 5
    resampled = "approximate"
    java = "tokenizer"

    def text_statistics(self, predictions: Texts, references: References) -> Floats:
        """(n_items, 2): CIDEr-D of the item, one."""
        vectors, frequency = _reference_vectors(references)
        size, scores = math.log(len(references)), []
        for text, others in zip(approximate_tokenizer.tokenize(predictions), vectors, strict=True):
            vector = _vector(text.split(), frequency, size)
            scores.append(10 * sum(_similarity(vector, other) for other in others) / len(others))
        return with_ones(scores)

    def score(self, sums: Floats) -> Floats:
        """The mean."""
        return share(sums)

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """By `cider` on the official tokenisation."""
        references = programs.tokenise_lists(lists_of_texts(rows, "references"))
        return cider(programs.tokenise(texts(rows, "prediction")), references)


def cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus CIDEr of tokenised texts (single blanks between tokens)."""
    from pycocoevalcap.cider.cider import Cider as Official

    if not any(text.strip() for texts in references for text in texts):
        return 0.0  # no n-gram in any reference: the scorer would look for the most frequent one
    keys = range(len(predictions))
    truth = dict(zip(keys, (list(texts) for texts in references), strict=True))
    score, _ = Official().compute_score(truth, {key: [text] for key, text in zip(keys, predictions, strict=True)})
    return float(score)


@lru_cache(maxsize=8)
def _reference_vectors(references: References) -> tuple[tuple[tuple[Vector, ...], ...], dict[Ngram, float]]:
    frequency: Counter[Ngram] = Counter()
    words = [[text.split() for text in approximate_tokenizer.tokenize(texts)] for texts in references]
    for item in words:
        frequency.update({ngram for text in item for ngram in count_ngrams(text, _ORDER)})
    logs, size = {ngram: math.log(count) for ngram, count in frequency.items()}, math.log(len(references))
    return tuple(tuple(_vector(text, logs, size) for text in texts) for texts in words), logs


def _vector(words: Sequence[str], frequency: Mapping[Ngram, float], size: float) -> Vector:
    """tf-idf of the n-grams by order, their norms, and the number of word pairs, CIDEr's length."""
    weights: tuple[dict[Ngram, float], ...] = tuple({} for _ in range(_ORDER))
    for ngram, count in count_ngrams(words, _ORDER).items():
        weights[len(ngram) - 1][ngram] = count * (size - frequency.get(ngram, 0.0))
    norms = tuple(math.sqrt(sum(weight**2 for weight in order.values())) for order in weights)
    return weights, norms, max(0, len(words) - 1)


def _similarity(predicted: Vector, other: Vector) -> float:
    """Mean over orders of the clipped cosine, times the penalty on the difference of lengths."""
    total = 0.0
    for ours, theirs, norm, other_norm in zip(predicted[0], other[0], predicted[1], other[1], strict=True):
        if norm and other_norm:
            shared = sum(
                min(weight, theirs[ngram]) * theirs[ngram] for ngram, weight in ours.items() if ngram in theirs
            )
            total += shared / (norm * other_norm)
    return total / _ORDER * math.exp(-((predicted[2] - other[2]) ** 2) / (2 * _SIGMA**2))


METRIC = Cider()
