import numpy as np
import pytest

from analysis.judge.decision import Difference, Question, decide
from analysis.judge.number_format import difference_text, finding_text, listed, p_text, percent, signed
from analysis.stats.bootstrap import PairedDifference
from analysis.stats.seeds import t_interval


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
