import math

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from replication.metrics.bleu import bleu, bleu_from_statistics, segment_statistics

WORDS = ["the", "pub", "is", "cheap", "near", "river", "family-friendly", "£20-25", "5", "star", ",", "."]
long_text = st.lists(st.sampled_from(WORDS), min_size=4, max_size=14).map(" ".join)
any_text = st.lists(st.sampled_from([*WORDS, "Café", "(a)"]), max_size=8).map(" ".join)


def corpora(text, max_items=6):
    item = st.tuples(text, st.lists(text, min_size=1, max_size=4))
    return st.lists(item, min_size=1, max_size=max_items).map(
        lambda items: ([p for p, _ in items], [r for _, r in items])
    )


# Values of metrics/pymteval.py (tuetschek/e2e-metrics) where it differs from other implementations.
ORIGINAL = [
    (  # an empty prediction is one word long; short ones have fewer than no n-grams
        ["", "The pub", "cheap", "A cheap pub near the river."],
        [
            ["a pub"],
            ["the pub is cheap", "the pub"],
            ["Cheap food."],
            ["A cheap pub by the river.", "There is a cheap pub near the river."],
        ],
        212.4149425282805,
    ),
    (["the pub is cheap", "a", "b", "the"], [["the pub is cheap"], ["a"], ["b"], ["the"]], 37606.03093086394),
    (
        [
            "It costs £20-25, i.e. less than $30.50 (cheap!).",
            "Fish & chips &amp; peas: 5-star 'food' at 10:30",
        ],
        [
            ["It costs £20-25 -- less than $30.50.", "They charge £20-25, cheap!"],
            ["fish & chips & peas: 5-STAR 'FOOD' at 10:30", "Fish and chips."],
        ],
        0.6689261952806771,
    ),
    (
        ["Loch Fyne is family friendly"],
        [
            [
                "Loch Fyne is a family friendly restaurant that serves cheap English food near the river",
                "Loch Fyne is family friendly and cheap, and it is near the river in the city",
            ]
        ],
        0.1353352832366127,
    ),
    (
        ["the pub is cheap today", "Café Zoë serves crêpes – cheaply"],
        [["the pub is cheap today", "today the pub is very cheap"], ["café zoë serves crêpes - CHEAPLY"]],
        0.7419446627365011,
    ),
    ([""], [["a b"]], 2.068738124586341e-09),
]


@pytest.mark.parametrize(("predictions", "references", "expected"), ORIGINAL)
def test_equals_the_original_in_its_corners(predictions, references, expected):
    assert bleu(predictions, references) == pytest.approx(expected, rel=1e-12)


@given(corpora(long_text))
def test_equals_sacrebleu(corpus):
    predictions, references = corpus
    width = max(map(len, references))
    streams = [[item[i] if i < len(item) else None for item in references] for i in range(width)]
    oracle = sacrebleu.corpus_bleu(
        predictions, streams, lowercase=True, tokenize="13a", smooth_method="none", force=True
    )
    if 0 in oracle.counts:  # sacrebleu says 0 where the original has its floor
        assert bleu(predictions, references) < 1e-3
    else:
        assert bleu(predictions, references) == pytest.approx(oracle.score / 100, abs=1e-9)


def test_statistics_by_hand():
    row = segment_statistics(["the pub is cheap cheap"], [["The pub is", "a cheap pub is cheap now", "x y z w"]])
    # unigrams: the pub is cheap x2; bigrams: the pub, pub is, is cheap; trigrams: the pub is, pub is cheap
    assert row.tolist() == [[5, 3, 2, 0, 5, 4, 3, 2, 5, 4]]
    assert row.dtype == np.int64


def test_a_tie_in_length_goes_to_the_shorter_reference():
    assert segment_statistics(["a b c d"], [["a b c d e", "a b c"]])[0, -1] == 3
    assert segment_statistics(["a b c d"], [["a b c", "a b c d e"]])[0, -1] == 3


def test_brevity_penalty():
    reference = "a b c d e f g h i j"
    assert bleu(["a b c d e"], [[reference]]) == pytest.approx(math.exp(1 - 10 / 5))


@given(corpora(any_text))
def test_corpus_bleu_is_bleu_of_summed_statistics(corpus):
    predictions, references = corpus
    rows = [segment_statistics([p], [r])[0] for p, r in zip(predictions, references, strict=True)]
    assert np.array_equal(rows, segment_statistics(predictions, references))
    assert bleu(predictions, references) == bleu_from_statistics(np.sum(rows, axis=0))


def test_statistics_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="segment_statistics"):
        bleu_from_statistics(segment_statistics(["a b"], [["a b"]]))


@given(corpora(long_text))
def test_bounds(corpus):
    assert 0 <= bleu(*corpus) <= 1 + 1e-12


@given(st.lists(st.tuples(long_text, st.lists(long_text, max_size=3)), min_size=1, max_size=5))
def test_copying_a_reference_scores_one(items):
    assert bleu([p for p, _ in items], [[*others, p] for p, others in items]) == pytest.approx(1)


@given(corpora(any_text), st.randoms())
def test_order_and_copies_of_references_do_not_matter(corpus, random):
    predictions, references = corpus
    shuffled = [random.sample(item, len(item)) for item in references]
    doubled = [[*item, random.choice(item)] for item in references]
    score = bleu(predictions, references)
    assert bleu(predictions, shuffled) == score
    assert bleu(predictions, doubled) == score


@given(corpora(any_text), st.randoms())
def test_order_of_items_and_case_do_not_matter(corpus, random):
    predictions, references = corpus
    order = random.sample(range(len(predictions)), len(predictions))
    score = bleu(predictions, references)
    assert bleu([predictions[i] for i in order], [references[i] for i in order]) == score
    assert bleu([p.upper() for p in predictions], [[t.title() for t in r] for r in references]) == score


@given(any_text, st.lists(any_text, min_size=1, max_size=3), any_text)
def test_a_further_reference_never_lowers_matches(prediction, references, further):
    before = segment_statistics([prediction], [references])[0]
    after = segment_statistics([prediction], [[*references, further]])[0]
    assert (after[:4] >= before[:4]).all()
    assert (after[4:9] == before[4:9]).all()
    assert abs(after[9] - after[8]) <= abs(before[9] - before[8])


@given(corpora(any_text))
def test_matches_never_exceed_words(corpus):
    rows = segment_statistics(*corpus)
    assert (rows[:, :4] >= 0).all()
    assert (rows[:, :4] <= np.maximum(rows[:, 4:8], 0)).all()
