import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora.task_corpus import CorpusCard, check_rows, corpus_of
from replication.errors import ConfigError, DataError

METRIC = {
    "classification": "rte",
    "regression": "stsb",
    "question_answering": "squad_v2",
    "multiple_choice": "accuracy",
    "summarisation": "rouge",
}
GOOD = {
    "classification": {"id": "1", "text": "a", "pair": None, "label": 1},
    "regression": {"id": "1", "text": "a", "pair": "b", "label": 2.5},
    "question_answering": {
        "id": "1",
        "question": "Where?",
        "context": "In Ghent.",
        "answers": [{"text": "Ghent", "start": 3}, {"text": "In Ghent", "start": 0}],
        "impossible": False,
    },
    "multiple_choice": {"id": "1", "question": "Q", "choices": ["x", "y"], "answer": 1},
    "summarisation": {"id": "1", "document": "d", "summary": "s"},
}


def card(form="classification", **changed):
    values = {
        "name": "toy",
        "label": "Toy",
        "form": form,
        "metric": METRIC.get(form, "accuracy"),
        "labels": ("no", "yes") if form == "classification" else None,
        "reported_split": "dev",
        "comparable": False,
        "licence": "none",
        "note": "",
    }
    return CorpusCard(**{**values, **changed})


@pytest.mark.parametrize("form", GOOD)
def test_a_good_row_of_each_form_makes_a_corpus(form):
    corpus = corpus_of(card(form), {"train": [GOOD[form]], "dev": [GOOD[form]]}, {"file": "0" * 64})
    assert (corpus.name, corpus.form, corpus.splits["dev"]) == ("toy", form, [GOOD[form]])
    assert corpus.sha256 == {"file": "0" * 64}
    assert corpus.describe() == card(form).describe()
    assert "splits" not in corpus.describe()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"form": "translation"}, "form"),
        ({"metric": "stsb"}, "metric"),
        ({"labels": None}, "labels"),
        ({"labels": ("a", "a")}, "labels"),
        ({"form": "summarisation", "metric": "rouge", "labels": ("a",)}, "labels"),
    ],
)
def test_a_card_that_does_not_fit_names_its_field(changed, field):
    with pytest.raises(ConfigError, match=f"^{field} of toy"):
        card(**changed)


def test_both_splits_must_have_rows():
    row = GOOD["classification"]
    for splits in ({"train": [row]}, {"dev": [row]}, {"train": [], "dev": [row]}):
        with pytest.raises(DataError, match="has no rows"):
            corpus_of(card(), splits, {})


@pytest.mark.parametrize(
    ("form", "change", "field"),
    [
        ("classification", {"label": 2}, "label"),
        ("classification", {"label": True}, "label"),
        ("classification", {"label": "yes"}, "label"),
        ("classification", {"text": " "}, "text"),
        ("classification", {"text": "", "pair": ""}, "text"),
        ("classification", {"pair": 3}, "pair"),
        ("classification", {"subset": "dev"}, "subset"),
        ("classification", {"id": 7}, "id"),
        ("regression", {"label": "2"}, "label"),
        ("regression", {"label": 5.1}, "label"),
        ("regression", {"label": -1.0}, "label"),
        ("regression", {"label": float("nan")}, "label"),
        ("question_answering", {"question": None}, "question"),
        ("question_answering", {"context": " ", "answers": [], "impossible": True}, "context"),
        ("question_answering", {"impossible": 0}, "impossible"),
        ("question_answering", {"impossible": True}, "answers"),
        ("question_answering", {"answers": []}, "answers"),
        ("question_answering", {"answers": [{"text": "Ghent", "start": 2}]}, "answers"),
        ("question_answering", {"answers": [{"text": "Ghent", "start": -6}]}, "answers"),
        ("question_answering", {"answers": [{"text": "", "start": 3}]}, "answers"),
        ("multiple_choice", {"choices": ["x"], "answer": 0}, "choices"),
        ("multiple_choice", {"choices": ["x", ""]}, "choices"),
        ("multiple_choice", {"answer": 2}, "answer"),
        ("multiple_choice", {"answer": True}, "answer"),
        ("summarisation", {"summary": 3}, "summary"),
        ("summarisation", {"document": None}, "document"),
    ],
)
def test_a_row_that_cannot_be_used_names_place_row_and_field(form, change, field):
    rows = [{**GOOD[form], "id": "first"}, {**GOOD[form], **change}]
    with pytest.raises(DataError, match=rf"^here, row 2 \(id .*'{field}'"):
        check_rows(card(form), rows, "here")


def test_texts_that_real_corpora_leave_empty_are_kept():
    check_rows(card(), [{"id": "1", "text": "Why?", "pair": "", "label": 0}], "QQP")
    check_rows(card("summarisation"), [{"id": "1", "document": "", "summary": "s"}], "XSum")
    check_rows(card("summarisation"), [{"id": "1", "document": "d", "summary": ""}], "CNN/DailyMail")
    impossible = {**GOOD["question_answering"], "answers": [], "impossible": True}
    check_rows(card("question_answering"), [impossible], "SQuAD v2")


def test_labels_may_be_missing_only_in_a_split_that_is_neither_learned_from_nor_scored():
    row = GOOD["classification"]
    hidden = {**row, "label": -1}
    corpus_of(card(), {"train": [row], "dev": [row], "test": [hidden]}, {})
    for splits in ({"train": [row, {**hidden, "id": "2"}], "dev": [row]}, {"train": [row], "dev": [hidden]}):
        with pytest.raises(DataError, match="-1 marks the unpublished labels of a test split"):
            corpus_of(card(), splits, {})
    with pytest.raises(DataError, match="class's index, 0 to 1, found -2"):
        corpus_of(card(), {"train": [row], "dev": [row], "test": [{**row, "label": -2}]}, {})


@pytest.mark.parametrize("identity", ["0" * 64, "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"])
def test_a_source_is_known_by_its_sha256_or_its_commit(identity):
    splits = {"train": [GOOD["classification"]], "dev": [GOOD["classification"]]}
    assert corpus_of(card(), splits, {"source": identity}).sha256 == {"source": identity}
    for wrong in ("None", "main", identity[:-1], identity.upper()):
        if wrong != identity:
            with pytest.raises(DataError, match="the source source has the identity"):
                corpus_of(card(), splits, {"source": wrong})


def test_an_id_stands_once_in_a_split():
    with pytest.raises(DataError, match=r"row 2 .*'1'.*unique"):
        check_rows(card(), [GOOD["classification"]] * 2, "here")


@given(before=st.text(), answer=st.text(min_size=1), after=st.text(), shift=st.integers(0, 5))
def test_an_answer_is_accepted_exactly_where_it_stands(before, answer, after, shift):
    context = f"{before}{answer}{after}."
    start = len(before) + shift
    row = {
        "id": "1",
        "question": "Q",
        "context": context,
        "answers": [{"text": answer, "start": start}],
        "impossible": False,
    }
    if not answer.strip():
        with pytest.raises(DataError, match="expected a text and its start"):
            check_rows(card("question_answering"), [row], "here")
    elif context.startswith(answer, start):
        check_rows(card("question_answering"), [row], "here")
    else:
        with pytest.raises(DataError, match=f"is not at character {start} of"):
            check_rows(card("question_answering"), [row], "here")
