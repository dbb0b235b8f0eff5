import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.microworld.grammar import VALUES, Draw
from studies.microworld.grammaticality import ACCEPTABLE, UNACCEPTABLE, draw_acceptability, draw_sentence, plural

# The language of the sentences as one regular expression, written apart from the generator: what it matches is right,
# and a slip is one only if it does not match.
NAME = "(?:" + "|".join(VALUES["name"]) + ")"
FOOD = "(?:Chinese|English|French|Indian|Italian|Japanese|fast)"
ASCRIBED = "(?:cheap|inexpensive|moderately priced|expensive|family-friendly|adults-only|poorly rated|highly rated)"
PRICE = "(?:less than £20|£20-25|more than £30)"
MODIFIED = f"(?:{ASCRIBED} ){{0,2}}(?:(?:Chinese|English|French|Indian|Italian|Japanese|fast food) )?"
KIND = "(?:coffee shop|pub|restaurant|place)"
NP = rf"(?:a (?![aeiouAEIOU])|an (?=[aeiouAEIOU])){MODIFIED}{KIND}"
NPS = rf"{MODIFIED}{KIND}s"
LOC = r"(?:in the city centre|in the centre of the city|by the riverside|in the riverside area)"
OPENING = r"(?:In the city centre|In the centre of the city|By the riverside|In the riverside area)"
RATED = "(?:poorly rated|rated average|highly rated|rated [135] out of 5) by customers"
RATING = "a (?:low|high) customer rating|an average customer rating|a customer rating of [135] out of 5"
PRICES = f"(?:cheap|moderate|high) prices|prices of {PRICE}"
AT = f"(?: at (?:cheap|moderate|high) prices| for {PRICE})?"
BE = f"(?:not )?family-friendly|cheap|moderately priced|expensive|{RATED}|{LOC}"
VP = (
    f"(?:(?:serves|offers) {FOOD} food{AT}|costs {PRICE}|has (?:{PRICES}|{RATING})|is (?:{BE}|{NP})"
    "|welcomes families|does not welcome families)"
)
VPS = (
    f"(?:(?:serve|offer) {FOOD} food|cost {PRICE}|have (?:{PRICES}|{RATING})|are (?:{BE}|{NPS})"
    "|welcome families|do not welcome families)"
)


def series(phrase):
    return rf"{phrase}(?:(?:, {phrase})*? and {phrase})?"


HEADS = (
    rf"{NAME} is {NP}(?: {LOC})?(?: and {VP})?",
    rf"[Tt]here is {NP} called {NAME}(?: {LOC})?(?: that {VP})?",
    rf"[Ll]ocated {LOC}, {NAME} is {NP}(?: and {VP})?",
    rf"[Ll]ocated {LOC}, {NAME} {series(VP)}",
    rf"{OPENING}, there is {NP} called {NAME}",
    rf"You can find {NAME} {LOC}",
    rf"{NAME}, {NP}(?: {LOC})?, {series(VP)}",
    rf"{NAME} {series(VP)}",
)
FOLLOWS = rf"(?: (?:It|This place|The {KIND}) {series(VP)}\.)*"
PLURALS = rf"(?:Both {NAME} and {NAME}|{NAME} and (?:its neighbour )?{NAME}) {series(VPS)}\."
LANGUAGE = re.compile(rf"(?:(?:{'|'.join(HEADS)})\.{FOLLOWS}|{PLURALS})")


@given(st.integers(), st.sampled_from((UNACCEPTABLE, ACCEPTABLE)))
def test_a_sentence_is_in_the_language_just_if_it_is_labelled_acceptable(seed, label):
    draw = Draw(seed, "test")
    for _ in range(40):
        item = draw_acceptability(draw, label)
        assert bool(LANGUAGE.fullmatch(item.row["text"])) == (item.row["label"] == ACCEPTABLE), item.row["text"]
        assert item.row["label"] == label
        assert item.row["pair"] is None


@given(st.integers())
def test_a_slip_leaves_a_sentence_of_about_the_same_words(seed):
    draw = Draw(seed, "test")
    for _ in range(20):
        row = draw_acceptability(draw, UNACCEPTABLE).row
        assert 2 <= len(row["text"].split()) <= 30
        assert re.fullmatch(r"[A-Z].*\.", row["text"])
        assert not re.search(r"\s\s|\s[.,]", row["text"]), row["text"]


@given(st.integers())
def test_the_places_of_a_sentence_are_its_keys(read_back, seed):
    draw = Draw(seed, "test")
    for _ in range(10):
        text, places = draw_sentence(draw)
        assert {place.get("name") for place in places} == {name for name in VALUES["name"] if name in text}
        assert len({place.slots[1:] for place in places}) == 1
        item = draw_acceptability(draw, UNACCEPTABLE)
        assert item.keys == {str(place) for place in item.meanings}


def test_both_labels_have_both_numbers():
    draw = Draw(0, "numbers")
    seen = {(label, number): 0 for label in (0, 1) for number in ("is", "are", "serves", "serve", "costs", "cost")}
    for index in range(1600):
        words = draw_acceptability(draw, index % 2).row["text"].split()
        for label, number in seen:
            seen[label, number] += label == index % 2 and number in words
    for number in ("is", "are", "serves", "serve", "costs", "cost"):
        share = seen[1, number] / (seen[0, number] + seen[1, number])
        assert 0.3 < share < 0.7, (number, seen)


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("is a coffee shop", "are coffee shops"),
        ("is an Italian place", "are Italian places"),
        ("does not welcome families", "do not welcome families"),
        ("is not family-friendly", "are not family-friendly"),
        ("has a low customer rating", "have a low customer rating"),
    ],
)
def test_plural(one, many):
    assert plural(one) == many
