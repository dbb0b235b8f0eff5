import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.errors import ConfigError, DataError, TrainingError
from replication.tasks import FORMS, get_form

ROWS = [
    {"id": "r1", "text": "The Mill is cheap.", "pair": None, "label": 1},
    {"id": "r2", "text": "Anna ate pasta in the Golden Palace.", "pair": "Anna ate.", "label": 0, "subset": "matched"},
    {"id": "r3", "text": "Is it good?", "pair": "The food of the palace is bad and expensive!", "label": 1},
    {"id": "r4", "text": "café", "pair": None, "label": 0},
]
SCORES = [{**row, "label": score} for row, score in zip(ROWS, (0.0, 2.5, 5, 3.2), strict=True)]
FORM, REGRESSION = get_form("classification"), get_form("regression")
OPTIONS = FORM.options({"max_length": 40, "batch_size": 3})
ARCHITECTURES = ("bert", "deberta", "mpnet", "llama")


class Letters:
    """A tokenizer without template: one token per letter, 0 as eos."""

    eos_token_id, sep_token_id = 0, None

    def num_special_tokens_to_add(self, pair):
        return 0

    def encode(self, text, add_special_tokens=True):
        return [ord(letter) for letter in text]


def prepared(encoder_of, architecture, **more):
    model, tokenizer = encoder_of(architecture, **more)
    FORM.prepare_model(model, tokenizer)
    return model, tokenizer


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_is_the_models_own_summed_and_rows_do_not_see_their_padding(encoder_of, architecture):
    model, tokenizer = prepared(encoder_of, architecture)
    examples = FORM.encode(tokenizer, ROWS, OPTIONS)
    batch = FORM.collate(examples, tokenizer.pad_token_id)
    with torch.no_grad():
        loss, weight = FORM.loss(model, batch)
        own = model(**batch).loss
        alone = sum(FORM.loss(model, FORM.collate([one], tokenizer.pad_token_id))[0] for one in examples)
    assert weight == 4
    assert torch.isclose(loss, own * 4, atol=1e-5)
    assert torch.isclose(loss, alone, atol=1e-4)


def test_label_smoothing_is_torchs_and_acts_in_training_alone(encoder_of):
    model, tokenizer = prepared(encoder_of, "bert")
    batch = FORM.collate(FORM.encode(tokenizer, ROWS, OPTIONS), tokenizer.pad_token_id)
    with torch.no_grad():
        logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
        smoothed = FORM.loss(model, batch, 0.2)[0]
        objective = FORM.training_loss(0.2)
        assert torch.isclose(objective(model, batch)[0], FORM.loss(model, batch)[0])
        for module in model.modules():
            module.training = isinstance(module, type(model))  # training mode without dropout
        assert torch.isclose(objective(model, batch)[0], smoothed)
    log_p = logits.log_softmax(-1)
    expected = -(0.8 * log_p.gather(1, batch["labels"][:, None]).sum() + 0.2 * log_p.mean(-1).sum())
    assert torch.isclose(smoothed, expected, atol=1e-5)


def test_regression_sums_squared_errors(encoder_of):
    model, tokenizer = prepared(encoder_of, "deberta", num_labels=1)
    batch = REGRESSION.collate(REGRESSION.encode(tokenizer, SCORES, OPTIONS), tokenizer.pad_token_id)
    with torch.no_grad():
        loss, weight = REGRESSION.loss(model, batch)
        model.config.problem_type = "regression"
        assert torch.isclose(loss, model(**batch).loss * 4, rtol=1e-5)
    assert weight == 4
    with pytest.raises(ConfigError, match="num_labels=1"):
        REGRESSION.loss(prepared(encoder_of, "deberta")[0], batch)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_predictions_keep_row_order_and_do_not_depend_on_batches(encoder_of, architecture):
    model, tokenizer = prepared(encoder_of, architecture)
    model.train()
    model.get_input_embeddings().eval()
    random = torch.get_rng_state()
    done = []
    found = FORM.predict(model, tokenizer, ROWS, OPTIONS, progress=done.append)
    assert [row["id"] for row in found] == ["r1", "r2", "r3", "r4"]
    assert [row["label"] for row in found] == [1, 0, 1, 0]
    assert [row.get("subset") for row in found] == [None, "matched", None, None]
    assert sum(done) == 4
    assert model.training
    assert not model.get_input_embeddings().training
    assert torch.equal(random, torch.get_rng_state())
    json.dumps(found, allow_nan=False)
    model.eval()
    for row, one in zip(found, ROWS, strict=True):
        alone = FORM.predict(model, tokenizer, [one], OPTIONS)[0]
        assert row["logits"] == pytest.approx(alone["logits"], abs=1e-4)
        assert row["prediction"] == row["logits"].index(max(row["logits"]))
        assert all(value == round(value, 6) for value in row["logits"])
    assert found == FORM.predict(model, tokenizer, ROWS, OPTIONS)


def test_equal_logits_give_the_first_class_and_regression_one_number(encoder_of):
    model, tokenizer = prepared(encoder_of, "bert", num_labels=3)
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = torch.tensor([0.0, 0.5, 0.5])
    assert {row["prediction"] for row in FORM.predict(model, tokenizer, ROWS, OPTIONS)} == {1}
    model, tokenizer = prepared(encoder_of, "bert", num_labels=1)
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = torch.tensor([2.25])
    found = REGRESSION.predict(model, tokenizer, SCORES, OPTIONS)
    assert found[1] == {"id": "r2", "prediction": 2.25, "label": 2.5}
    model.classifier.bias.data = torch.tensor([float("nan")])
    with pytest.raises(TrainingError, match=r"row 'r1'.*nan"):
        REGRESSION.predict(model, tokenizer, SCORES[:1], OPTIONS)


def test_segment_ids_reach_only_models_that_have_segments(encoder_of):
    for architecture, reaches in (("bert", True), ("deberta", False), ("mpnet", False), ("llama", False)):
        model, tokenizer = prepared(encoder_of, architecture)
        batch = FORM.collate(FORM.encode(tokenizer, ROWS, OPTIONS), tokenizer.pad_token_id)
        given_ids = batch.get("token_type_ids")
        assert (given_ids is not None) == (architecture in ("bert", "deberta"))
        with torch.no_grad():
            before = FORM.loss(model, batch)[0]
            batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
            assert (before != FORM.loss(model, batch)[0]) == reaches


def test_a_llama_reads_the_last_token_before_the_padding(encoder_of):
    model, tokenizer = encoder_of("llama")
    model.config.pad_token_id = None
    FORM.prepare_model(model, tokenizer)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    ids = tokenizer.encode("The Mill is cheap.")
    with torch.no_grad():
        states = model.model(torch.tensor([ids])).last_hidden_state
        expected = model.score(states[0, -1]).tolist()
    found = FORM.predict(model, tokenizer, ROWS, FORM.options({"max_length": 60, "batch_size": 4}))
    assert found[0]["logits"] == pytest.approx(expected, abs=1e-5)


def test_a_tokenizer_without_template_gets_a_separator_between_two_texts(tokenizer_of):
    tokenizer = tokenizer_of("bare")
    first, second = FORM.encode(tokenizer, [ROWS[1], ROWS[0]], OPTIONS)
    texts = [tokenizer.encode(text) for text in ("Anna ate pasta in the Golden Palace.", "Anna ate.")]
    assert first.input_ids == [*texts[0], tokenizer.eos_token_id, *texts[1]]
    assert tokenizer.eos_token_id not in second.input_ids
    assert first.token_type_ids is None


@settings(max_examples=40)
@given(st.integers(0, 30), st.integers(1, 30), st.integers(8, 40))
def test_without_a_template_the_longer_text_is_cut_first(first, second, limit):
    row = {"id": 1, "text": "a" * (first + 1), "pair": "b" * second, "label": 0}
    ids = FORM.encode(Letters(), [row], FORM.options({"max_length": limit}))[0]
    lengths = ids.input_ids.index(0), len(ids.input_ids) - ids.input_ids.index(0) - 1
    assert len(ids) == min(limit, first + 1 + second + 1)
    assert ids.truncated == (first + second + 2 > limit)
    for kept, other, whole in ((lengths[0], lengths[1], first + 1), (lengths[1], lengths[0], second)):
        assert kept == whole or kept >= other - 1  # a text that lost something is as long as the other


@pytest.mark.parametrize("kind", ["word_pieces", "sentence_pieces", "byte_pieces"])
def test_what_is_too_long_is_cut_within_the_template(tokenizer_of, kind):
    tokenizer = tokenizer_of(kind)
    row = {"id": 1, "text": "The Mill is a cheap pub. " * 5, "pair": "Is it?", "label": 0}
    short, long = (FORM.encode(tokenizer, [row], FORM.options({"max_length": n}))[0] for n in (24, 512))
    assert len(short) == 24
    assert (short.truncated, long.truncated) == (True, False)
    pair = tokenizer.encode("Is it?", add_special_tokens=False)
    assert short.input_ids[-1 - len(pair) : -1] == pair == long.input_ids[-1 - len(pair) : -1]
    assert short.input_ids[-1] == tokenizer.sep_token_id
    json.dumps(vars(short))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "x7", "text": "a", "pair": None}, "row 'x7': field 'label' is missing"),
        ({"id": "x7", "text": "a", "label": -1}, "row 'x7': field 'label'.*-1 marks the unpublished"),
        ({"id": "x7", "text": "a", "label": True}, "row 'x7': field 'label'"),
        ({"id": "x7", "text": "a", "label": "1"}, "row 'x7': field 'label'"),
        ({"id": "x7", "text": " ", "label": 1}, "row 'x7': field 'text' is blank"),
        ({"id": "x7", "text": 3, "label": 1}, "row 'x7': field 'text' must be text"),
        ({"id": "x7", "text": "a", "pair": 3, "label": 1}, "row 'x7': field 'pair' must be text"),
        ({"text": "a", "label": 1.5}, "row 1 .it has no field 'id'.: field 'label'"),
    ],
)
def test_errors_name_row_and_field(tokenizer_of, row, message):
    with pytest.raises(DataError, match=message):
        FORM.encode(tokenizer_of("word_pieces"), [row], OPTIONS)


def test_more_errors(encoder_of):
    model, tokenizer = prepared(encoder_of, "bert")
    with pytest.raises(DataError, match=r"row 'r1': duplicate id"):
        FORM.predict(model, tokenizer, [ROWS[0], ROWS[0]], OPTIONS)
    batch = FORM.collate(FORM.encode(tokenizer, [{**ROWS[0], "label": 2}], OPTIONS), 0)
    with pytest.raises(DataError, match="'label' is 2, but the model has 2 outputs"):
        FORM.loss(model, batch)
    with pytest.raises(ConfigError, match="has 66 positions; lower the task option max_length"):
        FORM.predict(model, tokenizer, [{**ROWS[0], "text": "good " * 90}], FORM.options({"max_length": 80}))
    with pytest.raises(DataError, match="'label' must be a finite number"):
        REGRESSION.encode(tokenizer, [{**ROWS[0], "label": float("nan")}], OPTIONS)
    with pytest.raises(ConfigError, match=r"corpus 'x'.*'labels'"):
        FORM.num_labels({"name": "x", "labels": None})
    with pytest.raises(DataError, match="no examples"):
        FORM.collate([], 0)
    assert FORM.num_labels({"labels": ["a", "b", "c"]}) == 3
    assert REGRESSION.num_labels({"labels": None}) == 1


def test_forms_and_options_are_checked_by_name():
    with pytest.raises(ConfigError, match="known are: classification, generation, multiple_choice"):
        get_form("translation")
    with pytest.raises(
        ConfigError, match="unknown task option stride; a classification task has: batch_size, max_length"
    ):
        FORM.options({"stride": 4})
    for settings_ in ({"max_length": 4}, {"batch_size": 0}, {"max_length": True}, {"max_length": "64"}):
        with pytest.raises(ConfigError, match=f"task option {next(iter(settings_))}="):
            FORM.options(settings_)
    for name, form in FORMS.items():
        assert form.name == name
        assert form.options().batch_size >= 1


def test_a_model_learns_in_the_training_loop(encoder_of):
    from replication.training.config import TrainingConfig
    from replication.training.loop import train

    model, tokenizer = prepared(encoder_of, "bert")
    examples = FORM.encode(tokenizer, ROWS, OPTIONS)
    config = TrainingConfig(
        steps=20, learning_rate=5e-3, batch_size=2, accumulation_steps=2, warmup_steps=0, max_length=40, threads=1
    )
    result = train(
        model,
        examples,
        examples,
        config,
        seed=1,
        pad_id=tokenizer.pad_token_id,
        loss_function=FORM.training_loss(config.label_smoothing),
        collate_function=FORM.collate,
    )
    assert result.dev_loss < 0.5 * result.curves[0]["dev_loss"]
    assert result.tokens_seen == 20 * sum(map(len, examples))
    found = FORM.predict(model, tokenizer, ROWS, OPTIONS)
    assert [row["prediction"] for row in found] == [1, 0, 1, 0]
