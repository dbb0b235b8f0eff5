"""Matched n-grams and lengths, from which BLEU and NIST come: one pass over the corpus for both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from replication.metrics.metric import Floats
from replication.metrics.mteval_tokenizer import tokenize
from replication.metrics.ngrams import Corpus, Ints, Numbered, in_references, laid_out, matches, number, runs
from replication.metrics.texts import References, Texts

LONGEST = 5
"""NIST's order; BLEU reads the first four."""


@dataclass(frozen=True)
class Counts:
    """Item by item; arrays are read-only."""

    matched: Ints
    """(n_items, 5): n-grams of the prediction that its references have, clipped."""
    information: Floats
    """(n_items, 5): what NIST makes of them."""
    total_information: tuple[float, ...]
    """Of each order over all items, added one after the other."""
    lengths: Ints
    """(n_items,): words in the prediction."""
    closest: Ints
    """(n_items,): words in the reference closest in length, the shorter of a tie."""
    mean: Floats
    """(n_items,): mean words in the references."""


@lru_cache(maxsize=16)
def counts(predictions: Texts, references: References) -> Counts:
    """Counts of raw texts; DataError for an item without a reference."""
    corpus = laid_out(map(tokenize, predictions), _numbered(references))
    matched: Ints = np.zeros((len(predictions), LONGEST), dtype=np.int64)
    information: Floats = np.zeros((len(predictions), LONGEST))
    totals = []
    before: Ints = np.array([corpus.lengths[~corpus.predicted].sum()])  # how often the empty n-gram occurs: once a word
    for order, found in enumerate(runs(corpus, LONGEST)):
        seen, _ = in_references(corpus, found)
        hits = matches(corpus, found)
        values = hits.count * _information(before[found.prefix[hits.gram]], seen[hits.gram])
        matched[:, order] = np.bincount(hits.item, weights=hits.count, minlength=len(predictions))
        information[:, order] = np.bincount(hits.item, weights=values, minlength=len(predictions))
        totals.append(float(np.cumsum(values)[-1]) if len(values) else 0.0)
        before = seen
    closest, mean = _reference_lengths(corpus)
    lengths = corpus.lengths[corpus.begins]
    for array in (matched, information, lengths, closest, mean):
        array.setflags(write=False)
    return Counts(matched, information, tuple(totals), lengths, closest, mean)


@lru_cache(maxsize=4)
def _numbered(references: References) -> Numbered:
    return number(([tokenize(text) for text in texts] for texts in references), {})


def _information(prefixes: Ints, seen: Ints) -> Floats:
    """log2 of how often the first n - 1 words of each match occur over how often all n do, by math.log."""
    ratios, which = np.unique(prefixes / seen, return_inverse=True)
    return np.array([math.log(ratio, 2) for ratio in ratios.tolist()])[which]


def _reference_lengths(corpus: Corpus) -> tuple[Ints, Floats]:
    """The closest and the mean length of each item's references."""
    said, own = corpus.predicted, corpus.lengths[corpus.begins][corpus.item]
    away = np.abs(corpus.lengths - own) * (corpus.lengths.max() + 1) + corpus.lengths
    away[said] = np.iinfo(np.int64).max
    closest = np.minimum.reduceat(away, corpus.begins) % (corpus.lengths.max() + 1)
    lengths = np.where(said, 0, corpus.lengths)
    return closest, np.add.reduceat(lengths, corpus.begins) / (corpus.texts - 1)
