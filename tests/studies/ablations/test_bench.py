import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.ablations.bench import by_seed, differences, line, mean

values = st.dictionaries(st.integers(0, 9), st.floats(-9, 9) | st.none(), min_size=1, max_size=5)


@given(found=values)
def test_what_diverged_stays_none(found):
    assert {seed for seed, value in by_seed(found).items() if value is None} == {
        str(seed) for seed, value in found.items() if value is None
    }
    none = differences(found, found)
    assert set(none.values()) <= {0.0, None}
    known = [value for value in found.values() if value is not None]
    assert mean(found) is None if not known else mean(found) == pytest.approx(sum(known) / len(known))


@given(points=st.dictionaries(st.floats(0.1, 9), values, min_size=1, max_size=4))
def test_a_line_lies_within_its_band(points):
    series = line("x", points)
    for y, low, high in zip(series.y, series.low, series.high, strict=True):
        assert (y is None) == (low is None) == (high is None)
        assert y is None or low - 1e-5 <= y <= high + 1e-5
