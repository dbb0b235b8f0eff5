import json
import re
from collections import Counter
from dataclasses import replace

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora.choices import CORPORA, parse_instruct_boolq, parse_instruct_choices
from replication.errors import DataError

word = st.text("abcAnswer12 :/", min_size=1).filter(lambda text: "Answer" not in text)


def entry(question, options, answer):
    listed = " ".join(f"Answer{number}: {option}" for number, option in enumerate(options, start=1))
    names = "/".join(f"answer{number}" for number in range(1, len(options) + 1))
    instruction = f"Please choose the correct answer to the question: {question}\n\n{listed}\n\nAnswer format: {names}"
    name = f"answer{answer + 1}"
    return {
        "instruction": instruction,
        "input": "",
        "output": f"the correct answer is {name}",
        "answer": name,
    }


def truth(question, answer):
    start = "Please answer the following question with true or false, question: "
    return {"instruction": f"{start}{question}\n\nAnswer format: true/false", "answer": answer}


@given(data=st.data(), question=word, options=st.lists(word, min_size=2, max_size=5))
def test_question_and_options_come_out_as_they_went_in(data, question, options):
    answer = data.draw(st.integers(0, len(options) - 1))
    rows = list(parse_instruct_choices("here", json.dumps([entry(question, options, answer)])))
    assert rows == [{"question": question, "choices": options, "answer": answer}]


def test_an_option_that_looks_like_a_mark_is_refused_not_guessed():
    bad = entry("Q", ["a Answer2: b", "c"], 0)
    with pytest.raises(DataError, match=r"^here, entry 2, field 'instruction'"):
        list(parse_instruct_choices("here", json.dumps([entry("Q", ["a", "b"], 0), bad])))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({}, "^here: not a list"),
        ([{"answer": "answer1"}], "^here, entry 1: no text in field 'instruction'"),
        ([{**entry("Q", ["a", "b"], 0), "answer": 1}], "^here, entry 1: no text in field 'answer'"),
        ([entry("Q", ["a", "b"], 2)], "^here, entry 1, field 'answer': 'answer3' is none of answer1, answer2"),
        ([{**entry("Q", ["a", "b"], 0), "instruction": "Q"}], "^here, entry 1, field 'instruction'"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(value, complaint):
    with pytest.raises(DataError, match=complaint):
        list(parse_instruct_choices("here", json.dumps(value)))


def test_boolq_without_passages_is_yes_or_no():
    rows = list(parse_instruct_boolq("here", json.dumps([truth("is it?", "true"), truth("was it?", "false")])))
    assert rows == [
        {"question": "is it?", "choices": ["no", "yes"], "answer": 1},
        {"question": "was it?", "choices": ["no", "yes"], "answer": 0},
    ]
    with pytest.raises(DataError, match="entry 1, field 'answer': 'maybe'"):
        list(parse_instruct_boolq("here", json.dumps([truth("is it?", "maybe")])))
    with pytest.raises(DataError, match="entry 1, field 'instruction'"):
        list(parse_instruct_boolq("here", json.dumps([entry("Q", ["a", "b"], 0)])))


RAW = {
    "boolq": {"question": "is it", "passage": "It is.", "answer": True},
    "arc_easy": {"question": "Q", "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}, "answerKey": "2"},
    "openbookqa": {"question_stem": "Q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"},
    "hellaswag": {
        "activity_label": "Cooking",
        "ctx": "",
        "ctx_a": "[header] How to fry [title] Heat a pan.",
        "ctx_b": "then HE",
        "endings": ["eats. [substeps] He  sleeps.", "[step]"],
        "label": "1",
    },
}
ROW = {
    "boolq": {"passage": "It is.", "question": "is it?", "choices": ["no", "yes"], "answer": 1},
    "arc_easy": {"question": "Q", "choices": ["a", "b", "c"], "answer": 1},
    "openbookqa": {"question": "Q", "choices": ["a", "b"], "answer": 1},
    "hellaswag": {
        "question": "Cooking: How to fry. Heat a pan. Then he",
        "choices": ["eats. He sleeps.", "[step]"],
        "answer": 1,
    },
}


HARNESS = {  # lm-evaluation-harness, lm_eval/tasks: doc_to_text of its yaml files
    "boolq": ("{passage}\nQuestion: {question}\nAnswer:", "acc"),
    "arc_easy": ("Question: {question}\nAnswer:", "acc_norm"),
    "arc_challenge": ("Question: {question}\nAnswer:", "acc_norm"),
    "openbookqa": ("{question}", "acc_norm"),
    "hellaswag": ("{question}", "acc_norm"),
}


@pytest.mark.parametrize("name", HARNESS)
def test_the_card_states_the_published_protocol(name):
    card = CORPORA[name].card
    assert (card.evaluation["prompt"], card.metric) == HARNESS[name]
    assert card.evaluation["length"] == "characters"


@pytest.mark.parametrize("name", RAW)
def test_rows_of_the_hub(monkeypatch, tmp_path, name):
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path))
    asked = []

    def load_dataset(path, config, *, split, revision):
        asked.append((path, config, split, revision))
        return datasets.Dataset.from_list([RAW[name]])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    known = CORPORA[name]
    corpus = replace(known, files={}, counts=dict.fromkeys(known.counts, 1)).load(tmp_path)
    reported = known.card.reported_split
    assert corpus.splits[reported] == [{"id": f"{reported}-0", **ROW[name]}]
    hub_split = {"dev": "validation", "test": "test"}[reported]
    assert [call[2] for call in asked] == ["train", hub_split]
    assert {call[3] for call in asked} == {known.hub.revision}


def test_an_answer_key_that_names_no_option_is_refused(monkeypatch, tmp_path):
    raw = datasets.Dataset.from_list([{**RAW["arc_easy"], "answerKey": "E"}])
    monkeypatch.setattr(datasets, "load_dataset", lambda path, config, *, split, revision: raw)
    with pytest.raises(DataError, match="split 'train', row 1: ValueError"):
        replace(CORPORA["arc_easy"], files={}, counts={"train": 1, "test": 1}).load(tmp_path)


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("name", "train", "test", "sizes"),
    [
        ("arc_easy", 2251, 2376, {3, 4, 5}),
        ("arc_challenge", 1119, 1172, {3, 4, 5}),
        ("openbookqa", 4957, 500, {4}),
    ],
)
def test_the_releases_rows_come_out_of_the_instructions(mirror, name, train, test, sizes):
    corpus = CORPORA[name].load(mirror)
    assert (len(corpus.splits["train"]), len(corpus.splits["test"])) == (train, test)
    assert {len(row["choices"]) for rows in corpus.splits.values() for row in rows} == sizes
    texts = [text for rows in corpus.splits.values() for row in rows for text in (row["question"], *row["choices"])]
    assert not [text for text in texts if "Answer format" in text or re.search(r"Answer\d", text)]
    assert corpus.comparable


# As printed by the release ARC-V1 (Clark et al. 2018), ARC-Challenge-Test: number, question's end, options, key.
RELEASED = [
    (6, "reason for this behavior?", "to repare for migration before winter", 2),
    (12, "most likely for 2:00 p.m.?", "32° F", 2),
    (21, "shown in a chemical equation?", "H_{2}O -> H + O + H", 1),
    (27, "from highest to lowest temperature?", "Object 1, Object 2, Object 3", 1),
    (34, "occurs with the most frequency?", "sunrise", 0),
]


@pytest.mark.mirror
@pytest.mark.parametrize(("number", "end", "first", "answer"), RELEASED)
def test_rows_are_those_of_the_release(mirror, number, end, first, answer):
    row = CORPORA["arc_challenge"].load(mirror).splits["test"][number]
    assert row["question"].endswith(end)
    assert (row["choices"][0], row["answer"]) == (first, answer)


@pytest.mark.mirror
def test_boolq_without_passages_has_boolqs_rows_and_balance(mirror):
    corpus = CORPORA["boolq_closed_book"].load(mirror)
    assert {split: len(rows) for split, rows in corpus.splits.items()} == {"train": 9427, "dev": 3270}
    # Always yes: 62.31 % of train and 62.17 % of dev (Clark et al. 2019 give 62.17 % for dev).
    assert Counter(row["answer"] for row in corpus.splits["train"])[1] == 5874
    assert Counter(row["answer"] for row in corpus.splits["dev"])[1] == 2033
    assert not corpus.comparable
    assert "Never compares with BoolQ" in corpus.note
