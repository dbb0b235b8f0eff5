from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from analysis.drawing import spread_apart

PLACES = st.lists(st.floats(0, 1), max_size=12)


@given(PLACES, st.floats(0.001, 0.3))
def test_names_are_moved_apart_within_the_panel_and_in_order(places, gap):
    moved = spread_apart(places, gap, 0, 1)
    assert len(moved) == len(places)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in moved)
    fitting = min(gap, 1 / max(1, len(places) - 1))
    order = sorted(range(len(places)), key=lambda index: places[index])
    for a, b in pairwise(order):
        assert moved[b] - moved[a] >= fitting - 1e-9


def test_what_is_apart_stays():
    assert spread_apart([0.9, 0.1, 0.5], 0.1, 0, 1) == [0.9, 0.1, 0.5]
