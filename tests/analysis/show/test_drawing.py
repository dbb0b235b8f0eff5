import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from analysis.show.drawing import Drawing, new_figure, number_ids, print_all, spread_apart

POSITIONS = st.lists(st.floats(0, 1), max_size=12)


@given(POSITIONS, st.floats(0.001, 0.3))
def test_names_are_moved_apart_within_the_panel_and_in_order(positions, gap):
    moved = spread_apart(positions, gap, 0, 1)
    assert len(moved) == len(positions)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in moved)
    fitting = min(gap, 1 / max(1, len(positions) - 1))
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    for a, b in pairwise(order):
        assert moved[b] - moved[a] >= fitting - 1e-9


def test_what_is_apart_stays():
    assert spread_apart([0.9, 0.1, 0.5], 0.1, 0, 1) == [0.9, 0.1, 0.5]


@given(st.lists(st.tuples(st.sampled_from("mp"), st.integers(0, 3)), min_size=1, max_size=12))
def test_ids_depend_on_their_order_alone(used):
    """Two machines whose floats differ in the last digit hash the same clip to other ids."""

    def drawn(machine):
        ids = [f"{kind}{(number + 7 * machine):010x}" for kind, number in used]
        return "".join(f'<path id="{name}"/><use href="#{name}"/>' for name in ids)

    assert number_ids(drawn(0)) == number_ids(drawn(1))
    assert len(set(re.findall(r'id="(\w+)"', number_ids(drawn(0))))) == len(set(used))


def test_other_processes_print_the_same_bytes():
    def drawings():
        for name in ("one", "two", "three"):
            figure, (axes,) = new_figure(1, (3, 2))
            axes.plot([1, 2, len(name)])
            axes.set_title(name)
            yield Drawing(name, name, name, name, figure)

    here, there = list(drawings()), list(drawings())
    print_all(here, 1)
    print_all(there, 2)
    assert [drawing.svg for drawing in here] == [drawing.svg for drawing in there]
    assert [drawing.png for drawing in here] == [drawing.png for drawing in there]
    assert len({drawing.png for drawing in there}) == 3
