from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError
from replication.metrics.ngrams import in_references, laid_out, matches, number, runs

texts = st.lists(st.sampled_from("abcd"), max_size=7)
corpora = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=5)


def counted(words, order):
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))


def arrays(corpus):
    return laid_out([said for said, _ in corpus], number((golds for _, golds in corpus), {}))


@given(corpora)
def test_runs_are_the_counts_of_each_text(corpus):
    laid = arrays(corpus)
    flat = [text for said, golds in corpus for text in (said, *golds)]
    for order, found in enumerate(runs(laid, 5), start=1):
        expected = Counter()
        for text, words in enumerate(flat):
            for gram, count in counted(words, order).items():
                expected[text, gram] = count
        starts = np.cumsum(laid.lengths) - laid.lengths
        read = {}
        for text, first, count in zip(found.text, found.first, found.count, strict=True):
            begin = first - starts[text]
            read[int(text), tuple(flat[text][begin : begin + order])] = int(count)
        assert read == expected
        assert len(set(found.gram.tolist())) == len(found.prefix)


@given(corpora)
def test_matches_are_clipped_by_the_reference_that_has_most(corpus):
    laid = arrays(corpus)
    for order, found in enumerate(runs(laid, 5), start=1):
        hits = matches(laid, found)
        sums = np.bincount(hits.item, weights=hits.count, minlength=len(corpus))
        expected = []
        for said, golds in corpus:
            most = Counter()
            for gold in golds:
                most |= counted(gold, order)
            expected.append(sum((counted(said, order) & most).values()))
        assert sums.tolist() == expected
        assert (np.diff(hits.item) >= 0).all()
        occurrences, items = in_references(laid, found)
        every = sum((counted(gold, order) for _, golds in corpus for gold in golds), Counter())
        holding = sum((Counter({g for gold in golds for g in counted(gold, order)}) for _, golds in corpus), Counter())
        assert sorted(occurrences[occurrences > 0].tolist()) == sorted(every.values())
        assert sorted(items[items > 0].tolist()) == sorted(holding.values())


def test_an_item_without_references_is_an_error():
    with pytest.raises(DataError, match="at least one reference"):
        laid_out([["a"]], number([[]], {}))
    with pytest.raises(DataError, match="at least one reference"):
        laid_out([["a"], ["b"]], number([[["a"]]], {}))
