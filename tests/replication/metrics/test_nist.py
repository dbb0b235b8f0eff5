import math
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.metrics.nist import nist

WORDS = ["the", "pub", "is", "cheap", "near", "river", "low-priced"]
long_text = st.lists(st.sampled_from(WORDS), min_size=5, max_size=12).map(" ".join)
any_text = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


def corpora(text):
    item = st.tuples(text, st.lists(text, min_size=1, max_size=3))
    return st.lists(item, min_size=1, max_size=5).map(lambda items: ([p for p, _ in items], [r for _, r in items]))


# Values of metrics/pymteval.py (tuetschek/e2e-metrics).
ORIGINAL = [
    (
        ["", "The pub", "cheap", "A cheap pub near the river."],
        [
            ["a pub"],
            ["the pub is cheap", "the pub"],
            ["Cheap food."],
            ["A cheap pub by the river.", "There is a cheap pub near the river."],
        ],
        1.6438818967149351,
    ),
    (
        ["the pub is cheap", "a", "b", "the"],
        [["the pub is cheap"], ["a"], ["b"], ["the"]],
        2.8549739696766516,
    ),
    (
        [
            "It costs £20-25, i.e. less than $30.50 (cheap!).",
            "Fish & chips &amp; peas: 5-star 'food' at 10:30",
        ],
        [
            ["It costs £20-25 -- less than $30.50.", "They charge £20-25, cheap!"],
            ["fish & chips & peas: 5-STAR 'FOOD' at 10:30", "Fish and chips."],
        ],
        4.260818248281692,
    ),
    (  # the length penalty at work
        ["Loch Fyne is family friendly"],
        [
            [
                "Loch Fyne is a family friendly restaurant that serves cheap English food near the river",
                "Loch Fyne is family friendly and cheap, and it is near the river in the city",
            ]
        ],
        0.01703576470229813,
    ),
    (
        ["the pub is cheap today", "Café Zoë serves crêpes – cheaply"],
        [["the pub is cheap today", "today the pub is very cheap"], ["café zoë serves crêpes - CHEAPLY"]],
        3.7946638738216545,
    ),
]


@pytest.mark.parametrize(("predictions", "references", "expected"), ORIGINAL)
def test_equals_the_original(predictions, references, expected):
    assert nist(predictions, references) == pytest.approx(expected, rel=1e-12)


def by_definition(predictions, references):
    """NIST-5 written from its definition for plain lower-case words, slowly and without sharing code."""

    def ngrams(words, n):
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    seen = defaultdict(int)
    for text in (text for item in references for text in item):
        seen[()] += len(text.split())
        for n in range(1, 6):
            for ngram in ngrams(text.split(), n):
                seen[ngram] += 1
    score = 0.0
    for n in range(1, 6):
        gain = tried = 0.0
        for prediction, item in zip(predictions, references, strict=True):
            mine = ngrams(prediction.split(), n)
            tried += len(prediction.split()) - n + 1
            for ngram in set(mine):
                matched = min(mine.count(ngram), max(ngrams(t.split(), n).count(ngram) for t in item))
                if matched:
                    gain += matched * math.log2(seen[ngram[:-1]] / seen[ngram])
        score += gain / tried
    words = sum(len(p.split()) for p in predictions)
    mean = sum(sum(len(t.split()) for t in item) / len(item) for item in references)
    ratio = min(1.0, words / mean)
    return score * math.exp(math.log(0.5) * (math.log(ratio) / math.log(1.5)) ** 2)


@given(corpora(long_text))
def test_equals_the_definition(corpus):
    assert nist(*corpus) == pytest.approx(by_definition(*corpus), abs=1e-9)


def test_the_penalty_is_one_half_at_two_thirds_of_the_length():
    # a..f occur once in the nine reference words: log2(9) each, all other orders carry no information
    assert nist(["a b c d e f"], [["a b c d e f g h i"]]) == pytest.approx(math.log2(9) / 2)


def test_information_counts_all_references_of_the_corpus():
    alone = nist(["a b c d e"], [["a b c d e"]])
    among = nist(["a b c d e", "v w x y z"], [["a b c d e"], ["v w x y z"]])
    assert alone == pytest.approx(math.log2(5))
    assert among == pytest.approx(math.log2(10))


def test_four_word_predictions_have_a_score():
    # The original divides by zero here: no 5-gram can be tried.
    assert nist(["a b c d"], [["a b c d"]]) == pytest.approx(2.0)


@given(corpora(long_text))
def test_bounds(corpus):
    predictions, references = corpus
    total = sum(len(text.split()) for item in references for text in item)
    assert 0 <= nist(predictions, references) <= 5 * math.log2(total) + 1e-9


@given(corpora(any_text), st.randoms())
def test_order_and_case_do_not_matter(corpus, random):
    predictions, references = corpus
    order = random.sample(range(len(predictions)), len(predictions))
    shuffled = [random.sample(references[i], len(references[i])) for i in order]
    score = nist(predictions, references)
    assert nist([predictions[i].upper() for i in order], shuffled) == pytest.approx(score, rel=1e-9, abs=1e-12)
