import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.microworld.grammar import VALUES, Draw
from studies.microworld.questions import draw_choice, draw_question, draw_unanswerable

# What a question asks for, written apart from the generator.
ASKS = {
    "eatType": r"What (kind|sort) of place",
    "food": r"food",
    "priceRange": r"How much|prices",
    "customer rating": r"rat(e|ing)",
    "area": r"part of the city|in the city",
    "near": r"near\?|close to\?",
}


def places_of(passage, read_back):
    """Facts by place: a sentence that names no place refers to the last one."""
    texts = {}
    name = None
    for sentence in re.split(r"(?<=\.) ", passage):
        named = [other for other in VALUES["name"] if other in sentence]
        assert len(named) <= 1
        name = named[0] if named else name
        texts[name] = f"{texts.get(name, '')} {sentence}".strip()
    return {name: dict(read_back(text)) for name, text in texts.items()}


def right_answer(question, places, read_back):
    """(slot, value) of what a reader answers; value None where the passage does not say."""
    asked = dict(read_back(question))
    if "name" in asked:
        (slot,) = [slot for slot, words in ASKS.items() if re.search(words, question)]
        return slot, places[asked["name"]].get(slot)
    assert question.startswith("Which place ")
    ((slot, value),) = asked.items()
    having = [name for name, facts in places.items() if facts.get(slot) == value]
    assert len(having) <= 1
    return "name", having[0] if having else None


def value_of(slot, text):
    """The value that a span stands for."""
    texts = {"centre of the city": "city centre", "fast food": "Fast food", "Fast food": "Fast food"}
    return texts.get(text, text.removesuffix(" food") if slot == "food" else text)


@given(st.integers(), st.sampled_from((0, 1)))
def test_an_answer_is_the_span_that_answers(read_back, seed, turn):
    draw = Draw(seed, "test")
    for _ in range(10):
        item = draw_question(draw, turn)
        row = item.row
        places = places_of(row["context"], read_back)
        assert {tuple(sorted(facts.items())) for facts in places.values()} == {
            tuple(sorted(place.slots)) for place in item.meanings
        }
        slot, value = right_answer(row["question"], places, read_back)
        (answer,) = row["answers"]
        assert row["context"][answer["start"] : answer["start"] + len(answer["text"])] == answer["text"]
        assert value_of(slot, answer["text"]) == value
        assert not row["impossible"]
        assert 36 <= len(row["context"].split()) <= 60
        assert (slot == "name") == bool(turn)


@given(st.integers(), st.sampled_from((0, 1)))
def test_the_slot_alone_does_not_answer(read_back, seed, turn):
    draw = Draw(seed, "test")
    for _ in range(10):
        row = draw_question(draw, turn).row
        places = places_of(row["context"], read_back)
        asked = dict(read_back(row["question"]))
        slot = right_answer(row["question"], places, read_back)[0]
        slot = next(iter(asked)) if slot == "name" else slot
        given_values = [facts[slot] for facts in places.values()]
        assert len(set(given_values)) == len(given_values) >= 2


@given(st.integers(), st.integers(0, 3))
def test_an_impossible_question_has_no_answer_in_its_passage(read_back, seed, turn):
    draw = Draw(seed, "test")
    for _ in range(10):
        row = draw_unanswerable(draw, turn).row
        places = places_of(row["context"], read_back)
        slot, value = right_answer(row["question"], places, read_back)
        assert row["impossible"] == (turn >= 2) == (value is None) == (not row["answers"])
        assert (slot == "name") == (turn in (1, 3))


def test_an_impossible_question_is_not_known_by_its_passage(read_back):
    draw = Draw(0, "shapes")
    shapes = {False: Counter(), True: Counter()}
    for index in range(4 * 150):
        row = draw_unanswerable(draw, index % 4).row
        shapes[row["impossible"]][len(places_of(row["context"], read_back))] += 1
    assert shapes[True].keys() == shapes[False].keys() == {3}


@given(st.integers(), st.integers(0, 3))
def test_one_choice_is_right_and_the_others_are_of_its_slot(read_back, seed, answer):
    draw = Draw(seed, "test")
    for _ in range(10):
        item = draw_choice(draw, answer)
        passage, question = re.fullmatch(r"(.*\.) ([^.]*\?)", item.row["question"]).groups()
        places = places_of(passage, read_back)
        slot, value = right_answer(question, places, read_back)
        values = [value_of(slot, text) for text in item.row["choices"]]
        assert len(set(values)) == 4
        assert set(values) <= set(VALUES[slot])
        assert values.index(value) == item.row["answer"] == answer
        others = {name if slot == "name" else facts[slot] for name, facts in places.items()}
        assert len(others & set(values)) == 2  # the other place's value is there to be taken for the right one
        assert len(item.row["question"].split()) <= 42


@pytest.mark.parametrize(("drawn", "turns"), [(draw_question, 2), (draw_unanswerable, 4), (draw_choice, 4)])
def test_questions_are_whole_sentences(drawn, turns):
    draw = Draw(5, "form")
    for index in range(200):
        question = drawn(draw, index % turns).row["question"]
        assert re.fullmatch(r"[A-Z].*\?", question)
        assert not re.search(r"\s\s|\s[.,?]|[{}]", question), question
