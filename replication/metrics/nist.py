"""Corpus NIST-5 of the E2E scripts' Python mteval mode.

Sources: Doddington 2002; metrics/pymteval.py of tuetschek/e2e-metrics. A matched n-gram counts by its
information: log2 of how often its first n-1 words occur in all references of the corpus over how often all
n do. Per order the information matched is divided by the n-grams tried; the sum over orders is scaled by a
length penalty against the mean reference length of each item.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from replication.metrics.mteval_tokenizer import tokenize
from replication.metrics.ngrams import LONGEST, Ngram, ReferenceCounts, count_ngrams, count_references

# The penalty is one half when the output has two thirds of the reference words.
_BETA = math.log(0.5) / math.log(1.5) ** 2


def nist(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus NIST of raw texts; `references[i]` holds at least one reference of `predictions[i]`."""
    counted = [count_references(item) for item in references]
    return nist_from_counts([tokenize(text) for text in predictions], counted)


def nist_from_counts(predictions: Sequence[Sequence[str]], references: Sequence[ReferenceCounts]) -> float:
    """NIST of tokenised predictions and counted references.

    As in the original, a prediction of fewer than n words lowers the number of n-grams tried below zero.
    Where that number is exactly zero the original divides by it; we take one, as a maintained copy does
    (lxuechen/e2e-metrics), so that a corpus of four-word predictions has a score.
    """
    corpus: Counter[Ngram] = Counter()
    for reference in references:
        corpus.update(reference.total)
    corpus[()] = sum(sum(reference.lengths) for reference in references)

    information = [0.0] * LONGEST
    for words, reference in zip(predictions, references, strict=True):
        for ngram, count in count_ngrams(words).items():
            matched = min(count, reference.most[ngram])
            if matched:
                information[len(ngram) - 1] += matched * math.log(corpus[ngram[:-1]] / corpus[ngram], 2)
    tried = [sum(len(words) - order for words in predictions) for order in range(LONGEST)]
    gain = sum(value / (total or 1) for value, total in zip(information, tried, strict=True))

    mean_lengths = sum(sum(reference.lengths) / len(reference.lengths) for reference in references)
    return gain * _length_penalty(tried[0] / mean_lengths)


def _length_penalty(ratio: float) -> float:
    return 1.0 if ratio >= 1 else math.exp(_BETA * math.log(ratio) ** 2)
