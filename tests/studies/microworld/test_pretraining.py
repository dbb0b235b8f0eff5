import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.microworld.grammar import VALUES, Draw
from studies.microworld.opinions import draw_sentiment
from studies.microworld.pretraining import draw_passage, yes_no_question

NAMES = "|".join(VALUES["name"])


def passages(seed, count=25):
    draw = Draw(seed, "test")
    return [draw_passage(draw) for _ in range(count)]


@given(st.integers())
def test_passages_are_plain_prose(seed):
    for passage in passages(seed):
        text = passage.text
        assert 12 <= len(text.split()) <= 70
        assert re.fullmatch(r'[A-Z][^|\[\]:\n{}]*[.?"]', text), text
        unquoted = re.sub(r'"[^"]*"', "QUOTED", text)
        assert '"' not in unquoted, text
        assert not re.search(r"\s\s|\s[.,?]|[.,?]{2}|\b(\w+) \1\b", text), text
        assert not re.search(r"\b[Aa] [aeiouAEIOU]|\b[Aa]n [^aeiouAEIOU]", unquoted), text
        assert all(re.match(r"[A-Z£135]", sentence) for sentence in re.split(r"[.?] ", unquoted)), text


@given(st.integers())
def test_a_mistake_stands_in_quotation_marks_and_is_called_one(seed):
    for passage in passages(seed):
        quoted = re.findall(r'"([^"]*)"', passage.text)
        if "saw the mistake" in passage.text:
            wrong, right = quoted
            assert wrong != right
            assert f'It should be "{right}".' in passage.text
        else:
            assert len(quoted) == len(re.findall(r'" was (?:right|wrong)\.', passage.text))


@given(st.integers())
def test_facts_are_given_for_the_places_a_passage_names(seed):
    for passage in passages(seed):
        named = {name for name in VALUES["name"] if name in passage.text}
        if passage.keys:
            assert not passage.meanings
        elif '"' not in passage.text:  # a slip may take a name apart
            told = {place.get("name") for place in passage.meanings}
            assert told <= named
            assert len(named - told) <= 1  # a report may name another place


SAID = {"Yes": "yes", "No": "no"}
ANSWERS = "Yes|No|Perhaps|Nobody has said|We were not told|That is not known"


def as_statement(question):
    """What a reader of statements knows the question as: `it welcomes families`, `cheap prices`."""
    question = (
        question.strip().replace(" have ", " has ").replace(" not welcome families", " does not welcome families")
    )
    question = re.sub(rf"(it|{NAMES}) welcome families", "it welcomes families", question)
    return question if question.split()[0] in VALUES["food"] else question[0].lower() + question[1:]


@given(st.integers())
def test_answers_follow_from_the_description(read_back, seed):
    """Yes, no and unknown are right for the facts of the place."""
    for passage in passages(seed, 40):
        answers = re.findall(rf"([^.?]+\?) ({ANSWERS})\b", passage.text)
        for question, answer in answers:
            (place,) = passage.meanings
            ((slot, value),) = (fact for fact in read_back(as_statement(question)) if fact[0] != "name")
            said = place.get(slot)
            right = "unsaid" if said is None else "yes" if said == value else "no"
            assert SAID.get(answer, "unsaid") == right, passage.text
        assert len({question for question, _ in answers}) == len(answers)
        assert passage.text.count("?") == len(answers) or len(passage.meanings) == 2


@given(st.integers())
def test_true_and_untrue_statements(read_back, seed):
    for passage in passages(seed, 40):
        for negation, claim in re.findall(r"It is (not )?true that it ([^.,]*)", passage.text):
            (place,) = passage.meanings
            ((slot, value),) = read_back(claim)
            assert (place.get(slot) == value) != bool(negation), passage.text


def test_quoted_opinions_are_known_by_the_keys_of_the_task():
    one = next(passage for passage in passages(0, 400) if passage.keys)
    assert all(" | " in key for key in one.keys)
    known = {key for seed in range(3) for key in draw_sentiment(Draw(seed, "k"), 1).keys}
    assert all(key.count(" | ") == 1 for key in known)
    for passage in passages(1, 200):
        for key in passage.keys:
            verdict = key.split(" | ")[1]
            assert verdict.lower() in passage.text.lower()


@pytest.mark.parametrize(
    ("predicate", "question"),
    [
        ("serves Italian food", "does North serve Italian food?"),
        ("is an Italian place", "is North an Italian place?"),
        ("costs £20-25", "does North cost £20-25?"),
        ("has high prices", "does North have high prices?"),
        ("does not welcome families", "does North not welcome families?"),
        ("is not family-friendly", "is North not family-friendly?"),
    ],
)
def test_yes_no_questions(predicate, question):
    assert yes_no_question("North", predicate) == question
