import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora.schema import SLOTS, MeaningRepresentation, parse_mr
from replication.errors import DataError
from studies.microworld.grammar import (
    PREDICATES,
    VALUES,
    Draw,
    capitalised,
    describe,
    draw_meaning,
    series,
    with_article,
)

# How a reader recognises each value. Written apart from the grammar, so that a slip there shows here.
READINGS = {
    "eatType": {"coffee shop": r"\bcoffee shop\b", "pub": r"\bpub\b", "restaurant": r"\brestaurant\b"},
    "food": {
        "Fast food": r"\bfast food\b",
        **{food: rf"\b{food}\b" for food in ("Chinese", "English", "French", "Indian", "Italian", "Japanese")},
    },
    "priceRange": {
        "cheap": r"\b(cheap|inexpensive)\b",
        "moderate": r"\bmoderate(ly)?\b",
        "high": r"\b(expensive|high prices)\b",
        "less than £20": r"less than £20\b",
        "£20-25": r"£20-25\b",
        "more than £30": r"more than £30\b",
    },
    "customer rating": {
        "low": r"low customer rating|poorly rated",
        "average": r"average customer rating|rated average",
        "high": r"high customer rating|highly rated",
        **{f"{stars} out of 5": rf"\b{stars} out of 5\b" for stars in (1, 3, 5)},
    },
    "area": {"city centre": r"city centre|centre of the city", "riverside": r"\briverside\b"},
    "familyFriendly": {
        "no": r"adults-only|not family-friendly|not welcome families",
        "yes": r"(?<!not )family-friendly|welcomes families",
    },
}


def read_back(text):
    """Every (slot, value) that `text` says."""
    said = {(slot, v) for slot, ways in READINGS.items() for v, way in ways.items() if re.search(way, text)}
    for slot in ("name", "near"):
        said |= {(slot, value) for value in VALUES[slot] if value in text}
    return said


@st.composite
def meanings(draw, fewest=2):
    others = draw(st.sets(st.sampled_from(SLOTS[1:]), min_size=fewest - 1))
    slots = ("name", *(slot for slot in SLOTS[1:] if slot in others))
    return MeaningRepresentation(tuple((slot, draw(st.sampled_from(VALUES[slot]))) for slot in slots))


seeds = st.integers(-(2**70), 2**70)


def test_closed_slots_have_the_values_of_the_e2e_release():
    assert {slot: set(values) for slot, values in VALUES.items() if slot in READINGS} == {
        slot: set(ways) for slot, ways in READINGS.items()
    }
    assert set(VALUES) == set(SLOTS)


@pytest.mark.mirror
def test_closed_slots_have_exactly_the_values_of_the_real_corpus(mirror):
    from replication.corpora.e2e import load_e2e

    seen = {slot: set() for slot in SLOTS}
    for rows in load_e2e(mirror=mirror).values():
        for mr in {row.mr for row in rows}:
            for slot, value in parse_mr(mr).slots:
                seen[slot].add(value)
    assert {slot: set(VALUES[slot]) for slot in READINGS} == {slot: seen[slot] for slot in READINGS}
    assert not set(VALUES["name"]) & seen["name"]
    assert not set(VALUES["near"]) & seen["near"]


@given(meanings(), seeds)
def test_a_description_says_exactly_its_meaning(mr, seed):
    draw = Draw(seed, "test")
    for _ in range(20):
        text = describe(mr, draw)
        assert read_back(text) == set(mr.slots), text


@given(meanings(), seeds)
def test_a_description_is_plain_english_in_form(mr, seed):
    draw = Draw(seed, "test")
    for _ in range(20):
        text = describe(mr, draw)
        assert re.fullmatch(r"[A-Z].*\.", text)
        assert not re.search(r"\s\s|\s[.,]|[.,]{2}|\n", text), text
        assert not re.search(r"\ba [aeiouAEIOU]|\ban [^aeiouAEIOU]", text), text
        assert all(re.match(r"[A-Z]", sentence) for sentence in text.split(". "))
        assert not re.search(r"\b(\w+) \1\b", text), text
        assert not re.search(r"\bis a place\.|, a place,", text), text


@given(meanings(fewest=3), seeds)
def test_every_meaning_of_three_facts_has_six_descriptions(mr, seed):
    draw = Draw(seed, "test")
    assert len({describe(mr, draw) for _ in range(400)}) >= 6


def test_one_value_per_phrase():
    said = [phrase for phrases in PREDICATES.values() for phrase in phrases]
    assert len(said) == len(set(said))


@given(seeds, st.integers(1, 8))
def test_drawn_meanings_have_the_size_asked_for_and_valid_values(seed, slots):
    mr = draw_meaning(Draw(seed, "test"), slots)
    assert len(mr.slots) == slots
    assert mr.slots[0][0] == "name"
    assert [slot for slot, _ in mr.slots] == [slot for slot in SLOTS if mr.get(slot)]
    assert all(value in VALUES[slot] for slot, value in mr.slots)


def test_a_description_needs_words_for_every_value():
    with pytest.raises(DataError, match="'Thai' is not in the grammar"):
        describe(parse_mr("name[A], food[Thai]"), Draw(0, "test"))
    with pytest.raises(DataError, match="one more fact"):
        describe(parse_mr("name[A]"), Draw(0, "test"))
    with pytest.raises(DataError, match="a name"):
        describe(parse_mr("food[Indian], near[B]"), Draw(0, "test"))


def test_names_outside_the_grammar_are_welcome():
    text = describe(parse_mr("name[Chez Nous], eatType[pub], near[The Sorrento]"), Draw(0, "test"))
    assert "Chez Nous" in text
    assert "The Sorrento" in text


@given(seeds, st.lists(st.integers(), min_size=1, max_size=9, unique=True), st.data())
def test_draw_repeats_and_keeps_order(seed, options, data):
    count = data.draw(st.integers(0, len(options)))
    chosen = Draw(seed, "a").some(options, count)
    assert chosen == Draw(seed, "a").some(options, count)
    assert len(chosen) == count
    assert chosen == [option for option in options if option in chosen]
    assert Draw(seed, "a").pick(options) in options


def test_streams_and_signs_of_a_seed_differ():
    draws = [Draw(seed, stream).pick(range(10**6)) for seed in (1, -1) for stream in "ab"]
    assert len(set(draws)) == 4


def test_draw_uses_only_the_promised_method():
    expected = random.Random("s:7")
    draw = Draw(7, "s")
    assert [draw.pick("abcdef") for _ in range(50)] == ["abcdef"[int(expected.random() * 6)] for _ in range(50)]


def test_small_helpers():
    assert [with_article(word) for word in ("pub", "Italian pub", "expensive pub")] == [
        "a pub",
        "an Italian pub",
        "an expensive pub",
    ]
    assert [series(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert capitalised("near Market Hall.") == "Near Market Hall."
