"""Small vocabularies: special tokens are where each architecture expects them, and every text round-trips."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.backbones import backbone_config, get_backbone
from replication.backbones.vocabularies import special_tokens, train_tokenizer
from replication.errors import ConfigError

SEPARATOR = "<|endoftext|>"
TEXTS = [f"The Golden Pear is a pub by the riverside, number {number}." for number in range(24)]
SMALL = ("microworld-gpt2", "microworld-llama", "microworld-bart", "microworld-deberta")


def tokenizer_of(name, size=300):
    backbone = get_backbone(name)
    return train_tokenizer(TEXTS, size, backbone.separator, architecture=backbone.architecture)


TOKENIZERS = {name: tokenizer_of(name) for name in SMALL}


@pytest.mark.parametrize("name", SMALL)
def test_the_same_texts_give_the_same_tokenizer(name):
    assert tokenizer_of(name).backend_tokenizer.to_str() == TOKENIZERS[name].backend_tokenizer.to_str()
    assert len(TOKENIZERS[name]) <= 300


@pytest.mark.parametrize("name", SMALL)
@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_every_text_comes_back(name, text):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize(
    ("name", "single", "pair"),
    [
        ("microworld-gpt2", "AB", "ABB"),
        ("microworld-llama", "AB", "ABB"),
        ("microworld-bart", "<s>AB</s>", "<s>AB</s></s>B</s>"),
        ("microworld-deberta", "[CLS]AB[SEP]", "[CLS]AB[SEP]B[SEP]"),
    ],
)
def test_texts_and_pairs_are_wrapped_as_the_architecture_does(name, single, pair):
    tokenizer = TOKENIZERS[name]
    assert tokenizer.decode(tokenizer("AB")["input_ids"]) == single
    assert tokenizer.decode(tokenizer("AB", "B")["input_ids"]) == pair


def test_segments_of_a_pair():
    assert TOKENIZERS["microworld-deberta"]("A", "B")["token_type_ids"] == [0, 0, 0, 1, 1]
    assert "token_type_ids" not in TOKENIZERS["microworld-bart"]("A", "B")


def test_bart_wraps_pairs_as_the_stock_tokenizer_does():
    """Oracle: the template of Hugging Face's own BART (RoBERTa) post-processor."""
    from tokenizers import Tokenizer
    from tokenizers.processors import RobertaProcessing

    ours = TOKENIZERS["microworld-bart"]
    stock = Tokenizer.from_str(ours.backend_tokenizer.to_str())
    stock.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    first, second = TEXTS[0], "It is a pub."
    expected, found = stock.encode(first, second), ours(first, second, return_offsets_mapping=True)
    assert found["input_ids"] == expected.ids
    assert found["offset_mapping"] == expected.offsets


@pytest.mark.parametrize("name", ["microworld-bart", "microworld-deberta"])
def test_offsets_leave_out_the_space_before_a_word(name):
    """Answers to questions are cut out of the text by offsets."""
    text = "The Golden Pear is a pub"
    encoded = TOKENIZERS[name]("Which?", text, return_offsets_mapping=True)
    pieces = [text[start:stop] for start, stop in encoded["offset_mapping"] if stop]
    assert not any(piece.startswith(" ") for piece in pieces if piece.strip())


@pytest.mark.parametrize("name", SMALL)
def test_ids_of_special_tokens_agree_with_the_configuration(name):
    tokenizer, backbone = TOKENIZERS[name], get_backbone(name)
    ids = special_tokens(backbone.architecture, backbone.separator).config_ids(tokenizer)
    config = backbone_config(name, vocab_size=len(tokenizer), **ids)
    assert tokenizer.eos_token == backbone.separator
    assert ids.items() <= config.to_dict().items()
    if name != "microworld-gpt2":  # GPT-2's classes know no padding token
        assert config.pad_token_id == tokenizer.pad_token_id
        assert tokenizer.pad_token_id != tokenizer.eos_token_id
    for field, value in backbone_config(name).to_dict().items():
        if field.endswith("_token_id") and value is not None:
            assert value == ids[field], f"the configuration in the file differs in {field}"


@pytest.mark.parametrize("name", ["microworld-bart", "microworld-deberta"])
def test_the_mask_is_one_token_and_is_never_learned_from_text(name):
    tokenizer = TOKENIZERS[name]
    assert tokenizer.mask_token_id < len(special_tokens(get_backbone(name).architecture, "x").tokens)
    assert tokenizer.encode(f"a {tokenizer.mask_token} b", add_special_tokens=False).count(tokenizer.mask_token_id) == 1


def test_a_saved_tokenizer_reads_alike(tmp_path):
    from replication.backbones import load_tokenizer

    for name in ("microworld-deberta", "microworld-llama"):
        TOKENIZERS[name].save_pretrained(tmp_path / name)
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": get_backbone(name).architecture}))
        loaded = load_tokenizer(name, tmp_path / name)
        assert loaded(TEXTS[0], TEXTS[1]) == TOKENIZERS[name](TEXTS[0], TEXTS[1])
        assert loaded.pad_token_id == TOKENIZERS[name].pad_token_id


def test_an_architecture_without_a_small_backbone():
    with pytest.raises(ConfigError, match=r"'mpnet'; supported: gpt2, llama, bart, deberta-v2"):
        special_tokens("mpnet", SEPARATOR)
