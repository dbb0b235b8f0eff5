import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError
from replication.metrics import find, score_systems, score_task

log_likelihoods = st.lists(st.floats(-99, -0.01), min_size=3, max_size=3)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "label": st.integers(0, 2),
            "log_likelihoods": log_likelihoods,
            "lengths": st.lists(st.integers(1, 40), min_size=3, max_size=3),
        }
    ),
    min_size=1,
    max_size=6,
)


@given(rows)
def test_both_are_those_of_lm_evaluation_harness(drawn):
    # lm_eval/api/task.py: argmax of lls, and of lls over the lengths of the choices' texts
    lls, sizes = (np.array([row[name] for row in drawn]) for name in ("log_likelihoods", "lengths"))
    label = np.array([row["label"] for row in drawn])
    found = score_task("acc", [{"id": str(number), **row} for number, row in enumerate(drawn)])
    assert found == {
        "acc": pytest.approx((lls.argmax(axis=1) == label).mean()),
        "acc_norm": pytest.approx(((lls / sizes).argmax(axis=1) == label).mean()),
    }


@given(rows)
def test_equal_lengths_change_nothing(drawn):
    found = score_task("acc_norm", [{**row, "lengths": [7, 7, 7]} for row in drawn])
    assert found["acc"] == found["acc_norm"]


def test_a_short_answer_wins_as_it_is_and_a_long_one_for_its_length():
    row = {"id": "a", "label": 1, "log_likelihoods": [-3.0, -4.0], "lengths": [2, 3]}
    assert score_task("acc", [row]) == {"acc": 0.0, "acc_norm": 1.0}


def test_a_prediction_without_likelihoods_counts_as_it_is():
    rows = [{"id": "a", "label": 1, "prediction": 1}, {"id": "b", "label": 0, "prediction": 1}]
    assert score_task("acc", rows) == {"acc": 0.5, "acc_norm": 0.5}


def test_scores_divided_by_an_unknown_length_have_neither_and_the_reason():
    row = {"id": "a", "label": 1, "prediction": 1, "scores": [-1.0, -0.5]}
    found = score_systems("acc_norm", {"": [row]})[""]
    assert (found.values, found.missing) == ({"acc": None, "acc_norm": None}, ("acc", "acc_norm"))
    assert found.notes[0] == "no acc: the predictions hold log-likelihoods divided by a length; predict again"
    with pytest.raises(DataError, match="row 'a': field 'log_likelihoods' is missing"):
        find("acc").item_statistics([row])
    assert score_task("accuracy", [row]) == {"accuracy": 1.0}  # as the earlier release scored it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": [1]}, "row 'a': field 'lengths' must hold 2 numbers above 0"),
        ({"lengths": [1, 0]}, "row 'a': field 'lengths' must hold 2 numbers above 0"),
        ({"label": 2}, "row 'a': field 'label' is 2; its 2 choices are numbered from 0 to 1"),
        ({"log_likelihoods": []}, "row 'a': field 'log_likelihoods' must be a list of finite numbers"),
        ({"log_likelihoods": [-1, float("nan")]}, "row 'a': field 'log_likelihoods' must be a list of finite"),
    ],
)
def test_errors_name_row_and_field(change, message):
    row = {"id": "a", "label": 1, "log_likelihoods": [-3.0, -4.0], "lengths": [2, 3]}
    with pytest.raises(DataError, match=message):
        score_task("acc", [{**row, **change}])
