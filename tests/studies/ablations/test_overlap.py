from hypothesis import given
from hypothesis import strategies as st

from studies.ablations import overlap


def test_position_by_position_understates_the_dossiers_example():
    found = overlap.measure(overlap.ABLATION, None)
    assert "CoLA and MNLI at K=5 share 0.8 as sets, 0.4 by position" in found.shows
    for row in found.rows:
        assert row[3] <= row[2]
    assert [row[1] for row in found.rows[:3]] == [21, 21, 21]


@given(lists=st.lists(st.permutations("abcd").map(lambda p: sorted(p[:2])), min_size=2, max_size=5))
def test_an_overlap_by_position_never_exceeds_that_of_sets(lists):
    shared, by_position, differ = overlap.compared(lists)
    assert 0 <= by_position <= shared <= 1
    assert (differ == 0) == (abs(shared - by_position) < 1e-12)
