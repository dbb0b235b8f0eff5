import functools
import json
import math
from types import SimpleNamespace

import pytest
import torch

from replication.errors import ConfigError, DataError
from replication.tasks import get_form

FORM = get_form("summarisation")
ROWS = [
    {"id": "s1", "document": "Anna ate pasta in the Golden Palace.", "summary": "Anna ate."},
    {"id": "s2", "document": "The Mill is a cheap French pub near the river; it costs £20. " * 3, "summary": "A café."},
    {"id": "s3", "document": "Is it?", "summary": "The Golden Palace serves expensive Japanese food, Anna."},
]
OPTIONS = FORM.options({"max_source_length": 40, "max_target_length": 12, "batch_size": 2, "beams": 2})


def test_the_loss_is_the_models_own_summed_and_rows_do_not_see_their_padding(bart):
    model, tokenizer = bart
    examples = FORM.encode(tokenizer, ROWS, OPTIONS)
    batch = FORM.collate(examples, tokenizer.pad_token_id)
    with torch.no_grad():
        loss, weight = FORM.loss(model, batch)
        own = model(**batch).loss
        alone = sum(FORM.loss(model, FORM.collate([one], tokenizer.pad_token_id))[0] for one in examples)
        smoothed = FORM.loss(model, batch, 0.1)[0]
        log_p = model(**batch).logits.log_softmax(-1)[batch["labels"] >= 0]
    assert weight == sum(len(example.labels) for example in examples)
    assert torch.isclose(loss, own * weight, rtol=1e-5)
    assert torch.isclose(loss, alone, rtol=1e-4)
    learned = batch["labels"][batch["labels"] >= 0]
    expected = -(0.9 * log_p.gather(-1, learned[:, None]).sum() + 0.1 * log_p.mean(-1).sum())
    assert torch.isclose(smoothed, expected, rtol=1e-5)


def test_texts_are_cut_and_closed(bart, tokenizer_of):
    _, tokenizer = bart
    examples = FORM.encode(tokenizer, ROWS, OPTIONS)
    assert examples[0].input_ids == tokenizer.encode(ROWS[0]["document"])
    assert len(examples[1].input_ids) == 40
    assert len(examples[2].labels) == 12
    assert len(examples[2]) == 12
    for example in examples:
        assert example.input_ids[-1] == example.labels[-1] == tokenizer.eos_token_id
        json.dumps(vars(example))
    bare = tokenizer_of("bare")
    for row, example in zip(ROWS, FORM.encode(bare, ROWS, OPTIONS), strict=True):
        assert example.labels == [*bare.encode(row["summary"])[:11], bare.eos_token_id]
        assert example.input_ids == [*bare.encode(row["document"])[:39], bare.eos_token_id]


def test_greedy_search_takes_the_likeliest_token_each_time(bart):
    model, tokenizer = bart
    options = FORM.options({"max_target_length": 8, "beams": 1, "no_repeat_ngram": 0, "max_source_length": 40})
    found = FORM.predict(model, tokenizer, ROWS, options)
    for row, entry in zip(ROWS, found, strict=True):
        source = torch.tensor([tokenizer.encode(row["document"], truncation=True, max_length=40)])
        said = [tokenizer.eos_token_id]
        with torch.no_grad():
            while len(said) < 9 and (len(said) == 1 or said[-1] != tokenizer.eos_token_id):
                logits = model(input_ids=source, decoder_input_ids=torch.tensor([said])).logits[0, -1]
                said.append(int(logits.argmax()))
        assert entry["prediction"] == tokenizer.decode(said, skip_special_tokens=True).strip()
        assert entry["references"] == [row["summary"]]


def test_predictions_keep_row_order_and_use_no_setting_of_the_models_own(bart):
    model, tokenizer = bart
    plain = FORM.predict(model, tokenizer, ROWS, OPTIONS)
    assert [row["id"] for row in plain] == ["s1", "s2", "s3"]
    model.train()
    model.generation_config.min_new_tokens = 12
    model.generation_config.repetition_penalty = 9.0
    model.generation_config.forced_bos_token_id = 7
    own = model.generation_config
    done = []
    assert FORM.predict(model, tokenizer, ROWS, OPTIONS, progress=done.append) == plain
    assert model.generation_config is own
    assert model.training
    assert sum(done) == 3
    assert any(row["prediction"] for row in plain)


def test_every_option_reaches_the_search(bart, monkeypatch):
    model, tokenizer = bart
    seen = []

    def generate(input_ids, attention_mask, generation_config, past_key_values):
        seen.append(generation_config)
        return torch.full((len(input_ids), 1), tokenizer.eos_token_id)

    monkeypatch.setattr(model, "generate", generate)
    settings = {
        "max_target_length": 9,
        "beams": 3,
        "length_penalty": 2,
        "no_repeat_ngram": 4,
        "early_stopping": True,
    }
    found = FORM.predict(model, tokenizer, ROWS, FORM.options({**settings, "max_source_length": 40}))
    config = seen[0]
    assert (config.max_new_tokens, config.num_beams, config.length_penalty) == (9, 3, 2.0)
    assert (config.no_repeat_ngram_size, config.early_stopping, config.do_sample) == (4, True, False)
    assert config.decoder_start_token_id == model.config.decoder_start_token_id
    assert (config.eos_token_id, config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert [row["prediction"] for row in found] == ["", "", ""]


@pytest.mark.parametrize("beams", [1, 3])
def test_beams_over_documents_that_stay_choose_what_copies_choose(bart, monkeypatch, beams):
    model, tokenizer = bart
    options = FORM.options({"beams": beams, "max_source_length": 40, "max_target_length": 12})
    found = FORM.predict(model, tokenizer, ROWS, options)
    plain = model.generate
    monkeypatch.setattr(model, "generate", lambda **given: plain(**{**given, "past_key_values": None}))
    assert FORM.predict(model, tokenizer, ROWS, options) == found


def test_early_stopping_can_end_on_an_unlikely_summary(bart, monkeypatch):
    """Two hypotheses are finished, both unlikely, while the likely one is still open."""
    model, tokenizer = bart
    end, *letters = (tokenizer.convert_tokens_to_ids(token) for token in ("</s>", "a", "b", "c", "d"))
    a, b, c, d = letters
    table = torch.full((len(tokenizer), len(tokenizer)), -30.0)
    for token, following in ((end, {a: 0.9, end: 0.05}), (a, {b: 0.9, d: 0.05}), (d, {end: 0.9})):
        for other, probability in following.items():
            table[token, other] = math.log(probability)
    table[b, c] = table[c, end] = 0.0
    forward = model.forward

    @functools.wraps(forward)
    def scripted(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = table[kwargs["decoder_input_ids"]]
        return output

    monkeypatch.setattr(model, "forward", scripted)
    for early_stopping, expected in (("never", "abc"), (True, "ad")):
        settings = {"beams": 2, "no_repeat_ngram": 0, "max_target_length": 8, "early_stopping": early_stopping}
        found = FORM.predict(model, tokenizer, ROWS[:1], FORM.options(settings))
        assert found[0]["prediction"] == expected


def test_a_model_learns_to_summarise(bart):
    from replication.training.config import TrainingConfig
    from replication.training.loop import train

    model, tokenizer = bart
    for module in model.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.0
    rows = [ROWS[0], {"id": "s4", "document": "Is it good or bad?", "summary": "food"}]
    config = TrainingConfig(
        steps=60, learning_rate=1e-2, batch_size=2, warmup_steps=0, max_length=40, label_smoothing=0.0, threads=1
    )
    train(
        model,
        FORM.encode(tokenizer, rows, OPTIONS),
        [],
        config,
        seed=1,
        pad_id=tokenizer.pad_token_id,
        loss_function=FORM.training_loss(),
        collate_function=FORM.collate,
    )
    found = FORM.predict(model, tokenizer, rows, OPTIONS)
    assert [row["prediction"] for row in found] == ["Anna ate.", "food"]


def test_errors_name_what_is_wrong(bart, encoder_of):
    model, tokenizer = bart
    FORM.prepare_model(model, tokenizer)
    with pytest.raises(ConfigError, match="BertForSequenceClassification: summarisation needs an encoder-decoder"):
        FORM.prepare_model(*encoder_of("bert"))
    with pytest.raises(ConfigError, match="an eos and a padding token"):
        FORM.prepare_model(model, SimpleNamespace(eos_token_id=1, pad_token_id=None))
    for field in ("document", "summary"):
        with pytest.raises(DataError, match=f"row 's1': field '{field}' must be text"):
            FORM.encode(tokenizer, [{**ROWS[0], field: None}], OPTIONS)
    with pytest.raises(ConfigError, match="lower the task option max_source_length to at most 64"):
        FORM.predict(model, tokenizer, ROWS, FORM.options())
    for settings in ({"beams": 0}, {"early_stopping": 1}, {"early_stopping": "soon"}, {"length_penalty": "1"}):
        with pytest.raises(ConfigError, match=f"task option {next(iter(settings))}="):
            FORM.options(settings)
