import re

from hypothesis import given
from hypothesis import strategies as st

from studies.microworld.grammar import PREDICATES, VALUES, Draw
from studies.microworld.passages import draw_passage, in_the_past


@given(st.integers())
def test_passages_are_plain_prose_of_the_stated_length(seed):
    draw = Draw(seed, "test")
    for _ in range(20):
        text, _ = draw_passage(draw)
        assert 20 <= len(text.split()) <= 40
        assert re.fullmatch(r"[A-Z].*\.", text)
        assert not re.search(r"[|\[\]:\n]|\s\s|\s[.,?]|[.,?]{2}", text), text
        assert not re.search(r"\b[Aa] [aeiouAEIOU]|\b[Aa]n [^aeiouAEIOU]", text), text
        assert not re.search(r"\b(\w+) \1\b", text), text
        assert all(re.match(r"[A-Z]", sentence) for sentence in re.split(r"[.?] ", text)), text


@given(st.integers())
def test_facts_are_given_for_exactly_the_places_a_passage_names(seed):
    draw = Draw(seed, "test")
    for _ in range(20):
        text, meanings = draw_passage(draw)
        named = [name for name in VALUES["name"] if name in text]
        assert sorted(named) == sorted(meaning.get("name") for meaning in meanings)
        assert len(named) in (1, 2)
        landmarks = [value for value in VALUES["near"] if value in text]
        assert set(landmarks) <= {meaning.get("near") for meaning in meanings}


@given(st.integers())
def test_one_seed_gives_the_same_passages(seed):
    one, two = Draw(seed, "test"), Draw(seed, "test")
    assert [draw_passage(one) for _ in range(5)] == [draw_passage(two) for _ in range(5)]


def test_every_predicate_has_a_past():
    for phrases in PREDICATES.values():
        for phrase in phrases:
            assert not re.match(r"(is|has|does|costs|serves|offers|welcomes)\b", in_the_past([phrase]))


def test_a_series_in_the_past():
    present = ["serves fast food", "is cheap", "does not welcome families"]
    assert in_the_past(present) == "served fast food, was cheap and did not welcome families"
