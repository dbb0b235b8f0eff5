"""The row contract: what it names as odd, in made-up rows and in the corpora of the mirror."""

from __future__ import annotations

import re

import pytest

from replication.corpora.registry import load_corpus
from replication.corpora.rows import FORMS, ODD, Labels, odd_rows, row_problem
from replication.corpora.task_corpus import PROTOCOLS

ANSWERED = {"question": "Q", "context": "1988–89 a b", "impossible": False}
EXAMPLES = {
    "empty first text": ("classification", {"text": "", "pair": "b", "label": 0}),
    "empty second text": ("regression", {"text": "a", "pair": " ", "label": 0.5}),
    "unpublished label": ("classification", {"text": "a", "pair": None, "label": -1}),
    "empty question": ("question_answering", {**ANSWERED, "question": " ", "answers": [{"text": "a", "start": 8}]}),
    "answer inside a word": ("question_answering", {**ANSWERED, "answers": [{"text": "88", "start": 2}]}),
    "empty document": ("summarisation", {"document": "", "summary": "s"}),
    "empty summary": ("summarisation", {"document": "d", "summary": "\n"}),
    "bracketed marks": ("multiple_choice", {"question": "[header] Q", "choices": ["a", "b"], "answer": 0}),
}


def test_every_form_has_a_contract():
    assert set(FORMS) == set(PROTOCOLS)


@pytest.mark.parametrize("name", ODD)
def test_each_odd_value_is_allowed_counted_and_explained(project_root, name):
    form, row = EXAMPLES[name]
    assert form in ODD[name].forms
    assert row_problem(form, row, Labels(published=name != "unpublished label")) is None
    assert odd_rows(form, [row, row]) == {name: 2}
    written = (project_root / "docs/rows.md").read_text()
    assert re.search(rf"^\| {re.escape(name)} \|", written, re.MULTILINE), (
        "docs/rows.md says what the stages do with it"
    )


def test_an_ordinary_row_is_not_odd():
    rows = {
        "classification": {"text": "a", "pair": None, "label": 0},
        "question_answering": {**ANSWERED, "answers": [{"text": "1988", "start": 0}, {"text": "b", "start": 10}]},
        "summarisation": {"document": "d", "summary": "s"},
        "generation": {"context": "c", "completion": "t"},
    }
    assert [odd_rows(form, [row]) for form, row in rows.items()] == [{}] * 4


@pytest.mark.mirror
def test_the_odd_rows_of_real_corpora_are_known(mirror):
    squad = load_corpus("squad_v1_subset", mirror)
    assert odd_rows("question_answering", squad.splits["dev"]) == {"answer inside a word": 64}
    arc = load_corpus("arc_easy", mirror)
    assert odd_rows("multiple_choice", arc.splits["test"])["bracketed marks"] == 3
