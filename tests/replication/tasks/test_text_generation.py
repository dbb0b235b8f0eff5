from __future__ import annotations

import pytest

from replication.errors import ConfigError, DataError
from replication.examples import TextPair, encode_pair
from replication.tasks import get_form

FORM = get_form("generation")
ROWS = [{"context": f"w{n} w{n + 1}", "completion": f"w{n + 2} w9"} for n in range(1, 6)]
ITEMS = [
    {"mr": f"name[w{n}]", "context": f"w{n} w{n + 1}", "references": [f"w{n} w9", "w3", "w4"]} for n in range(1, 6)
]


@pytest.fixture
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<|endoftext|>": 0} | {f"w{number}": number for number in range(1, 97)}
    core = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")


def test_a_row_is_encoded_as_the_recipe_has_it(tokenizer):
    options = FORM.options(max_length=16)
    examples = FORM.encode(tokenizer, ROWS, options)
    assert examples == [encode_pair(tokenizer, TextPair(**row), 0, 16) for row in ROWS]
    assert FORM.pad_id(tokenizer, options) == 0
    batch = FORM.collate(examples, 7)
    assert {len(tensor) for tensor in batch.values()} == {5}


def test_training_smooths_the_loss_and_evaluation_does_not(tiny_gpt2, tokenizer):
    from replication.losses import token_loss

    batch = FORM.collate(FORM.encode(tokenizer, ROWS, FORM.options()), 0)
    loss = FORM.training_loss(0.3)
    assert loss(tiny_gpt2.eval(), batch)[0] == token_loss(tiny_gpt2, batch)[0]
    for module in tiny_gpt2.train().modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
    assert loss(tiny_gpt2, batch)[0] == token_loss(tiny_gpt2, batch, label_smoothing=0.3)[0]


def test_scoring_references_leaves_the_decoded_texts_alone(tiny_gpt2, tokenizer):
    import torch

    torch.manual_seed(3)
    for parameter in tiny_gpt2.parameters():  # far from its start, which ends every text at once
        torch.nn.init.normal_(parameter, std=0.4)
    plain, scoring = (FORM.options({"beams": 2, "max_new_tokens": 5, "references_scored": n}) for n in (0, 2))
    told = []
    before = FORM.predict(tiny_gpt2, tokenizer, ITEMS, plain)
    after = FORM.predict(tiny_gpt2, tokenizer, ITEMS, scoring, told.append)
    assert (FORM.passes(plain), FORM.passes(scoring)) == (1, 2)
    assert sum(told) == 2 * len(ITEMS)
    assert all(set(row) == {"mr", "context", "prediction", "references"} for row in before)
    assert [{key: row[key] for key in before[0]} for row in after] == before
    assert any(row["prediction"] for row in before)
    assert all(row["reference_nll"] > 0 for row in after)
    assert [row["reference_tokens"] for row in after] == [5] * 5, "w w9 end, w3 end"


def test_the_truth_of_an_item_goes_by_its_meaning(tokenizer):
    assert FORM.gold(ITEMS[:1]) == [{"id": "name[w1]", "context": "w1 w2", "references": ["w1 w9", "w3", "w4"]}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"context": "w1"}, "row 2 .*field 'completion' is missing"),
        ({"context": "w1", "completion": " "}, "row 2 .*field 'completion' is blank"),
        ({"context": 3, "completion": "w1"}, "row 2 .*field 'context' must be text"),
        ({"context": "w1", "completion": "w2 " * 30}, "pair 2: .*more than max_length=16"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tokenizer, row, message):
    with pytest.raises(DataError, match=message):
        FORM.encode(tokenizer, [ROWS[0], row], FORM.options(max_length=16))


def test_what_the_run_gives_is_no_option_of_a_task():
    options = FORM.options({"beams": 3}, max_length=40, separator="</s>", other=1)
    assert (options.beams, options.max_length, options.separator) == (3, 40, "</s>")
    assert list(options.recorded()) == [
        "beams", "length_penalty", "no_repeat_ngram", "max_new_tokens", "batch_size", "references_scored"
    ]  # fmt: skip
    for name in ("max_length", "separator", "temperature"):
        with pytest.raises(ConfigError, match=f"unknown task option {name}; a generation task has: batch_size, beams"):
            FORM.options({name: 1})
    with pytest.raises(ConfigError, match="beams=0"):
        FORM.options({"beams": 0})
