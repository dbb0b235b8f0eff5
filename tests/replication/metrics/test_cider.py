import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocoevalcap.cider.cider import Cider as Official

from replication.metrics.cider import cider

texts = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=7).map(" ".join)
items = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=5)


def split(pairs):
    return [p for p, _ in pairs], [r for _, r in pairs]


def test_copies_of_items_without_shared_words_score_ten():
    references = [["a b c d"], ["e f g h"]]
    assert cider(["a b c d", "e f g h"], references) == pytest.approx(10)
    assert cider(["a b c d", "x y z w"], references) == pytest.approx(5)


def test_one_item_or_no_words_score_zero():
    assert cider(["a b c d"], [["a b c d"]]) == 0
    assert cider(["", "a"], [[""], [" "]]) == 0
    assert cider(["", ""], [["a b"], ["c d"]]) == 0


def test_document_frequencies_come_from_the_references_given():
    predictions, references = ["a b c d", "a b c e", "x y z w"], [["a b c d"], ["a b c f"], ["q r s t"]]
    first_two = cider(predictions[:2], references[:2])
    assert cider(predictions, references) * 3 != pytest.approx(first_two * 2)


@given(items)
def test_bounds_and_order(pairs):
    score = cider(*split(pairs))
    assert 0 <= score <= 10 + 1e-9
    assert cider(*split([(p, r[::-1]) for p, r in reversed(pairs)])) == pytest.approx(score)


def official(predictions, references):
    truth = dict(enumerate(references))
    return float(Official().compute_score(truth, {n: [text] for n, text in enumerate(predictions)})[0])


@given(items)
def test_the_figure_is_pycocoevalcaps_to_the_last_bit(pairs):
    assert cider(*split(pairs)) == official(*split(pairs))
