import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from replication.corpora.glue import CORPORA
from replication.errors import DataError
from replication.metrics import find, glue_scores, score_task
from replication.metrics.guard import CLASSES
from replication.metrics.programs import Programs


def score_by(file):
    """The official score of one metric, from plain predictions and labels."""

    def score(predicted, wanted):
        rows = [{"prediction": said, "label": true} for said, true in zip(predicted, wanted, strict=True)]
        return find(file).official(rows, Programs())

    return score


FILES = ("accuracy", "f1", "matthews_correlation", "pearson", "spearman")
accuracy, f1, matthews, pearson, spearman = map(score_by, FILES)

bits = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)
numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))
pairs = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=30)


def columns(rows):
    return [a for a, _ in rows], [b for _, b in rows]


def test_hand_computed_values():
    predicted, wanted = [1, 1, 1, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 1, 0, 0]  # TP 2, FP 2, FN 1, TN 3
    assert accuracy(predicted, wanted) == 5 / 8
    assert f1(predicted, wanted) == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))
    assert matthews(predicted, wanted) == pytest.approx((2 * 3 - 2 * 1) / math.sqrt(4 * 3 * 5 * 4))
    assert pearson([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert spearman([10, 20, 20, 40], [1, 2, 3, 4]) == pytest.approx(0.9486832980505138)


def test_matthews_of_three_classes_is_gorodkins():
    """From the confusion matrix [[2, 1, 0], [0, 1, 1], [1, 0, 2]] (rows wanted): c=5, s=8, t=(3,2,3), p=(3,2,3)."""
    wanted = [0, 0, 0, 1, 1, 2, 2, 2]
    predicted = [0, 0, 1, 1, 2, 0, 2, 2]
    assert matthews(predicted, wanted) == pytest.approx((5 * 8 - 22) / (64 - 22))


@given(bits)
def test_matthews_is_pearson_of_the_indicators_and_zero_when_one_is_constant(rows):
    predicted, wanted = columns(rows)
    if len(set(predicted)) == 1 or len(set(wanted)) == 1:
        assert matthews(predicted, wanted) == 0.0
    else:
        assert matthews(predicted, wanted) == pytest.approx(stats.pearsonr(predicted, wanted)[0], abs=1e-12)
    flipped = [1 - value for value in predicted]
    assert matthews(flipped, wanted) == pytest.approx(-matthews(predicted, wanted), abs=1e-12)


@given(bits)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(rows):
    predicted, wanted = columns(rows)
    hits = sum(a and b for a, b in rows)
    if not sum(predicted) + sum(wanted):
        assert f1(predicted, wanted) == 0.0
    elif hits:
        precision, recall = hits / sum(predicted), hits / sum(wanted)
        assert f1(predicted, wanted) == pytest.approx(2 * precision * recall / (precision + recall))
    else:
        assert f1(predicted, wanted) == 0.0
    assert accuracy(predicted, wanted) == pytest.approx(np.mean([a == b for a, b in rows]))


@given(pairs)
def test_correlations_are_scipys_and_zero_where_scipy_has_none(rows):
    predicted, wanted = columns(rows)
    if len(set(predicted)) == 1 or len(set(wanted)) == 1:
        assert pearson(predicted, wanted) == spearman(predicted, wanted) == 0.0
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stats.pearsonr(predicted, wanted)[0], stats.spearmanr(predicted, wanted)[0]
    assert pearson(predicted, wanted) == pytest.approx(expected[0], abs=1e-7)
    assert spearman(predicted, wanted) == pytest.approx(expected[1], abs=1e-9)


@given(pairs, st.floats(0.1, 50), st.floats(-9, 9))
def test_correlations_do_not_depend_on_the_scale(rows, factor, shift):
    predicted, wanted = columns(rows)
    moved = [factor * value + shift for value in predicted]
    assert pearson(moved, wanted) == pytest.approx(pearson(predicted, wanted), abs=1e-6)
    assert -1 <= pearson(moved, wanted) <= 1


def test_very_large_and_very_small_numbers_are_no_trouble():
    assert pearson([1e300, 2e300, 3e300], [1e-300, 2e-300, 3e-300]) == pytest.approx(1.0)


def test_nothing_to_score_and_unequal_lengths_are_errors():
    with pytest.raises(DataError, match="nothing to score"):
        glue_scores("mrpc", [], [])
    with pytest.raises(DataError, match="2 predictions but 1 labels"):
        glue_scores("stsb", [1, 0], [1])


@pytest.mark.parametrize("bad", [-1, 0.2, True, "1", None])
def test_what_is_no_class_has_no_score(bad):
    with pytest.raises(DataError, match="row 0: field 'prediction' must be a class's index"):
        glue_scores("cola", [bad, 1], [1, 0])


@pytest.mark.parametrize("make", [list, np.array, lambda values: np.array(values, dtype=np.float32)])
def test_lists_and_arrays_score_the_same(make):
    predicted, wanted = [1, 1, 0, 1], [1, 0, 0, 1]
    assert glue_scores("mrpc", make(predicted), make(wanted)) == {"accuracy": 0.75, "f1": pytest.approx(0.8)}
    assert glue_scores("stsb", make(predicted), make(wanted)) == glue_scores("stsb", predicted, wanted)


def test_a_class_that_the_task_does_not_have_is_named():
    with pytest.raises(DataError, match=r"row 1: field 'prediction' is 2; the classes are 0 \(negative\), 1"):
        glue_scores("sst2", [1, 2], [1, 0])
    with pytest.raises(DataError, match="row 0: field 'label' is 3"):
        score_task("mnli", [{"id": 0, "prediction": 2, "label": 3, "subset": "matched"}])
    assert glue_scores("accuracy", [7], [7]) == {"accuracy": 1.0}


def test_classes_are_those_of_the_corpora():
    for name, names in CLASSES.items() - {("wnli", CLASSES["wnli"])}:
        assert CORPORA[name].card.labels == names
