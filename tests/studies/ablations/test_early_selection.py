import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError
from studies.ablations.early_selection import largest_sets, sets_of, stickiness, summarise


def test_a_set_stands_once_at_most_k_are_left():
    weights = [[1.0, 1.0, 1.0], [1.1, 0.0, 0.9], [0.0, 1.2, 0.9]]
    assert sets_of(weights, 2) == [None, {0, 2}, {1, 2}]
    assert largest_sets(weights, 2) == [{0, 1}, {0, 2}, {1, 2}]


def test_changes_and_the_update_from_which_nothing_changes():
    found = stickiness([1, 2, 3, 4, 5], [None, frozenset({0, 1}), frozenset({1, 2}), frozenset({1, 2}), None])
    assert (found.first, found.reached, found.changes) == (2, 3, 1)
    assert found.kept_of_final == (0.5, 1.0, 1.0)


@given(sets=st.lists(st.frozensets(st.integers(0, 4), min_size=2, max_size=2), min_size=1, max_size=9))
def test_no_change_means_first_is_final(sets):
    found = stickiness(range(1, len(sets) + 1), sets)
    assert (found.changes == 0) == (len(set(sets)) == 1)
    assert found.first <= found.reached <= len(sets)
    assert set(sets[found.reached - 1 :]) == {found.final}
    assert found.kept_of_final[-1] == 1.0


def test_a_run_without_a_projection_is_refused():
    with pytest.raises(DataError, match="no projection"):
        stickiness([1], [None])


def test_the_sentence_counts_runs():
    steady = stickiness([3, 4], [frozenset({0, 1})] * 2)
    moving = stickiness([3, 4], [frozenset({0, 1}), frozenset({1, 2})])
    rows = [(5.0, {}, {}, {}, {}, {"1": 0.5}, {"1": 0.0}), (50.0, {}, {}, {}, {}, {"1": 1.0}, {"1": 0.5})]
    said = summarise({5.0: {1: steady}, 50.0: {1: moving}}, rows, adapters=6, keep=2, steps=4)
    assert "in 1 of 2 runs" in said
    assert "the others have w rates 50" in said
    assert "0.75 of the first" in said
    assert "shares 0.25" in said
    assert said.endswith("(0.33 by chance).")
    steadfast = summarise({5.0: {1: steady}}, [(5.0, {}, {}, {}, {}, {"1": 0.2}, {"1": 0.0})], 6, 2, 4)
    assert "the projection, not the weights" in steadfast
