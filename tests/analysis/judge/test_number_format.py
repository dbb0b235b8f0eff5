import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.judge.decision import Difference, Question, decide
from analysis.judge.number_format import (
    difference_text,
    finding_text,
    format_counts,
    format_interval,
    format_ratio,
    format_ratios,
    format_score,
    listed,
    needed_text,
    p_text,
    percent,
    signed,
    spread_decimals,
)
from analysis.stats.bootstrap import Interval
from analysis.stats.mean_test import Noise
from analysis.stats.seeds import SeedSummary


def difference(effect=0.1, seeds=3):
    by_seed = tuple(effect + 0.001 * (index - (seeds - 1) / 2) for index in range(seeds))
    return Difference("BLEU", tuple(range(seeds)), by_seed, None, (Noise(0.01**2, 600),), item_count=601)


def test_numbers_have_signs_and_units():
    assert (signed(-0.0214), signed(0.5)) == ("−0.021", "+0.500")
    assert (percent(0.167), percent(0.9989, 2)) == ("16.7 %", "99.89 %")
    assert listed(["a", "b", "c"]) == "a, b and c"


@pytest.mark.parametrize(("value", "text"), [(0.0001, "p < 0.001"), (0.0124, "p = 0.012"), (1.0, "p = 1.000")])
def test_p_values(value, text):
    assert p_text(value) == text


def test_a_finding_says_what_a_difference_says_and_more():
    found = decide([Question("a", difference())])[0]
    assert difference_text(difference()) == "+0.100 BLEU (95 % +0.080 to +0.120, 3 seeds)"
    assert finding_text(found) == "+0.100 BLEU (95 % +0.080 to +0.120, p < 0.001, 3 seeds, could detect 0.028)"


def test_a_family_has_adjusted_numbers_and_a_margin_is_named():
    found = decide([Question("a", difference(), above=-0.01), Question("b", difference(0.001), above=-0.01)])[0]
    text = finding_text(found)
    assert "adjusted for 2 comparisons +0.0" in text
    assert "adjusted p < 0.001 against −0.010" in text
    (worse,) = decide([Question("a", dataclasses.replace(difference(-0.02), by_seed=(-0.06, 0.0, 0.0)), above=-0.01)])
    assert f"p = {worse.p:.3f} against +0.000 and {worse.p_margin:.3f} against −0.010" in finding_text(worse)


def test_one_seed_is_named_and_nothing_is_tested():
    assert finding_text(decide([Question("a", difference(seeds=1))])[0]) == "+0.100 BLEU (one seed)"


def test_what_it_would_take_names_seeds_and_items():
    assert needed_text(decide([Question("a", difference(0.0))])[0]) == ""
    one = needed_text(decide([Question("a", difference(0.0), target=0.03)])[0])
    assert one == "to find 0.03: 3 seeds on these items or 526 items with these seeds"
    both = needed_text(decide([Question("a", difference(0.0), target=0.0001)])[0])
    assert both == "to find 0.0001: more seeds, and more items too"


@pytest.mark.parametrize(
    ("mean", "spread", "text"),
    [
        (0.72034, None, "0.7203"),
        (0.72034, 0.0213, "0.720 ± 0.021"),
        (0.72034, 0.00213, "0.7203 ± 0.0021"),
        (0.72034, 0.000021, "0.7203 ± 0.0000"),
        (8.68, 0.17, "8.68 ± 0.17"),
        (12.3, 1.7, "12.3 ± 1.7"),
        (123.4, 17.2, "123 ± 17"),
        (0.5, 0.0, "0.5000 ± 0.0000"),
    ],
)
def test_a_spread_sets_the_places_of_its_mean(mean, spread, text):
    assert format_score(SeedSummary(mean, spread, 1 if spread is None else 3)) == text


def test_what_is_not_measured_is_said():
    assert format_score(None) == "not measured"
    assert format_interval(None) == "not measured"
    assert format_ratio(None) == "unknown"


@given(st.floats(0, 20), st.floats(0, 5))
def test_mean_and_spread_have_the_same_places_and_no_more_than_the_scripts(mean, spread):
    value, deviation = format_score(SeedSummary(mean, spread, 3)).split(" ± ")
    decimals = [len(text.partition(".")[2]) for text in (value, deviation)]
    assert decimals[0] == decimals[1] == spread_decimals(spread) <= 4
    assert abs(float(value) - mean) <= 0.5 * 10 ** -decimals[0] + 1e-9


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.65994, "66.0 %"),
        (0.00073135, "0.0731 %"),
        (1.0, "100 %"),
        (77.4766, "7,748 %"),
        (0.0, "0 %"),
        (0.428, "42.8 %"),
    ],
)
def test_ratios_have_three_significant_digits(ratio, text):
    assert format_ratio(ratio) == text


def test_interval_places_follow_its_width():
    assert format_interval(Interval(0.5, 0.4812, 0.5213)) == "0.481 to 0.521"


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_counts_are_shown_by_their_ends(counts):
    fewest, _, most = format_counts(counts).partition(" to ")
    assert int(fewest.replace(",", "")) == min(counts)
    assert int((most or fewest).replace(",", "")) == max(counts)
    assert (most == "") == (min(counts) == max(counts))


def test_ratios_that_look_alike_are_one():
    assert format_ratios([0.15, 0.16667, 0.18333]) == "15.0 % to 18.3 %"
    assert format_ratios([0.64501, 0.64502]) == "64.5 %"
    assert (format_ratios(None), format_counts(())) == ("unknown", "unknown")
