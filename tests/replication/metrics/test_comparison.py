import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError
from replication.metrics import reported
from replication.metrics.comparison import aligned, ends, item_scores, replicates

rows_of = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=8)


def labelled(pairs):
    return [{"id": str(number), "prediction": said, "label": true} for number, (said, true) in enumerate(pairs)]


@given(rows_of, st.randoms())
def test_the_order_of_a_systems_rows_does_not_matter(pairs, random):
    rows = labelled(pairs)
    assert aligned({"a": rows, "b": random.sample(rows, len(rows))}, ("label",)) == {"a": rows, "b": rows}


@given(rows_of)
def test_the_mean_of_item_scores_is_the_accuracy_and_lies_within_all_resamples(pairs):
    rows, metrics = labelled(pairs), reported("rte")
    scores = [row["accuracy"] for row in item_scores(metrics, rows)]
    assert scores == [float(said == true) for said, true in pairs]
    low, high = ends(replicates(metrics, rows, 30)["accuracy"])
    assert min(scores) <= low <= high <= max(scores)


def test_other_items_or_other_labels_are_an_error():
    rows = labelled([(0, 1), (1, 1)])
    with pytest.raises(DataError, match="b: its items are not those of a: only one of them has '1'"):
        aligned({"a": rows, "b": rows[:1]}, ("label",))
    with pytest.raises(DataError, match="b, item '1': its label is not that of a"):
        aligned({"a": rows, "b": [rows[0], {**rows[1], "label": 0}]}, ("label",))


def test_scores_of_no_single_item_are_left_out():
    assert list(item_scores(reported("cola"), labelled([(0, 1)]))) == [{"id": "0", "prediction": 0, "label": 1}]
    counted = [{**row, "subset": "matched"} for row in labelled([(1, 1)])]
    assert next(iter(item_scores(reported("mnli"), counted)))["accuracy_mismatched"] is None
