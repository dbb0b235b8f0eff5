import pytest

from analysis.load.paper_files import STANDINGS, letter, meaning


def test_every_standing_has_a_letter_of_its_own():
    letters = [letter(name) for name in STANDINGS]
    assert len(set(letters)) == len(letters)
    assert all(len(found) == 1 and meaning(name) for found, name in zip(letters, STANDINGS, strict=True))


@pytest.mark.parametrize("name", ["paper", "authors_code", "third_party", "unverified", "unreadable"])
def test_the_standings_of_published_figures_are_known(name):
    assert name in STANDINGS


def test_a_standing_that_is_not_known_is_spelt_out():
    assert letter("seen_in_a_dream") == "seen_in_a_dream"
    assert meaning("seen_in_a_dream") == "seen in a dream"
    assert letter(None) == ""
