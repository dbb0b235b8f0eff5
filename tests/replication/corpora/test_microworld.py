"""Reading the embedded corpus: rows that cannot be used are named."""

import json
import re

import pytest

from replication.corpora.microworld import NAMES, card_of, load
from replication.errors import ConfigError, DataError
from studies.microworld.tasks import (
    TasksConfig,
    write,
)

SMALL = {"train": 24, "test": 12, "passages": 20}


@pytest.fixture
def small(tmp_path):
    write(tmp_path / "tasks", TasksConfig(**SMALL))
    return tmp_path / "tasks"


def test_the_eight_shapes_and_questions_without_an_answer():
    assert (
        tuple(
            f"microworld_{task}"
            for task in (
                *("acceptability", "sentiment", "paraphrase", "entailment", "similarity"),
                *("qa", "qa_unanswerable", "headlines", "choice"),
            )
        )
        == NAMES
    )
    assert {card_of(name).form for name in NAMES} == {
        *("classification", "regression", "question_answering", "summarisation", "multiple_choice"),
    }
    assert card_of("microworld_entailment").labels == ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize(
    ("file", "line", "change", "message"),
    [
        ("entailment/test.jsonl", 3, {"label": 3}, "field 'label'"),
        ("entailment/train.jsonl", 2, {"text": None}, "field 'text'"),
        ("similarity/test.jsonl", 1, {"label": 5.5}, "field 'label'"),
        ("qa/test.jsonl", 4, {"answers": [{"text": "xyz", "start": 0}]}, "field 'answers'"),
        ("choice/train.jsonl", 1, {"answer": 4}, "field 'answer'"),
        ("headlines/test.jsonl", 2, {"summary": None}, "field 'summary'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(small, file, line, change, message):
    rows = (small / file).read_text(encoding="utf-8").splitlines()
    rows[line - 1] = json.dumps({**json.loads(rows[line - 1]), **change})
    (small / file).write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"{re.escape(file)}, row {line}\b.*{message}"):
        load(f"microworld_{file.split('/')[0]}", small)


def test_a_line_that_is_no_row_is_named(small):
    path = small / "entailment" / "train.jsonl"
    path.write_text("[1]\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.jsonl, line 1"):
        load("microworld_entailment", small)
    path.write_text("{\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.jsonl, line 1: not valid JSON"):
        load("microworld_entailment", small)
    path.unlink()
    with pytest.raises(DataError, match=r"train\.jsonl: no such file.*tasks --output"):
        load("microworld_entailment", small)


@pytest.mark.parametrize("name", ["entailment", "microworld_", "microworld_rte", "rte"])
def test_an_unknown_task_is_answered_with_the_list(name):
    with pytest.raises(ConfigError, match="microworld_entailment"):
        load(name)
