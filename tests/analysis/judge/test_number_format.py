import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.judge.decision import Difference, Question, decide
from analysis.judge.number_format import (
    difference_text,
    finding_text,
    format_interval,
    format_ratio,
    format_score,
    listed,
    p_text,
    percent,
    signed,
    spread_decimals,
)
from analysis.stats.bootstrap import Interval, PairedDifference
from analysis.stats.seeds import SeedSummary, t_interval


def difference(effect=0.1, seeds=3):
    replicates = np.random.default_rng(0).normal(effect, 0.01, size=2000)
    by_seed = tuple(effect + 0.001 * index for index in range(seeds))
    items = PairedDifference(effect, effect - 0.02, effect + 0.02, 1.0, replicates)
    over_seeds = t_interval(by_seed) if seeds > 2 else None
    return Difference("BLEU", effect, tuple(range(seeds)), items, over_seeds, by_seed)


def test_numbers_have_signs_and_units():
    assert (signed(-0.0214), signed(0.5)) == ("−0.021", "+0.500")
    assert (percent(0.167), percent(0.9989, 2)) == ("16.7 %", "99.89 %")
    assert listed(["a", "b", "c"]) == "a, b and c"


@pytest.mark.parametrize(("value", "text"), [(0.0001, "p < 0.001"), (0.0124, "p = 0.012"), (1.0, "p = 1.000")])
def test_p_values(value, text):
    assert p_text(value) == text


def test_a_finding_says_what_a_difference_says_and_more():
    found = decide([Question("a", difference())])[0]
    text = finding_text(found)
    assert difference_text(difference())[:-1] in text
    assert "Holm-adjusted p < 0.001" in text.replace("p = 0.001", "p < 0.001")
    assert "detectable from 0.0" in text
    assert "sign flips" not in text


def test_one_seed_is_named_and_nothing_is_tested():
    text = finding_text(decide([Question("a", difference(seeds=1))])[0])
    assert text == "+0.100 BLEU (95 % over items +0.080 to +0.120, one seed)"


def test_six_seeds_have_a_sign_flip_test_and_a_margin_is_named():
    found = decide([Question("a", difference(seeds=6), above=-0.01)])[0]
    assert "sign flips p = 0.031" in finding_text(found)
    assert "against −0.010" in finding_text(found)


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
