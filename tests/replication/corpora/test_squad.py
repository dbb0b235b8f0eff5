import json
from dataclasses import replace

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora.squad import CORPORA, hub_row, parse_squad, parse_unique_answers
from replication.corpora.task_corpus import check_rows
from replication.errors import DataError

CONTEXT = "The café in Ghent is in Ghent."


def question(**changed):
    answers = [{"text": "Ghent", "answer_start": 12}, {"text": "in Ghent", "answer_start": 21}]
    return {"id": "q1", "question": "Where?", "answers": answers, **changed}


def official(*questions, title="Cafés"):
    return {"title": title, "paragraphs": [{"context": CONTEXT, "qas": list(questions)}]}


def text_of(*articles):
    return json.dumps({"version": "v2.0", "data": list(articles)}, ensure_ascii=False)


def test_every_gold_answer_is_kept_with_its_character_offset():
    rows = list(parse_squad("here", text_of(official(question()))))
    assert rows == [
        {
            "id": "q1",
            "question": "Where?",
            "context": CONTEXT,
            "answers": [{"text": "Ghent", "start": 12}, {"text": "in Ghent", "start": 21}],
            "impossible": False,
        }
    ]
    check_rows(CORPORA["squad_v1"].card, rows, "here")


def test_an_offset_in_bytes_is_refused():
    bytes_before = len(CONTEXT[:12].encode())
    assert bytes_before == 13
    rows = list(parse_squad("here", text_of(official(question(answers=[{"text": "Ghent", "answer_start": 13}])))))
    with pytest.raises(DataError, match="'Ghent' is not at character 13 of the context, which has 'hent ' there"):
        check_rows(CORPORA["squad_v1"].card, rows, "here")


def test_articles_can_be_left_out_and_impossible_questions_have_no_answer():
    text = text_of(
        official(question()), official(question(id="q2", answers=[], is_impossible=True, plausible_answers=[]))
    )
    rows = list(parse_squad("here", text, keep=lambda article: article == 1))
    assert [(row["id"], row["answers"], row["impossible"]) for row in rows] == [("q2", [], True)]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([], "^here: field 'data'"),
        ({"data": [{"title": "A"}]}, "^here, article 'A': field 'paragraphs'"),
        ({"data": [{"title": "A", "paragraphs": [{"qas": []}]}]}, "^here, article 'A': field 'context'"),
        ({"data": [official({"id": "q1", "question": "Q"})]}, "article 'Cafés', question 'q1': field 'answers'"),
        ({"data": [official(question(answers=[{"text": "Ghent"}]))]}, "question 'q1': field 'answer_start'"),
    ],
)
def test_a_missing_field_is_named_with_its_question(value, complaint):
    with pytest.raises(DataError, match=complaint):
        list(parse_squad("here", json.dumps(value)))


@given(context=st.text("ab ", min_size=1, max_size=12), answer=st.text("ab ", min_size=1, max_size=4))
def test_an_answer_counts_where_it_stands_once_and_only_there(context, answer):
    line = json.dumps({"context": context, "question": "Q", "answer": answer, "source": "s"})
    starts = [start for start in range(len(context)) if context[start : start + len(answer)] == answer]
    if not starts:
        with pytest.raises(DataError, match=r"^here, line 1: field 'answer'"):
            list(parse_unique_answers("here", line))
        return
    rows = list(parse_unique_answers("here", line))
    assert [row["answers"] for row in rows] == ([[{"text": answer, "start": starts[0]}]] if len(starts) == 1 else [])


def test_an_empty_answer_names_its_line():
    with pytest.raises(DataError, match=r"^here, line 2: field 'answer' is ''"):
        list(parse_unique_answers("here", '\n{"context": "a", "question": "b", "answer": ""}'))


def test_the_hubs_lists_become_answers(monkeypatch):
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "question": datasets.Value("string"),
            "context": datasets.Value("string"),
            "answers": datasets.Sequence({"text": datasets.Value("string"), "answer_start": datasets.Value("int32")}),
        }
    )
    answers = [{"text": ["Ghent", "in Ghent"], "answer_start": [12, 21]}, {"text": [], "answer_start": []}]
    columns = {"id": ["a", "b"], "question": ["Q", "R"], "context": [CONTEXT] * 2, "answers": answers}
    loaded = datasets.Dataset.from_dict(columns, features)
    assert [hub_row("validation", row)["impossible"] for row in loaded] == [False, True]
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name, *, split, revision: loaded)
    corpus = replace(CORPORA["squad_v2"], counts={"train": 2, "dev": 2}).load()
    assert corpus.splits["dev"][0]["answers"] == [{"text": "Ghent", "start": 12}, {"text": "in Ghent", "start": 21}]
    assert corpus.sha256 == {"rajpurkar/squad_v2": CORPORA["squad_v2"].hub.revision}


def test_the_half_of_v2_trains_on_three_articles_of_four_and_scores_on_the_others():
    """Without the file: what is scored on is not learnt from, and no article is lost."""
    articles = [official(question(id=f"q{number}")) for number in range(16)]
    parsers = {split: parse for split, (_, parse) in CORPORA["squad_v2_subset"].files.items()}
    train, dev = ([row["id"] for row in parsers[split]("here", text_of(*articles))] for split in ("train", "dev"))
    assert dev == ["q3", "q7", "q11", "q15"]
    assert sorted(train + dev) == sorted(f"q{number}" for number in range(16))


def test_only_the_half_of_v2_does_not_compare():
    assert [name for name, corpus in CORPORA.items() if not corpus.card.comparable] == ["squad_v2_subset"]


@pytest.mark.mirror
def test_v1s_dev_is_the_official_one_and_shares_no_paragraph_with_the_training_rows(mirror):
    corpus = CORPORA["squad_v1_subset"].load(mirror)
    dev = corpus.splits["dev"]
    assert (len(corpus.splits["train"]), len(dev)) == (7228, 10570)
    assert len({row["context"] for row in dev}) == 2067
    assert min(len(row["answers"]) for row in dev) >= 1
    assert max(len(row["answers"]) for row in dev) >= 3
    assert not {row["context"] for row in dev} & {row["context"] for row in corpus.splits["train"]}
    assert all(row["context"].count(row["answers"][0]["text"]) == 1 for row in corpus.splits["train"])


@pytest.mark.mirror
def test_the_half_of_v2_is_cut_between_articles(mirror):
    corpus = CORPORA["squad_v2_subset"].load(mirror)
    train, dev = corpus.splits["train"], corpus.splits["dev"]
    assert (len(train), len(dev)) == (4611, 1467)
    # Of the 6,078 questions of this half, 3,168 have no answer.
    assert sum(row["impossible"] for row in train) + sum(row["impossible"] for row in dev) == 3168
    assert not {row["context"] for row in dev} & {row["context"] for row in train}
