import re

from hypothesis import given
from hypothesis import strategies as st

from studies.microworld.grammar import VALUES, Draw
from studies.microworld.headlines import EVENTS, draw_headline

# What a report says -> how a headline has it, written apart from the generator.
HAPPENED = {
    "opened its doors": "opens",
    "closed for the winter": "closes",
    "won the prize": "wins prize",
    "changed its menu": "changes menu",
    "hired a new cook": "hires cook",
    "lost its cook": "loses cook",
    "tenth birthday": "turns ten",
    "painted from top to bottom": "is painted",
}


@given(st.integers())
def test_a_headline_gives_the_reports_key_facts(read_back, seed):
    draw = Draw(seed, "test")
    for _ in range(10):
        item = draw_headline(draw, 0)
        document, headline = item.row["document"], item.row["summary"]
        facts = dict(item.meanings[0].slots)
        key = {slot: facts[slot] for slot in ("name", "eatType", "food", "area", "near") if slot in facts}
        said = read_back(headline[0].lower() + headline[1:] if headline.startswith("Fast") else headline)
        assert said == set(key.items())
        assert set(facts.items()) <= read_back(document)
        happened = [short for long, short in HAPPENED.items() if long in document]
        assert len(happened) == 1
        assert f"{facts['name']} {happened[0]} " in headline
        assert 40 <= len(document.split()) <= 60
        assert len(headline.split()) <= 14


@given(st.integers())
def test_reports_are_plain_prose(seed):
    draw = Draw(seed, "test")
    for _ in range(10):
        document = draw_headline(draw, 0).row["document"]
        assert re.fullmatch(r"[A-Z].*\.", document)
        assert not re.search(r"\s\s|\s[.,]|[.,]{2}|\b(\w+) \1\b", document), document
        assert not re.search(r"\b[Aa] [aeiouAEIOU]|\b[Aa]n [^aeiouAEIOU]", document), document
        assert all(sentence[0].isupper() for sentence in re.split(r"\. ", document))


def test_some_reports_name_another_place_and_no_headline_does():
    draw = Draw(0, "others")
    others = 0
    for _ in range(200):
        row = draw_headline(draw, 0).row
        named = {name for name in VALUES["name"] if name in row["document"]}
        assert len([name for name in named if name in row["summary"]]) == 1
        others += len(named) == 2
        assert len(named) <= 2
    assert 60 < others < 140
    assert len(HAPPENED) == len(EVENTS)
