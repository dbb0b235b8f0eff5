import json
from types import SimpleNamespace

import pytest
import torch

from replication.errors import ConfigError, DataError, TrainingError
from replication.tasks import get_form

FORM = get_form("question_answering")
CONTEXT = "The Mill is a cheap French pub near the river; it costs £20 — a café for naïve families.  " * 2
OPTIONS = FORM.options({"max_length": 36, "stride": 8, "batch_size": 3, "no_answer": True})
ARCHITECTURES = ("bert", "deberta", "mpnet")


def row(name, answer=None, context=CONTEXT, question="Which pub is cheap?"):
    answers = [] if answer is None else [{"text": answer, "start": context.index(answer)}]
    return {"id": name, "question": question, "context": context, "answers": answers, "impossible": answer is None}


ROWS = [row("q1", "£20"), row("q2"), row("q3", "Anna", "Anna ate pasta."), row("q4", "café for naïve families")]


class Scripted(torch.nn.Module):
    """A model whose logits are looked up by token, to say exactly what it should find."""

    def __init__(self, starts, ends, null=0.0, size=400, cls=2):
        super().__init__()
        self.config = SimpleNamespace(model_type="scripted", type_vocab_size=0)
        self.tables = torch.nn.Parameter(torch.full((2, size), -5.0))
        for table, scores in zip(self.tables.data, (starts, ends), strict=True):
            table[cls] = null / 2
            for token, score in scores.items():
                table[token] = score

    def forward(self, input_ids, attention_mask):
        starts, ends = self.tables[0][input_ids], self.tables[1][input_ids]
        return SimpleNamespace(start_logits=starts, end_logits=ends)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_is_the_models_own_summed_and_windows_do_not_see_their_padding(encoder_of, architecture):
    model, tokenizer = encoder_of(architecture, "AutoModelForQuestionAnswering")
    examples = FORM.encode(tokenizer, ROWS, OPTIONS)
    batches = [FORM.collate([example], tokenizer.pad_token_id) for example in examples]
    with torch.no_grad():
        loss, weight = FORM.loss(model, FORM.collate(examples, tokenizer.pad_token_id))
        own = sum(
            model(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                **({"token_type_ids": batch["token_type_ids"]} if architecture == "bert" else {}),
                start_positions=batch["starts"],
                end_positions=batch["ends"],
            ).loss
            for batch in batches
        )
    assert weight == len(examples) > len(ROWS)
    assert torch.isclose(loss, own, atol=1e-4)


def test_smoothing_spreads_over_real_tokens(encoder_of):
    model, tokenizer = encoder_of("bert", "AutoModelForQuestionAnswering")
    examples = FORM.encode(tokenizer, [ROWS[2], ROWS[0]], OPTIONS)[:2]
    with torch.no_grad():
        together = FORM.loss(model, FORM.collate(examples, tokenizer.pad_token_id), 0.3)[0]
        expected = 0.0
        for example in examples:
            batch = FORM.collate([example], tokenizer.pad_token_id)
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
            output = model(**inputs)
            for logits, target in ((output.start_logits, batch["starts"]), (output.end_logits, batch["ends"])):
                expected += torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.3) / 2
    assert torch.isclose(together, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["word_pieces", "sentence_pieces", "byte_pieces"])
def test_labels_point_at_the_answer_or_at_cls(tokenizer_of, kind):
    tokenizer = tokenizer_of(kind)
    texts = []
    for example in FORM.encode(tokenizer, [ROWS[0]], OPTIONS):
        json.dumps(vars(example))
        if example.start == 0:
            assert (example.end, example.input_ids[0]) == (0, tokenizer.cls_token_id)
        else:
            texts.append(tokenizer.decode(example.input_ids[example.start : example.end + 1]).strip())
    assert texts
    assert all(text.replace(" ", "").replace("##", "") == "£20" for text in texts)
    assert all(example.start == example.end == 0 for example in FORM.encode(tokenizer, [ROWS[1]], OPTIONS))
    alone = FORM.encode(tokenizer, [row("q", "The Mill", CONTEXT.strip())], OPTIONS)
    assert [example.start > 0 for example in alone] == [True] + [False] * (len(alone) - 1)


@pytest.mark.parametrize("kind", ["word_pieces", "sentence_pieces", "byte_pieces"])
def test_a_learned_position_is_predicted_back_as_the_original_text(tokenizer_of, kind):
    """The two ways between characters and tokens agree: what the labels say is read back out of the context."""
    tokenizer = tokenizer_of(kind)
    context = "Café Zü  is\tnear the Golden Palace — £20."
    for answer in ("Café Zü", "£20", "Golden", "is\tnear", "Palace — £20."):
        options = FORM.options({"max_length": 90, "stride": 8})
        (example,) = FORM.encode(tokenizer, [row("q", answer, context)], options)
        model = Pointing(example.start, example.end)
        found = FORM.predict(model, tokenizer, [row("q", answer, context)], options)[0]
        assert answer in found["prediction"]
        assert found["prediction"] in context
        assert len(found["prediction"]) <= len(answer) + 1  # word pieces may take a full stop along
        assert found["answers"] == [answer]


class Pointing(torch.nn.Module):
    """A model that is sure of two positions."""

    def __init__(self, start, end):
        super().__init__()
        self.config = SimpleNamespace(model_type="pointing", type_vocab_size=0)
        self.places = torch.nn.Parameter(torch.tensor([float(start), float(end)]))

    def forward(self, input_ids, attention_mask):
        positions = torch.arange(input_ids.shape[1])[None]
        starts, ends = (10.0 * (positions == place).expand(input_ids.shape) for place in self.places)
        return SimpleNamespace(start_logits=starts, end_logits=ends)


def test_the_best_window_wins_and_no_answer_counts_by_its_worst(tokenizer_of):
    tokenizer = tokenizer_of("word_pieces")
    words = "bcdefghijklmnopqrstuvwxyz"
    context = " ".join(words)
    ids = {word: tokenizer.encode(word, add_special_tokens=False)[0] for word in words}
    options = {"max_length": 24, "stride": 4}
    question = row("q", "y", context, question="?")
    model = Scripted({ids["c"]: 3.0, ids["y"]: 4.0}, {ids["d"]: 3.0, ids["z"]: 4.5})
    found = FORM.predict(model, tokenizer, [question], FORM.options(options))[0]
    assert found == {"id": "q", "prediction": "y z", "answers": ["y"], "no_answer_score": -8.5}
    # the question mark, which is outside the context, is never part of an answer
    model = Scripted({tokenizer.encode("?")[1]: 99.0, ids["c"]: 3.0}, {ids["d"]: 3.0})
    assert FORM.predict(model, tokenizer, [question], FORM.options(options))[0]["prediction"] == "c d"
    # no answer wins by more than the threshold, and only where it may
    model = Scripted({ids["c"]: 3.0}, {ids["d"]: 3.0}, null=6.5)
    for more, expected in (
        ({}, "c d"),
        ({"no_answer": True}, ""),
        ({"no_answer": True, "null_threshold": 0.5}, "c d"),
        ({"no_answer": True, "null_threshold": 0.4}, ""),
    ):
        found = FORM.predict(model, tokenizer, [question], FORM.options({**options, **more}))[0]
        assert (found["prediction"], found["no_answer_score"]) == (expected, 0.5)
        assert found.get("span") == ("c d" if more else None)  # kept for other thresholds


def test_a_window_where_no_answer_scores_little_decides_for_the_row(tokenizer_of):
    tokenizer = tokenizer_of("word_pieces")

    class ByWindow(Scripted):
        def forward(self, input_ids, attention_mask):
            output = super().forward(input_ids, attention_mask)
            with_z = (input_ids == marker).any(dim=1)
            output.start_logits[with_z, 0] -= 7.0
            return output

    marker = tokenizer.encode("z", add_special_tokens=False)[0]
    question = row("q", "y", "b c d e f g h i j k l m n o p q r s t u v w x y z", question="?")
    model = ByWindow({marker: 1.0}, {marker: 1.0}, null=6.0)
    options = FORM.options({"max_length": 24, "stride": 4, "no_answer": True})
    found = FORM.predict(model, tokenizer, [question], options)[0]
    assert (found["prediction"], found["no_answer_score"]) == ("z", -3.0)


def test_an_answer_has_at_most_so_many_tokens(tokenizer_of):
    tokenizer = tokenizer_of("word_pieces")
    ids = {word: tokenizer.encode(word, add_special_tokens=False)[0] for word in "cdefgh"}
    model = Scripted({ids["c"]: 5.0, ids["g"]: 1.0}, {ids["h"]: 5.0, ids["d"]: 0.5})
    question = row("q", "c", "b c d e f g h i", question="?")
    for length, expected in ((6, "c d e f g h"), (5, "g h"), (1, "c")):  # 1: "c" and "h" are equal
        options = FORM.options({"max_length": 40, "stride": 4, "max_answer_length": length})
        assert FORM.predict(model, tokenizer, [question], options)[0]["prediction"] == expected


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_predictions_keep_row_order_and_do_not_depend_on_batches(encoder_of, architecture):
    model, tokenizer = encoder_of(architecture, "AutoModelForQuestionAnswering")
    model.train()
    done = []
    found = FORM.predict(model, tokenizer, ROWS, OPTIONS, progress=done.append)
    assert model.training
    assert sum(done) == 4
    assert [entry["id"] for entry in found] == ["q1", "q2", "q3", "q4"]
    assert [entry["answers"] for entry in found] == [["£20"], [], ["Anna"], ["café for naïve families"]]
    json.dumps(found, allow_nan=False)
    assert found == FORM.predict(model, tokenizer, ROWS, OPTIONS)
    for entry, one in zip(found, ROWS, strict=True):
        alone = FORM.predict(model, tokenizer, [one], OPTIONS)[0]
        assert alone["prediction"] == entry["prediction"]
        assert alone["no_answer_score"] == pytest.approx(entry["no_answer_score"], abs=1e-4)
        assert entry["prediction"] in one["context"]
        assert entry["prediction"] == entry["prediction"].strip()


def test_learning_makes_it_find_the_answer(encoder_of):
    from replication.training.config import TrainingConfig
    from replication.training.loop import train

    model, tokenizer = encoder_of("bert", "AutoModelForQuestionAnswering")
    rows = [row("a", "pasta", "Anna ate pasta in the palace."), row("b", "food", "The food is bad.")]
    options = FORM.options({"max_length": 40, "stride": 8})
    config = TrainingConfig(
        steps=40, learning_rate=5e-3, batch_size=2, warmup_steps=0, max_length=40, label_smoothing=0.0, threads=1
    )
    train(
        model,
        FORM.encode(tokenizer, rows, options),
        [],
        config,
        seed=1,
        pad_id=tokenizer.pad_token_id,
        loss_function=FORM.training_loss(),
        collate_function=FORM.collate,
    )
    assert [found["prediction"] for found in FORM.predict(model, tokenizer, rows, options)] == ["pasta", "food"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": [{"text": "Mill", "start": 5}]}, "row 'q1': field 'answers': 'Mill' is not at character 5"),
        ({"answers": [{"text": "Mill"}]}, "row 'q1': field 'answers': expected a text and its start"),
        ({"answers": [{"text": " ", "start": 3}]}, "row 'q1': field 'answers': expected a text"),
        ({"answers": [{"text": "s.", "start": -2}]}, "not at character -2"),
        ({"answers": []}, "row 'q1': fields 'answers' and 'impossible' disagree"),
        ({"impossible": True}, "row 'q1': fields 'answers' and 'impossible' disagree"),
        ({"context": ""}, "row 'q1': field 'answers': '£20' is not at"),
    ],
)
def test_errors_name_row_and_field(tokenizer_of, change, message):
    with pytest.raises(DataError, match=message):
        FORM.encode(tokenizer_of("word_pieces"), [{**ROWS[0], **change}], OPTIONS)


def test_more_errors(encoder_of):
    model, tokenizer = encoder_of("bert", "AutoModelForQuestionAnswering")
    with pytest.raises(ConfigError, match="row 'q2' has no answer, but the task option no_answer is false"):
        FORM.predict(model, tokenizer, ROWS, FORM.options())
    with pytest.raises(DataError, match=r"row 'q1': duplicate id"):
        FORM.predict(model, tokenizer, [ROWS[0], ROWS[0]], OPTIONS)
    with pytest.raises(ConfigError, match="lower the task option max_length to at most 66"):
        FORM.predict(model, tokenizer, [row("q", "The Mill", CONTEXT * 2)], FORM.options())
    model.qa_outputs.bias.data[:] = float("nan")
    with pytest.raises(TrainingError, match=r"row 'q1'.*nan"):
        FORM.predict(model, tokenizer, ROWS[:1], OPTIONS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 40, "stride": 30}, "max_length=40; valid is at least stride . 16 = 46"),
        ({"stride": -1}, "stride=-1"),
        ({"n_best": 0}, "n_best=0"),
        ({"no_answer": 1}, "no_answer=1; valid is true or false"),
        ({"null_threshold": float("nan")}, "null_threshold=nan"),
        ({"max_source_length": 8}, "unknown task option max_source_length"),
    ],
)
def test_options_are_checked(settings, message):
    with pytest.raises(ConfigError, match=message):
        FORM.options(settings)
