"""A law of every form: what is predicted of a row does not depend on the truth that stands in it."""

from __future__ import annotations

import pytest

from replication.tasks import FORMS, get_form

LABELLED = [
    {"id": f"r{n}", "text": text, "pair": None, "label": n % 2}
    for n, text in enumerate(("The Mill is cheap.", "Anna ate pasta.", "Is it good?", "café"))
]
CONTEXT = "The Mill is a cheap French pub near the river; Anna ate pasta."


def answered(*answers):
    """One question a row, whose answer is the given part of the context; None: there is none."""
    return [
        {"id": f"q{n}", "question": "Which pub is cheap?", "context": CONTEXT, "impossible": answer is None,
         "answers": [] if answer is None else [{"text": answer, "start": CONTEXT.index(answer)}]}
        for n, answer in enumerate(answers)
    ]  # fmt: skip


def asked(*answers):
    choices = ["in the palace", "pub", "near the café"]
    return [{"id": f"c{n}", "question": "Where?", "choices": choices, "answer": a} for n, a in enumerate(answers)]


def summarised(*summaries):
    return [{"id": f"s{n}", "document": f"{CONTEXT} {n}", "summary": text} for n, text in enumerate(summaries)]


def described(*references):
    return [{"mr": f"m{n}", "context": f"a b {n}", "references": list(texts)} for n, texts in enumerate(references)]


CASES = {
    "classification": (
        {"max_length": 40, "batch_size": 3},
        LABELLED,
        [{**row, "label": 1 - row["label"]} for row in LABELLED],
    ),
    "regression": (
        {"max_length": 40, "batch_size": 3},
        [{**row, "label": 1.0} for row in LABELLED],
        [{**row, "label": 4.5} for row in LABELLED],
    ),
    "question_answering": (
        {"max_length": 36, "stride": 8, "batch_size": 3, "no_answer": True},
        answered("The Mill", None, "Anna"),
        answered(None, "pasta", "French"),
    ),
    "multiple_choice": ({"max_length": 40, "batch_size": 3}, asked(0, 1, 2), asked(1, 2, 0)),
    "summarisation": (
        {"max_source_length": 40, "max_target_length": 8, "batch_size": 2, "beams": 2},
        summarised("Anna ate.", "A café.", "The Mill"),
        summarised("pub", "The river is near.", "it"),
    ),
    "generation": (
        {"beams": 2, "max_new_tokens": 6},
        described(["a b"], ["c"], ["d e f", "g"]),
        described(["q r s t"], ["u", "v"], ["w"]),
    ),
}
TRUTH = ("label", "answers", "references", "subset")


def test_every_form_has_a_case():
    assert CASES.keys() == FORMS.keys()


@pytest.mark.parametrize("name", CASES)
def test_another_truth_changes_no_prediction(model_of, name):
    given, rows, others = CASES[name]
    form, (model, tokenizer) = get_form(name), model_of(name)
    options = form.options(given, separator=tokenizer.eos_token)
    form.prepare_model(model, tokenizer)
    assert form.gold(rows) != form.gold(others)
    said, again = (form.predict(model, tokenizer, chosen, options) for chosen in (rows, others))
    for row, other in zip(said, again, strict=True):
        assert any(key in row for key in TRUTH), "the row says no truth that could have been read"
        assert {k: v for k, v in row.items() if k not in TRUTH} == {k: v for k, v in other.items() if k not in TRUTH}
