"""A figure agrees with its digits, and its precision is that of its last readable digit."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from analysis.load.paper_files import UNITS, Cell, Figure, Parameters, Source, check_share, published_count


def figure(text="70.4", value="70.4", kind=Figure, **fields):
    return kind(
        **{"value": value, "text": text, "unit": "points", "standing": "paper", "sources": ("paper",), **fields}
    )


@pytest.mark.parametrize(
    ("text", "value", "precision"),
    [
        ("70.4", "70.4", "0.1"), ("70.40", "70.40", "0.01"), ("8", "8", "1"), ("-0.002225", "-0.002225", "0.000001"),
        ("8e-4", "0.0008", "0.0001"), ("0.35M", 350_000, "10000"), ("354.92M", 354_920_000, "10000"),
        ("12K", 12_000, "1000"), ("10 or 20", None, None), ("by epochs", None, None),
    ],
)  # fmt: skip
def test_precision_is_the_last_published_digit(text, value, precision):
    assert figure(text, value).precision == (None if precision is None else Decimal(precision))


@pytest.mark.parametrize(("text", "precision"), [("2.3?", "0.1"), ("2.??", "1"), ("?", None)])
def test_an_unreadable_digit_bounds_the_precision(text, precision):
    found = figure(text, None, standing="unreadable", kind=Cell)
    assert found.precision == (None if precision is None else Decimal(precision))
    with pytest.raises(ValueError, match="is no number"):
        _ = found.number


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": "70.5"}, "value 70.5 does not match text '70.4'"),
        ({"value": None}, "value None does not match text '70.4'"),
        ({"text": "2.3?", "value": None}, "exactly when unreadable"),
        ({"standing": "unreadable", "value": None}, "exactly when unreadable"),
        ({"text": "2.3?", "value": "2.3", "standing": "unreadable"}, "an unreadable figure has no value"),
        ({"text": "many", "value": "3"}, "value 3 does not match text 'many'"),
        ({"spread": "0.1"}, "go together"),
        ({"spread": "0.1", "spread_text": ".1"}, "go together"),
        ({"spread": "0.1", "spread_text": ".2", "spread_means": "runs"}, "spread 0.1 does not match"),
        ({"spread_means": "minutes"}, "spread_means"),
        ({"unit": "pionts"}, "unknown unit 'pionts'; did you mean 'points'"),
        ({"standing": "believed"}, "standing"),
        ({"sources": ()}, "sources"),
        ({"text": ""}, "text"),
    ],
)
def test_a_figure_that_contradicts_itself_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        figure(**fields)


def test_a_cell_is_a_number_and_a_count_a_count():
    with pytest.raises(ValidationError, match="null exactly when standing is unreadable"):
        figure("about 70", None, kind=Cell)
    assert figure("about 70", None).value is None
    assert figure("0.35M", 350_000, kind=Parameters, unit="parameters").value == 350_000
    with pytest.raises(ValidationError, match="not a count such as"):
        figure("350000", 350_000, kind=Parameters, unit="parameters")


@given(st.decimals(0, 99, places=2), st.decimals(0, 9, places=1), st.sampled_from([1, 100]))
def test_rescaling_never_adds_or_drops_a_digit(value, spread, scale):
    cell = figure(f"{value:f}", value, kind=Cell, spread=spread, spread_text=f"{spread:f}", spread_means="runs")
    shifted, shifted_spread = cell.rescaled(scale)
    assert Decimal(shifted) * scale == value
    assert Decimal(shifted_spread) * scale == spread
    assert len(shifted.split(".")[1]) == (2 if scale == 1 else 4)
    assert cell.precision == Decimal("0.01")


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.sampled_from(["1", "0.1", "0.01"]))
def test_a_share_is_right_to_its_own_digits_alone(a, b, unit):
    count, than = min(a, b), max(a, b)
    share = (100 * (1 - Decimal(count) / Decimal(than))).quantize(Decimal(unit))
    said = figure(f"{share:f}", share, unit="per cent")
    check_share(said, count, than)
    other = share + 2 * Decimal(unit)
    with pytest.raises(ValueError, match="per cent below"):
        check_share(figure(f"{other:f}", other, unit="per cent"), count, than)


def test_published_counts():
    assert [published_count(text) for text in ("0.35M", "354.92M", "12K", "8B")] == [
        350_000, 354_920_000, 12_000, 8_000_000_000,
    ]  # fmt: skip
    for wrong in ("0.35", "many", ""):
        with pytest.raises(ValueError, match="is not a"):
            published_count(wrong)


def test_a_source_says_where():
    assert Source(citation="c", url="u", issue=165).location == "issue 165"
    assert Source(citation="c", url="u", table="Table 3", file="README.md").location == "Table 3, README.md"
    assert all(UNITS.values())
