"""Baselines: what is learned from the training rows, and predictions that follow only from it."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import AdapterError, ConfigError, DataError
from replication.methods import attach, config_from_dict, config_to_dict, method_config
from replication.methods.baseline import FORMS, BaselineConfig, learn, predict_rows, text_cosines
from replication.tasks import get_form

labels = st.lists(st.integers(0, 4), min_size=1, max_size=30)
choices = st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=5)


def classified(values):
    return [{"id": str(index), "text": "a", "pair": None, "label": value} for index, value in enumerate(values)]


def asked(rows):
    """Rows of multiple choice from (choices, answer)."""
    return [
        {"id": str(index), "question": "q", "choices": given_, "answer": answer}
        for index, (given_, answer) in enumerate(rows)
    ]


def run(kind, train, test):
    return predict_rows(learn(BaselineConfig(kind), train), test)


# --- the configuration ------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMS)
def test_a_kind_is_reached_by_name_and_survives_json(kind):
    config = method_config("baseline", kind=kind)
    assert (config.method, config.kind) == ("baseline", kind)
    assert config_from_dict(config_to_dict(config)) == config


@pytest.mark.parametrize("settings", [{}, {"kind": "best"}, {"kind": None}])
def test_an_unknown_kind_lists_the_valid_ones(settings):
    with pytest.raises(ConfigError, match=r"kind=.*valid kinds are majority, mean, cosine"):
        method_config("baseline", **settings)


@pytest.mark.parametrize("kind", FORMS)
def test_a_kind_applies_to_one_form_that_exists_and_the_error_lists_the_kinds_of_the_form(kind):
    config = BaselineConfig(kind)
    assert get_form(FORMS[kind]).name == FORMS[kind]
    config.check_form(FORMS[kind])
    for form in {"classification", "regression", "multiple_choice", "summarisation"} - {FORMS[kind]}:
        valid = ", ".join(other for other, known in FORMS.items() if known == form) or "none"
        with pytest.raises(ConfigError, match=f"kind='{kind}' applies only to {FORMS[kind]}.*{form} task are: {valid}"):
            config.check_form(form)


def test_nothing_can_be_attached(tiny_gpt2):
    trainable = [parameter.requires_grad for parameter in tiny_gpt2.parameters()]
    with pytest.raises(AdapterError, match="attaches nothing"):
        attach(tiny_gpt2, BaselineConfig("majority"))
    assert [parameter.requires_grad for parameter in tiny_gpt2.parameters()] == trainable


# --- kinds that count ------------------------------------------------------------


@given(values=labels, others=labels)
def test_majority_is_the_first_greatest_count_whatever_the_reported_rows_are(values, others):
    rows = run("majority", classified(values), classified(others))
    counts = Counter(values)
    most = max(counts.values())
    assert {row["prediction"] for row in rows} == {min(value for value in counts if counts[value] == most)}
    assert [row["label"] for row in rows] == others


@given(values=labels, order=st.randoms())
def test_the_order_of_the_training_rows_does_not_matter(values, order):
    shuffled = order.sample(values, len(values))
    assert learn(BaselineConfig("majority"), classified(shuffled)) == learn(
        BaselineConfig("majority"), classified(values)
    )


@given(values=labels)
def test_no_constant_is_right_on_more_training_rows_than_the_majority(values):
    train = classified(values)
    right = sum(row["prediction"] == row["label"] for row in run("majority", train, train))
    assert all(right >= sum(row["label"] == constant for row in train) for constant in range(5))


def test_mean_is_the_mean_training_label():
    train = classified([1.0, 2.0, 4.0])
    assert [row["prediction"] for row in run("mean", train, classified([0.5, 3.0]))] == [2.333333, 2.333333]


@given(rows=st.lists(choices, min_size=1, max_size=8))
def test_the_longest_choice_is_at_least_as_long_as_all_others_and_the_first_of_them(rows):
    test = asked([(texts, 0) for texts in rows])
    for row, texts in zip(run("longest_choice", test, test), rows, strict=True):
        length = len(texts[row["prediction"]])
        assert all(len(text) <= length for text in texts)
        assert all(len(text) < length for text in texts[: row["prediction"]])


def test_the_commonest_choice_is_among_those_that_a_row_has():
    train = asked([(["a", "b", "c"], answer) for answer in (2, 2, 2, 1, 1, 0)])
    test = asked([(["a", "b", "c"], 0), (["a", "b"], 1), (["a", "b", "c", "d"], 3)])
    assert [row["prediction"] for row in run("commonest_choice", train, test)] == [2, 1, 2]
    assert [row["label"] for row in run("commonest_choice", train, test)] == [0, 1, 3]


# --- rows ------------------------------------------------------------


def test_rows_have_the_fields_of_their_form_without_logits_or_scores():
    test = [{**row, "subset": "matched"} for row in classified([1])]
    assert run("majority", classified([1, 0, 1]), test) == [
        {"id": "0", "prediction": 1, "label": 1, "subset": "matched"}
    ]
    assert run("longest_choice", asked([(["a", "bb"], 0)]), asked([(["a", "bb"], 0)])) == [
        {"id": "0", "prediction": 1, "label": 0}
    ]


def test_without_training_rows_or_with_a_repeated_id_there_is_an_error():
    with pytest.raises(DataError, match="no training rows"):
        learn(BaselineConfig("majority"), [])
    with pytest.raises(DataError, match="duplicate id"):
        run("majority", classified([1]), classified([1]) * 2)


# --- cosine ------------------------------------------------------------


@given(
    cosines=st.lists(st.floats(-1, 1), min_size=1, max_size=6),
    highest=st.floats(0.5, 10),
)
def test_cosines_are_mapped_linearly_from_zero_to_the_highest_training_label(cosines, highest):
    learned = learn(BaselineConfig("cosine"), classified([0.0, highest, highest / 2]))
    rows = predict_rows(learned, classified([0.0] * len(cosines)), cosines)
    for row, cosine in zip(rows, cosines, strict=True):
        assert row["prediction"] == pytest.approx(highest * cosine if cosine > 0 else 0.0, abs=1e-6)
        assert 0 <= row["prediction"] <= highest + 1e-6


def test_cosines_are_given_exactly_for_cosine():
    rows = classified([1])
    for kind, cosines in (("cosine", None), ("majority", [0.5])):
        with pytest.raises(ConfigError, match="exactly for the kind 'cosine'"):
            predict_rows(learn(BaselineConfig(kind), rows), rows, cosines)


class Letters:
    """A tokenizer of one id per letter between two special tokens; 0 pads."""

    pad_token_id = 0

    def encode(self, text, truncation, max_length):
        return [1, *[3 + ord(letter) % 90 for letter in text][: max_length - 2], 2]


@pytest.fixture
def body():
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    return BertModel(
        BertConfig(
            vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=32,
        )
    )  # fmt: skip


PAIRS = [("apple", "orange juice"), ("the same text", "the same text"), ("a", "quite another and longer text")]


def cosines_of(body, pairs, **more):
    rows = [{"id": str(index), "text": a, "pair": b, "label": 1.0} for index, (a, b) in enumerate(pairs)]
    return text_cosines(body, Letters(), rows, **{"max_length": 24, "batch_size": 4, **more})


def test_cosine_is_that_of_mean_hidden_states_of_each_text_alone(body):
    body.eval()
    expected = []
    with torch.no_grad():
        for pair in PAIRS:
            ids = [torch.tensor([Letters().encode(text, True, 24)]) for text in pair]
            first, second = (body(input_ids=one).last_hidden_state[0].mean(dim=0) for one in ids)
            expected.append(float(first @ second / (first.norm() * second.norm())))
    assert cosines_of(body, PAIRS) == pytest.approx(expected, abs=1e-5)
    assert expected[1] == pytest.approx(1, abs=1e-5)
    assert expected[0] < 0.999


def test_cosine_depends_neither_on_the_batch_nor_on_the_order_of_the_two_texts_nor_on_dropout(body):
    body.train()
    found = cosines_of(body, PAIRS)
    assert body.training
    assert cosines_of(body, PAIRS, batch_size=1) == pytest.approx(found, abs=1e-5)
    assert cosines_of(body, [(b, a) for a, b in PAIRS]) == pytest.approx(found, abs=1e-5)


def test_a_text_without_tokens_has_the_cosine_zero(body):
    class Bare(Letters):
        def encode(self, text, truncation, max_length):
            return super().encode(text, truncation, max_length)[1:-1]

    rows = [{"id": str(n), "text": a, "pair": b, "label": 1.0} for n, (a, b) in enumerate([("abc", ""), ("", "b")])]
    assert text_cosines(body, Bare(), rows, max_length=24, batch_size=4) == [0, 0]
    assert -1 <= cosines_of(body, [("abc", "")])[0] <= 1


def test_what_cosine_cannot_use_is_named(body):
    with pytest.raises(DataError, match=r"'0'.*'pair'"):
        cosines_of(body, [("alone", None)])
    with pytest.raises(ConfigError, match="max_length to at most 32"):
        cosines_of(body, [("x" * 60, "y")], max_length=64)
