import json

import pytest
import torch

from replication.corpora.choices import CORPORA
from replication.errors import ConfigError, DataError, TrainingError
from replication.metrics import score_task
from replication.tasks import get_form
from replication.training.losses import token_loss

FORM = get_form("multiple_choice")
ROWS = [
    {"id": "c1", "question": "Where does Anna eat?", "choices": ["in the palace", "pub", "near the café"], "answer": 2},
    {"id": "c2", "question": "Is the food good?", "choices": ["no", "yes"], "answer": 0},
    {"id": "c3", "question": "Which pub is cheap? " * 4, "choices": ["The Mill", "The Golden Palace"], "answer": 0},
]
OPTIONS = FORM.options({"max_length": 40, "batch_size": 3})


@pytest.fixture
def llama(encoder_of):
    return encoder_of("llama", "AutoModelForCausalLM")


def log_probability(model, tokenizer, prompt, choice):
    """One token after the other, without batch or mask."""
    ids = tokenizer.encode(prompt)
    total = 0.0
    for token in tokenizer.encode(" " + choice):
        with torch.no_grad():
            total += float(model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token])
        ids.append(token)
    return total, len(tokenizer.encode(" " + choice))


@pytest.mark.parametrize(
    ("length", "metric"), [("characters", "acc"), ("characters", "acc_norm"), ("bytes", "acc_norm"), ("tokens", "acc")]
)
def test_log_likelihoods_and_lengths_of_every_choice(llama, length, metric):
    model, tokenizer = llama
    options = FORM.options({"max_length": 60, "batch_size": 3, "length": length}, metric=metric)
    found = FORM.predict(model, tokenizer, ROWS[:2], options)
    for row, entry in zip(ROWS, found, strict=False):
        for choice, value, size in zip(row["choices"], entry["log_likelihoods"], entry["lengths"], strict=True):
            total, tokens = log_probability(model, tokenizer, f"Question: {row['question']}\nAnswer:", choice)
            assert value == pytest.approx(total, abs=2e-5)
            assert size == {"characters": len(choice), "bytes": len(choice.encode()), "tokens": tokens}[length]
        assert entry["label"] == row["answer"]
    # what a run calls right is what its leading metric counts
    rights = [float(entry["prediction"] == entry["label"]) for entry in found]
    assert score_task(metric, found)[metric] == sum(rights) / len(rights)


def test_the_length_decides_between_a_short_and_a_long_choice(llama):
    model, tokenizer = llama
    torch.nn.init.zeros_(model.lm_head.weight)  # every token equally likely: only numbers of tokens count
    row = {"id": 1, "question": "?", "choices": ["£", "東京東京東", "a a"], "answer": 0}
    tokens = [len(tokenizer.encode(" " + choice)) for choice in row["choices"]]
    found = {
        length: FORM.predict(model, tokenizer, [row], FORM.options({"length": length}))[0]["prediction"]
        for length in ("tokens", "characters", "bytes")
    }
    as_it_is = FORM.predict(model, tokenizer, [row], FORM.options(metric="acc"))[0]
    assert as_it_is["prediction"] == tokens.index(min(tokens))
    assert found["tokens"] == 0  # all equal: the first
    for length, sizes in (("characters", (1, 5, 3)), ("bytes", (2, 15, 3))):
        rates = [-count / size for count, size in zip(tokens, sizes, strict=True)]
        assert found[length] == rates.index(max(rates))


def test_predictions_keep_row_order_and_do_not_depend_on_batches(llama):
    model, tokenizer = llama
    model.train()
    done = []
    found = FORM.predict(model, tokenizer, ROWS, OPTIONS, progress=done.append)
    assert model.training
    assert sum(done) == 3
    assert [row["id"] for row in found] == ["c1", "c2", "c3"]
    assert [len(row["log_likelihoods"]) for row in found] == [3, 2, 2]
    json.dumps(found, allow_nan=False)
    assert found == FORM.predict(model, tokenizer, ROWS, OPTIONS)
    for row, one in zip(found, ROWS, strict=True):
        alone = FORM.predict(model, tokenizer, [one], OPTIONS)[0]["log_likelihoods"]
        assert alone == pytest.approx(row["log_likelihoods"], abs=1e-4)


def test_training_learns_the_right_choices_tokens_alone(llama):
    model, tokenizer = llama
    examples = FORM.encode(tokenizer, ROWS, OPTIONS)
    for row, example in zip(ROWS, examples, strict=True):
        learned = [token for token, flag in zip(example.input_ids, example.loss_mask, strict=True) if flag]
        assert learned == tokenizer.encode(" " + row["choices"][row["answer"]])
        json.dumps(vars(example))
    options = FORM.options({"max_length": 60})
    batch = FORM.collate(FORM.encode(tokenizer, ROWS[:2], options), tokenizer.pad_token_id)
    with torch.no_grad():
        loss, weight = FORM.loss(model, batch)
    expected = [
        log_probability(model, tokenizer, f"Question: {row['question']}\nAnswer:", row["choices"][row["answer"]])
        for row in ROWS[:2]
    ]
    assert float(loss) == pytest.approx(-sum(total for total, _ in expected), abs=1e-4)
    assert weight == sum(tokens for _, tokens in expected)
    with torch.no_grad():
        smoothed, by_tokens = FORM.loss(model, batch, 0.1)[0], token_loss(model, batch, label_smoothing=0.1)[0]
    assert torch.isclose(smoothed, by_tokens)
    assert not torch.isclose(smoothed, loss)


def test_a_long_prompt_loses_its_beginning_alike_for_every_choice(llama):
    _, tokenizer = llama
    from replication.tasks.multiple_choice import _encode_choices

    first, second = _encode_choices(tokenizer, ROWS[2], 3, OPTIONS)
    assert first.dropped_tokens == second.dropped_tokens > 0
    assert max(len(first), len(second)) == 40
    prompt = tokenizer.encode(f"Question: {ROWS[2]['question']}\nAnswer:")
    for example in (first, second):
        context = example.input_ids[: example.loss_mask.index(1)]
        assert context == prompt[first.dropped_tokens :]


def test_the_prompt_and_the_tokenizers_own_opening_token(tokenizer_of):
    bare, wrapping = tokenizer_of("bare"), tokenizer_of("byte_pieces")
    options = FORM.options({"prompt": "{question}"})
    row = {"id": 1, "question": "{Anna} ate", "choices": ["pasta", "food"], "answer": 1}
    (example,) = FORM.encode(bare, [row], options)
    assert example.input_ids == [*bare.encode("{Anna} ate"), *bare.encode(" food")]
    (opened,) = FORM.encode(wrapping, [row], options)
    assert opened.input_ids == [wrapping.bos_token_id, *example.input_ids]


def test_a_passage_comes_first_and_white_space_at_the_end_goes_to_the_choice(tokenizer_of):
    tokenizer = tokenizer_of("bare")
    row = {"id": 1, "passage": "{question} Anna", "question": "is it?", "choices": ["no", "yes"], "answer": 1}
    options = FORM.options({}, **CORPORA["boolq"].card.evaluation)
    (example,) = FORM.encode(tokenizer, [row], options)
    prompt = tokenizer.encode("{question} Anna\nQuestion: is it?\nAnswer:")
    assert example.input_ids == [*prompt, *tokenizer.encode(" yes")]
    bare = FORM.options({}, **CORPORA["hellaswag"].card.evaluation)
    (example,) = FORM.encode(tokenizer, [{**row, "question": "Anna ate  ", "choices": ["pasta", " food"]}], bare)
    assert example.input_ids == [*tokenizer.encode("Anna ate"), *tokenizer.encode("    food")]
    with pytest.raises(DataError, match=r"row 'c1': field 'passage' is missing, but the prompt has \{passage\}"):
        FORM.encode(tokenizer, ROWS, options)


def test_a_task_overrides_its_card():
    card = CORPORA["boolq"].card.evaluation
    assert FORM.options({}, **card, metric="acc").prompt == card["prompt"]
    changed = FORM.options({"prompt": "{question}"}, **card, metric="acc")
    assert (changed.prompt, changed.metric) == ("{question}", "acc")
    assert set(changed.recorded()) == {"batch_size", "max_length", "prompt", "length"}
    with pytest.raises(ConfigError, match="unknown task option metric"):
        FORM.options({"metric": "acc"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"passage": " "}, "row 'c2': field 'passage' is blank"),
        ({"answer": 2}, "row 'c2': field 'answer' must be an index into its 2 choices, found 2"),
        ({"answer": True}, "row 'c2': field 'answer'"),
        ({"choices": ["no"]}, "row 'c2': field 'choices' must be a list of at least two"),
        ({"choices": "no"}, "row 'c2': field 'choices' must be a list"),
        ({"choices": ["no", " "]}, "row 'c2': field 'choices': ' ' is not text"),
        ({"choices": ["no", "x y " * 40]}, "row 'c2': field 'choices': the longest takes .* tokens"),
        ({"question": ""}, "row 'c2': field 'question' is blank"),
    ],
)
def test_errors_name_row_and_field(tokenizer_of, change, message):
    with pytest.raises(DataError, match=message):
        FORM.encode(tokenizer_of("bare"), [{**ROWS[1], **change}], OPTIONS)


def test_more_errors(llama):
    model, tokenizer = llama
    with pytest.raises(ConfigError, match="lower the task option max_length"):
        FORM.predict(model, tokenizer, [{**ROWS[0], "question": "Which pub? " * 30}], FORM.options())
    model.lm_head.weight.data[:] = float("nan")
    with pytest.raises(TrainingError, match="row 'c1'"):
        FORM.predict(model, tokenizer, ROWS, OPTIONS)
    for settings in (
        {"prompt": "Answer:"},
        {"prompt": "{question} "},
        {"prompt": "{passage}{passage}{question}"},
        {"length": "none"},
        {"max_length": 1},
    ):
        with pytest.raises(ConfigError, match=f"task option {next(iter(settings))}="):
            FORM.options(settings)
