"""CIDEr as the E2E scripts report it: pycocoevalcap's scorer (the D form, sigma 6, scale 0 to 10).

Document frequencies come from the references given, so the score of a subset does not compare with the full
set's. A single item scores 0: every n-gram occurs in all documents.

The last step exists twice: `cider` has the order of operations of pycocoevalcap and gives its figure to the last bit
(the tests hold it to that), in a tenth of its time and memory; the item statistics have an order of their own, which
intervals were computed with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from replication.metrics import approximate_tokenizer
from replication.metrics.metric import Floats, Rows, lists_of_texts, share, texts, with_ones
from replication.metrics.ngrams import Corpus, Ints, Numbered, Runs, in_references, laid_out, number, runs
from replication.metrics.programs import Programs
from replication.metrics.texts import References, TextMetric, Texts

_ORDER = 4
_SIGMA = 6.0  # width of the penalty on lengths
_TEXTS = 20_000  # added up together


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
        found = _similarities(tuple(approximate_tokenizer.tokenize(predictions)), _tokenised(references), math.log)
        total = np.zeros(len(found.item))
        for shared, norms in zip(found.shared, found.norms, strict=True):
            total += np.where(norms == 0, 0.0, shared / np.where(norms == 0, 1.0, norms))
        penalty = found.by_difference(lambda difference: math.exp(-(difference**2) / (2 * _SIGMA**2)))
        sums = np.bincount(found.item, weights=total / _ORDER * penalty, minlength=len(predictions))
        return with_ones(10 * sums / np.bincount(found.item))

    def score(self, sums: Floats) -> Floats:
        """The mean."""
        return share(sums)

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """By `cider` on the official tokenisation."""
        references = programs.tokenise_lists(lists_of_texts(rows, "references"))
        return cider(programs.tokenise(texts(rows, "prediction")), references)


def cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus CIDEr of tokenised texts (single blanks between tokens)."""
    golds = tuple(map(tuple, references))
    if not any(text.strip() for texts in golds for text in texts):
        return 0.0  # no n-gram in any reference: the original looks for the most frequent one
    found = _similarities(tuple(predictions), golds, _log)
    penalty = found.by_difference(lambda difference: np.e ** (-(float(difference) ** 2) / (2 * _SIGMA**2)))
    by_order = [
        np.bincount(
            found.item, weights=np.where(norms == 0, shared, shared / np.where(norms == 0, 1.0, norms)) * penalty
        )
        for shared, norms in zip(found.shared, found.norms, strict=True)
    ]
    means = (((by_order[0] + by_order[1]) + by_order[2]) + by_order[3]) / _ORDER
    return float(np.mean(means / np.bincount(found.item) * 10.0))


def _log(value: float) -> float:
    return float(np.log(value))


@dataclass(frozen=True)
class _Similarities:
    """Reference by reference."""

    item: Ints
    shared: list[Floats]
    """Of each order the clipped product of the prediction's and the reference's tf-idf vectors."""
    norms: list[Floats]
    """The product of their norms."""
    difference: Ints
    """Word pairs of the prediction less those of the reference: CIDEr's lengths."""

    def by_difference(self, penalty: Callable[[int], float]) -> Floats:
        """A function of the difference in length, called once for each value."""
        values, which = np.unique(self.difference, return_inverse=True)
        return np.array([penalty(value) for value in values.tolist()])[which]


def _similarities(predictions: Texts, references: References, log: Callable[[float], float]) -> _Similarities:
    corpus = laid_out((text.split() for text in predictions), _numbered(references))
    golds = np.flatnonzero(~corpus.predicted)
    item = corpus.item[golds]
    own = corpus.begins[item]
    shared, norms = [], []
    for found in runs(corpus, _ORDER):
        _, frequency = in_references(corpus, found)
        weight, square = _weights(found, frequency, log(float(len(predictions))), log)
        norm = np.sqrt(_added(corpus, found.first, square))
        del square
        norms.append(norm[own] * norm[golds])
        shared.append(_products(corpus, found, weight)[golds])
    pairs = np.maximum(0, corpus.lengths - 1)
    return _Similarities(item, shared, norms, pairs[own] - pairs[golds])


@lru_cache(maxsize=4)
def _tokenised(references: References) -> References:
    return tuple(tuple(approximate_tokenizer.tokenize(texts)) for texts in references)


@lru_cache(maxsize=4)
def _numbered(references: References) -> Numbered:
    return number(([text.split() for text in texts] for texts in references), {})


def _weights(found: Runs, frequency: Ints, size: float, log: Callable[[float], float]) -> tuple[Floats, Floats]:
    """tf-idf of each run and its square; the functions are called once for each value, as on scalars."""
    idf = np.zeros(frequency.max(initial=0) + 1)
    for value in np.flatnonzero(np.bincount(frequency)).tolist():
        idf[value] = size - log(max(1.0, float(value)))
    of_run = frequency[found.gram]
    weight: Floats = np.multiply(idf[of_run], found.count, dtype=np.float64)
    square: Floats = np.array([value**2 for value in idf.tolist()])[of_run]
    often = np.flatnonzero(found.count > 1)
    values, which = np.unique(weight[often], return_inverse=True)
    square[often] = np.array([value**2 for value in values.tolist()])[which]
    return weight, square


def _products(corpus: Corpus, found: Runs, weight: Floats) -> Floats:
    """Of each text the product of its vector and that of its item's prediction."""
    predicted = corpus.predicted[found.text[found.groups]]
    said = found.groups[predicted]  # the first run of an item's n-gram is the prediction's
    others = np.diff(found.groups, append=len(found.text))[predicted] - 1
    said = np.repeat(said, others)
    run = said + 1 + np.arange(len(said)) - np.repeat(np.cumsum(others) - others, others)
    order = np.argsort(found.first[said], kind="stable")
    said, run = said[order], run[order]
    products = np.minimum(weight[said], weight[run]) * weight[run]
    return np.asarray(np.bincount(found.text[run], weights=products, minlength=len(corpus.lengths)), dtype=np.float64)


def _added(corpus: Corpus, first: Ints, values: Floats) -> Floats:
    """Sums by text, in the order of the first occurrences; some texts at a time, to bound memory."""
    at = np.zeros(len(corpus.words))
    at[first] = values
    texts, ends = len(corpus.lengths), np.concatenate([[0], np.cumsum(corpus.lengths)])
    sums = [
        np.bincount(corpus.text[begin:end] - start, weights=at[begin:end], minlength=min(_TEXTS, texts - start))
        for start in range(0, texts, _TEXTS)
        for begin, end in [(ends[start], ends[min(start + _TEXTS, texts)])]
    ]
    return np.concatenate(sums)


METRIC = Cider()
