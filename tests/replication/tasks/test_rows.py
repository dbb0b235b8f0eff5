"""Laws of every form: each row that the row contract accepts is encoded, fits, is predicted and is scored; no rows are
no error.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora.rows import FORMS, Labels, row_problem
from replication.errors import DataError
from replication.metrics import score_systems
from replication.tasks import get_form

TEXTS = st.text(st.sampled_from("abc é東.,[]?0 \n\t"), max_size=12)
SAID = TEXTS.filter(str.strip)
ODD = st.one_of(TEXTS, st.none(), st.integers(-2, 3), st.just(0.5))


@st.composite
def answered(draw):
    context = draw(SAID)
    start = draw(st.integers(0, len(context) - 1))
    end = draw(st.integers(start + 1, len(context)))
    none = draw(st.booleans())
    answers = [] if none else [{"text": context[start:end], "start": start}]
    return {"question": draw(TEXTS), "context": context, "answers": answers, "impossible": none}


@st.composite
def asked(draw):
    choices = draw(st.lists(TEXTS, min_size=1, max_size=3))
    return {"question": draw(TEXTS), "choices": choices, "answer": draw(st.integers(-1, 3))}


CONTENT = {
    "classification": st.fixed_dictionaries(
        {"text": TEXTS, "pair": st.none() | TEXTS, "label": st.integers(-1, 2)},
    ),
    "regression": st.fixed_dictionaries(
        {"text": TEXTS, "pair": st.none() | TEXTS, "label": st.floats(-1, 6) | st.just(math.nan)}
    ),
    "question_answering": answered(),
    "multiple_choice": asked(),
    "summarisation": st.fixed_dictionaries({"document": ODD, "summary": ODD}),
    "generation": st.fixed_dictionaries(
        {"mr": SAID, "context": TEXTS, "references": st.lists(TEXTS, max_size=2), "completion": TEXTS}
    ),
}
OPTIONS = {
    "classification": {"max_length": 40},
    "regression": {"max_length": 40},
    "question_answering": {"max_length": 40, "stride": 8, "no_answer": True},
    "multiple_choice": {"max_length": 60},
    "summarisation": {"max_source_length": 40, "max_target_length": 4, "beams": 1},
    "generation": {"beams": 1, "max_new_tokens": 2, "references_scored": 1},
}
PROTOCOL = {
    "classification": "accuracy",
    "regression": "stsb",
    "question_answering": "squad_v2",
    "multiple_choice": "accuracy",
    "summarisation": "rouge",
    "generation": "e2e",
}
LABELS = {"classification": Labels(classes=2), "regression": Labels(scale=(0, 5))}


def learned(form, row):
    """The row as it is trained on: a data-to-text corpus trains on pairs."""
    return {"context": row["context"], "completion": row["references"][0]} if form == "generation" else row


@pytest.mark.parametrize("name", FORMS)
def test_what_the_contract_accepts_every_step_takes_and_what_it_refuses_is_refused_at_once(model_of, name):
    form, (model, tokenizer) = get_form(name), model_of(name)
    options = form.options(OPTIONS[name], separator=tokenizer.eos_token, max_length=60)
    form.prepare_model(model, tokenizer)
    seen = set()

    @given(CONTENT[name])
    def law(content):
        row = {"id": "r1", **content}
        if name == "generation":
            row.pop("completion")
        problem = row_problem(name, row, LABELS.get(name))
        seen.add(problem is None)
        if problem is not None:
            if row_problem(name, row) is not None and not (name == "classification" and row["label"] == -1):
                for step in (lambda: form.gold([row]), lambda: form.predict(model, tokenizer, [row], options)):
                    with pytest.raises(DataError, match="field"):
                        step()
            return
        examples = form.encode(tokenizer, [learned(name, row)], options)
        fit = form.fit(tokenizer, [learned(name, row)], options)
        assert (fit.rows, fit.lengths) == (1, tuple(map(len, examples))) or name == "multiple_choice"
        assert form.fit(tokenizer, [row], options).longest > 0
        batch = form.collate(examples, form.pad_id(tokenizer, options))
        assert math.isfinite(form.loss(model, batch)[0].item())
        said = form.predict(model, tokenizer, [row], options)
        assert len(said) == 1
        score_systems(PROTOCOL[name], {"one": said}, java=None)

    law()
    assert seen == {True, False}, "the law has seen both"


@pytest.mark.parametrize("name", FORMS)
def test_no_rows_give_no_examples_and_no_predictions(model_of, name):
    form, (model, tokenizer) = get_form(name), model_of(name)
    options = form.options(OPTIONS[name], separator=tokenizer.eos_token, max_length=60)
    form.prepare_model(model, tokenizer)
    assert form.encode(tokenizer, [], options) == []
    assert form.fit(tokenizer, [], options).lengths == ()
    assert form.gold([]) == form.predict(model, tokenizer, [], options) == []


def test_a_split_without_published_labels_is_predicted_and_not_scored(model_of):
    form, (model, tokenizer) = get_form("classification"), model_of("classification")
    options = form.options({"max_length": 40})
    form.prepare_model(model, tokenizer)
    rows = [{"id": f"t{n}", "text": "a b", "pair": None, "label": -1} for n in range(2)]
    said = form.predict(model, tokenizer, rows, options)
    assert [row["label"] for row in said] == [-1, -1]
    with pytest.raises(DataError, match="label"):
        score_systems("accuracy", {"one": said})
    with pytest.raises(DataError, match=r"row 't0': field 'label'.*-1 marks the unpublished labels"):
        form.encode(tokenizer, rows, options)
    with pytest.raises(DataError, match=r"row 't0': field 'label'.*-1 marks the unpublished labels"):
        form.predict(model, tokenizer, [*rows, {**rows[0], "id": "t3", "label": 1}], options)


def test_the_share_of_texts_that_are_cut(model_of):
    def cut(name, rows, **options):
        form, (_, tokenizer) = get_form(name), model_of(name)
        return form.fit(tokenizer, rows, form.options({**OPTIONS[name], **options}, separator=tokenizer.eos_token))

    long = "a b c d e f g h i j k l m n o p q r s t u v w x y z "
    texts = [{"id": str(n), "text": long * n, "pair": None, "label": 0} for n in (1, 2, 3)]
    assert cut("classification", texts, max_length=40).truncated == 2
    asked = [{"id": "1", "question": long * 3, "choices": ["a", "b c d"], "answer": 0}]
    assert cut("multiple_choice", asked).truncated == 1
    documents = [{"id": "1", "document": long, "summary": "a"}, {"id": "2", "document": "a", "summary": long}]
    assert cut("summarisation", [*documents, {"id": "3", "document": "a", "summary": "a"}]).truncated == 2
    answer = (long * 2)[10:80]  # longer than what two windows share
    rows = [{"id": "1", "question": "a", "context": long * 3, "answers": [{"text": answer, "start": 10}]}]
    assert cut("question_answering", rows, max_length=30).truncated == 1
    pairs = [{"context": long * 2, "completion": "a"}, {"context": "a", "completion": "a"}]
    form, (_, tokenizer) = get_form("generation"), model_of("generation")
    fit = form.fit(tokenizer, pairs, form.options(max_length=20, separator=tokenizer.eos_token))
    assert (fit.truncated, fit.longest) == (1, 20)
