"""Small tokenizers of four kinds, trained on a few sentences, and tiny models of the stock classes to go with them."""

from __future__ import annotations

import pytest

TEXTS = [
    "The Mill is a cheap French pub near the river; it costs £20 — a café for naïve families.",
    "Anna ate pasta in the Golden Palace.  The Golden Palace serves expensive Japanese food.",
    "Which pub is cheap? Where does Anna eat? Is the food of the palace good or bad?",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9 . , ! ? é ü 東 京",
]


def _wrapped(tokenizer, **more):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **more)


def _template(tokenizer, single, pair, specials):
    from tokenizers.processors import TemplateProcessing

    pairs = [(token, tokenizer.token_to_id(token)) for token in specials]
    tokenizer.post_processor = TemplateProcessing(single=single, pair=pair, special_tokens=pairs)


def word_pieces():
    """As BERT's: lower-cased word pieces, segment ids, [CLS] a [SEP] b [SEP]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    _template(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ["[CLS]", "[SEP]"])
    names = ["input_ids", "token_type_ids", "attention_mask"]
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return _wrapped(tokenizer, model_input_names=names, **marks)


def sentence_pieces():
    """As DeBERTa-v3's: a unigram model over pieces that carry their leading space, segment ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=specials, unk_token="[UNK]", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    _template(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ["[CLS]", "[SEP]"])
    names = ["input_ids", "token_type_ids", "attention_mask"]
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return _wrapped(tokenizer, model_input_names=names, **marks)


def byte_pieces(*, template=True):
    """As RoBERTa's and BART's: byte-level BPE without segment ids, <s> a </s></s> b </s>; bare, as GPT-2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<s>", "<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    names = ["input_ids", "attention_mask"]
    if not template:
        return _wrapped(tokenizer, model_input_names=names, eos_token="</s>", pad_token="</s>")
    _template(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", ["<s>", "</s>"])
    marks = {"bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "sep_token": "</s>"}
    return _wrapped(tokenizer, model_input_names=names, **marks)


TOKENIZERS = {
    "word_pieces": word_pieces,
    "sentence_pieces": sentence_pieces,
    "byte_pieces": byte_pieces,
    "bare": lambda: byte_pieces(template=False),
}
_made: dict = {}


@pytest.fixture
def tokenizer_of():
    """Tokenizer by kind, made once."""

    def get(kind):
        if kind not in _made:
            _made[kind] = TOKENIZERS[kind]()
        return _made[kind]

    return get


KINDS = {"bert": "word_pieces", "deberta": "sentence_pieces", "mpnet": "byte_pieces", "llama": "bare"}
"""Architecture -> the kind of tokenizer its checkpoints have."""
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def _config(architecture, tokenizer):
    import transformers

    common = {"vocab_size": len(tokenizer), "max_position_embeddings": 66, **_SIZES}
    if architecture == "bert":
        return transformers.BertConfig(pad_token_id=tokenizer.pad_token_id, **common)
    if architecture == "deberta":
        return transformers.DebertaV2Config(
            **common, relative_attention=True, pos_att_type=["p2c", "c2p"], type_vocab_size=0, pooler_hidden_size=16
        )
    if architecture == "mpnet":
        return transformers.MPNetConfig(**common)
    return transformers.LlamaConfig(num_key_value_heads=1, **common)


@pytest.fixture
def encoder_of(tokenizer_of):
    """Architecture, Hugging Face's auto class by name, outputs -> (tiny model in evaluation mode, tokenizer)."""

    def get(architecture, auto="AutoModelForSequenceClassification", num_labels=2):
        import torch
        import transformers

        torch.manual_seed(0)
        tokenizer = tokenizer_of(KINDS[architecture])
        config = _config(architecture, tokenizer)
        config.num_labels = num_labels
        config.initializer_range = 0.2
        return getattr(transformers, auto).from_config(config).eval(), tokenizer

    return get


@pytest.fixture
def bart(tokenizer_of):
    """Tiny BART and its tokenizer."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(0)
    tokenizer = tokenizer_of("byte_pieces")
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        init_std=0.3,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
    )
    return BartForConditionalGeneration(config).eval(), tokenizer


@pytest.fixture
def model_of(encoder_of, bart):
    """Form -> (tiny model, tokenizer) of a kind that the form is made for."""

    def get(form):
        if form == "summarisation":
            return bart
        if form in ("multiple_choice", "generation"):
            return encoder_of("llama", "AutoModelForCausalLM")
        if form == "question_answering":
            return encoder_of("bert", "AutoModelForQuestionAnswering")
        return encoder_of("bert", num_labels=1 if form == "regression" else 2)

    return get
