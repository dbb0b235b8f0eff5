"""Byte-level BPE tokenizers for the small backbones, with the special tokens that each architecture expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replication.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class SpecialTokens:
    """Special tokens of one architecture.

    `tokens` in the order of their ids; `roles` is what Hugging Face calls them (`pad_token`, `mask_token` ...);
    `single` and `pair` are the templates around texts ("$A" and "$B", ":1" for token type 1; empty:
    nothing is added); `config` names the fields of the model's configuration and the token whose id they get.
    """

    tokens: tuple[str, ...]
    roles: dict[str, str]
    config: dict[str, str]
    single: str = ""
    pair: str = ""
    inputs: tuple[str, ...] = ()

    def config_ids(self, tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
        """Arguments of the model's configuration: the ids of the special tokens."""
        vocabulary = tokenizer.get_vocab()
        return {name: vocabulary[token] for name, token in self.config.items()}


def _gpt2(end: str) -> SpecialTokens:
    return SpecialTokens(
        tokens=(end,),
        roles={"bos_token": end, "eos_token": end, "pad_token": end},
        config={"bos_token_id": end, "eos_token_id": end},
    )


def _llama(end: str) -> SpecialTokens:
    # A separate padding token: stock Llama classification finds a text's last token by it.
    pad = "<|pad|>"
    return SpecialTokens(
        tokens=(end, pad),
        roles={"bos_token": end, "eos_token": end, "pad_token": pad},
        config={"bos_token_id": end, "eos_token_id": end, "pad_token_id": pad},
        inputs=("input_ids", "attention_mask"),
    )


def _bart(end: str) -> SpecialTokens:
    return SpecialTokens(
        tokens=("<s>", "<pad>", end, "<unk>", "<mask>"),
        roles={
            **{"bos_token": "<s>", "cls_token": "<s>", "eos_token": end, "sep_token": end},
            **{"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"},
        },
        config={
            **{"bos_token_id": "<s>", "pad_token_id": "<pad>", "eos_token_id": end},
            **{"decoder_start_token_id": end, "forced_eos_token_id": end},
        },
        single=f"<s> $A {end}",
        pair=f"<s> $A {end} {end} $B {end}",
        inputs=("input_ids", "attention_mask"),
    )


def _deberta(separator: str) -> SpecialTokens:
    return SpecialTokens(
        tokens=("[PAD]", "[CLS]", separator, "[UNK]", "[MASK]"),
        roles={
            **{"bos_token": "[CLS]", "cls_token": "[CLS]", "eos_token": separator, "sep_token": separator},
            **{"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"},
        },
        config={"pad_token_id": "[PAD]"},
        single=f"[CLS] $A {separator}",
        pair=f"[CLS] $A {separator} $B:1 {separator}:1",
        inputs=("input_ids", "token_type_ids", "attention_mask"),
    )


_ARCHITECTURES = {"gpt2": _gpt2, "llama": _llama, "bart": _bart, "deberta-v2": _deberta}


def special_tokens(architecture: str, separator: str) -> SpecialTokens:
    """Special tokens of a small backbone; `separator` is the one that ends a text.

    ConfigError for an architecture that no small backbone has.
    """
    if architecture not in _ARCHITECTURES:
        raise ConfigError(f"no vocabulary is made for {architecture!r}; supported: {', '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[architecture](separator)


def train_tokenizer(
    texts: Sequence[str], vocabulary_size: int, separator: str, *, architecture: str = "gpt2"
) -> PreTrainedTokenizerFast:
    """Byte-level BPE as in GPT-2; the same texts in the same order give the same merges.

    The special tokens come first in the vocabulary, and a text or a pair of texts is wrapped in them as the
    architecture's own tokenizer does it. Offsets never include the space before a word.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = special_tokens(architecture, separator)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(special.tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if special.single:
        tokenizer.post_processor = _wrapping(special, tokenizer)
    more: dict[str, Any] = {"model_input_names": list(special.inputs)} if special.inputs else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special.roles, **more)


def _wrapping(special: SpecialTokens, tokenizer: Any) -> Any:
    from tokenizers import processors

    wrap = processors.TemplateProcessing(
        single=special.single,
        pair=special.pair,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in special.tokens],
    )
    return processors.Sequence([processors.ByteLevel(trim_offsets=True), wrap])
