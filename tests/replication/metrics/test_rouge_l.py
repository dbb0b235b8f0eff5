import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.metrics.rouge_l import rouge_l

texts = st.lists(st.sampled_from("abcd"), min_size=1, max_size=7).map(" ".join)
items = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=5)


def split(pairs):
    return [p for p, _ in pairs], [r for _, r in pairs]


def test_best_precision_and_best_recall_are_taken_apart():
    # against "a b c d": precision 2/2, recall 2/4; against "a": precision 1/2, recall 1/1
    precision, recall = 1.0, 1.0
    expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert rouge_l(["a b"], [["a b c d", "a"]]) == pytest.approx(expected)


def test_by_hand():
    precision, recall = 2 / 3, 2 / 4
    expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert rouge_l(["a x d"], [["a b c d"]]) == pytest.approx(expected)
    assert rouge_l(["a x d", "q"], [["a b c d"], ["a"]]) == pytest.approx(expected / 2)
    assert rouge_l([""], [["a"]]) == 0.0


@given(items)
def test_bounds_and_order(pairs):
    score = rouge_l(*split(pairs))
    assert 0 <= score <= 1 + 1e-12
    assert rouge_l(*split([(p, r[::-1]) for p, r in reversed(pairs)])) == pytest.approx(score)


@given(items)
def test_copying_a_reference_scores_one(pairs):
    assert rouge_l(*split([(p, [*r, p]) for p, r in pairs])) == pytest.approx(1)


@given(items, texts)
def test_a_further_reference_never_lowers_it(pairs, further):
    assert rouge_l(*split([(p, [*r, further]) for p, r in pairs])) >= rouge_l(*split(pairs)) - 1e-12
