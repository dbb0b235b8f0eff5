"""Summarisation by a sequence-to-sequence model (BART): a document in, its summary out.

Implementation details:

1. The document keeps its first `max_source_length` tokens, the summary its first `max_target_length`, the closing eos
   always among them. Special tokens are the tokenizer's own; a template that closes nothing gets an eos.
2. The decoder reads `model.config.decoder_start_token_id`, then the summary up to its last token.
3. Beam search uses only these settings and nothing from the model's generation settings (BART's ban trigrams
   and force an eos at the length limit). A hypothesis scores its log-probability over generated tokens to the power of
   `length_penalty`. `early_stopping` "never" stops when no open hypothesis can overtake, as in decoding.py. True, in
   BART's own settings, ends once there are as many finished hypotheses as beams: a test shows it return a summary of
   probability 0.04 from a model that gives another 0.81. False decides by a heuristic of transformers.
4. Unlike data-to-text (decoding.py) a repeated n-gram is banned after the softmax, as transformers does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replication.errors import ConfigError
from replication.tasks.base import (
    Batch,
    Fit,
    Options,
    Progress,
    Row,
    TaskForm,
    batches_by_length,
    check_positions,
    check_rows,
    config_of,
    evaluating,
    hint,
    ids_of,
    pad_right,
)

if TYPE_CHECKING:
    import torch

UNLEARNED = -100
"""Label of padding, which no loss counts (torch's default)."""


@dataclass(frozen=True)
class SummarisationOptions(Options):
    """`max_source_length` and `max_target_length`: tokens of a document and of a summary, special ones included.

    `max_target_length` limits what is generated as well. `no_repeat_ngram` 0 bans nothing; `length_penalty` and
    `early_stopping` apply only to beam search.
    """

    batch_size: int = 8
    max_source_length: int = 256
    max_target_length: int = 64
    beams: int = 4
    length_penalty: float = 1.0
    no_repeat_ngram: int = 3
    early_stopping: bool | str = "never"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.whole("max_source_length", 4)
        self.whole("max_target_length", 4)
        self.whole("beams", 1)
        self.whole("no_repeat_ngram", 0)
        self.number("length_penalty")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            self.refuse("early_stopping", 'true, false or "never"')


@dataclass(frozen=True)
class SummarisationExample:
    """A document's tokens and its summary's; as long as the longer of the two."""

    input_ids: list[int]
    labels: list[int]
    text: str = ""

    def __len__(self) -> int:
        return max(len(self.input_ids), len(self.labels))


class Summarisation(TaskForm):
    """Rows {"id", "document", "summary"}."""

    name = "summarisation"
    model_task = "seq2seq_lm"
    options_class = SummarisationOptions
    generates = True

    def prepare_model(self, model: Any, tokenizer: Any) -> None:
        """Check that the model knows how its decoder starts; ConfigError otherwise."""
        if not model.config.is_encoder_decoder or model.config.decoder_start_token_id is None:
            raise ConfigError(
                f"{type(model).__name__}: summarisation needs an encoder-decoder whose configuration has a "
                "decoder_start_token_id"
            )
        if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
            raise ConfigError(f"{type(tokenizer).__name__}: summarisation needs an eos and a padding token")

    def encode(self, tokenizer: Any, rows: Sequence[Row], options: SummarisationOptions) -> list[SummarisationExample]:
        """One example per row; DataError names row and field of what cannot be used."""
        check_rows(self.name, rows)
        documents, summaries = ([row[field] for row in rows] for field in ("document", "summary"))
        sources = _token_ids(tokenizer, documents, options.max_source_length)
        targets = _token_ids(tokenizer, summaries, options.max_target_length)
        return [
            SummarisationExample(source, target, hint(document, summary))
            for source, target, document, summary in zip(sources, targets, documents, summaries, strict=True)
        ]

    def fit(self, tokenizer: Any, rows: Sequence[Row], options: SummarisationOptions) -> Fit:
        """One example a row; `truncated`: those whose document or summary is cut."""
        examples = self.encode(tokenizer, rows, options)
        cut: set[int] = set()
        for field, limit in (("document", options.max_source_length), ("summary", options.max_target_length)):
            whole = _token_ids(tokenizer, [row[field] for row in rows], None)
            cut |= {index for index, ids in enumerate(whole) if len(ids) > limit}
        return Fit(len(rows), tuple(map(len, examples)), len(cut))

    def collate(self, batch: Sequence[SummarisationExample], pad_id: int) -> Batch:
        """`input_ids`, `attention_mask`: (examples, longest document); `labels`: (examples, longest summary).

        The labels are UNLEARNED on padding.
        """
        return {
            "input_ids": pad_right((example.input_ids for example in batch), pad_id),
            "attention_mask": pad_right(([1] * len(example.input_ids) for example in batch), 0),
            "labels": pad_right((example.labels for example in batch), UNLEARNED),
        }

    def loss(self, model: Any, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross entropy summed over the summaries' tokens, and their number."""
        from torch.nn import functional as F

        config, labels = config_of(model), batch["labels"]
        shifted = labels.new_full(labels.shape, config.decoder_start_token_id)
        shifted[:, 1:] = labels[:, :-1]
        learned = labels != UNLEARNED
        output = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            # after a summary's last token the decoder input does not matter: it has no loss and is not attended to
            decoder_input_ids=shifted.masked_fill(shifted == UNLEARNED, config.decoder_start_token_id),
            use_cache=False,
        )
        logits = output.logits[learned].float()
        loss = F.cross_entropy(logits, labels[learned], label_smoothing=label_smoothing, reduction="sum")
        return loss, learned.sum()

    def gold(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """{"id", "references": [str]}."""
        check_rows(self.name, rows)
        return [{"id": name, "references": [row["summary"]]} for name, row in zip(ids_of(rows), rows, strict=True)]

    def predict(
        self,
        model: Any,
        tokenizer: Any,
        rows: Sequence[Row],
        options: SummarisationOptions,
        progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """{"id", "prediction": str, "references": [str]}; surrounding white space is stripped."""
        golden = self.gold(rows)
        sources = _token_ids(tokenizer, [row["document"] for row in rows], options.max_source_length)
        check_positions(model, map(len, sources), "max_source_length")
        check_positions(model, [options.max_target_length], "max_target_length")
        texts = [""] * len(rows)
        with evaluating(model) as device, _own_settings_alone(model):
            for indices in batches_by_length([len(source) for source in sources], options.batch_size):
                generated = model.generate(
                    input_ids=pad_right((sources[index] for index in indices), tokenizer.pad_token_id).to(device),
                    attention_mask=pad_right(([1] * len(sources[index]) for index in indices), 0).to(device),
                    past_key_values=_beam_cache() if options.beams > 1 else None,
                    generation_config=_generation_config(model, tokenizer, options),
                )
                for index, ids in zip(indices, generated.tolist(), strict=True):
                    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                    texts[index] = text.strip()
                if progress is not None:
                    progress(len(indices))
        return [{**truth, "prediction": text} for truth, text in zip(golden, texts, strict=True)]


def _token_ids(tokenizer: Any, texts: Sequence[str], limit: int | None) -> list[list[int]]:
    """At most `limit` tokens of each text (None: all), the last one eos."""
    if not texts:
        return []  # a tokenizer takes no empty list
    end = tokenizer.eos_token_id
    encoded = tokenizer(list(texts), truncation=limit is not None, max_length=limit, padding=False)["input_ids"]
    return [ids if ids[-1:] == [end] else [*ids[: limit and limit - 1], end] for ids in encoded]


def _generation_config(model: Any, tokenizer: Any, options: SummarisationOptions) -> Any:
    from transformers import GenerationConfig

    beam_rules: dict[str, Any] = {}
    if options.beams > 1:
        beam_rules = {"length_penalty": float(options.length_penalty), "early_stopping": options.early_stopping}
    return GenerationConfig(
        do_sample=False,
        num_beams=options.beams,
        max_new_tokens=options.max_target_length,
        no_repeat_ngram_size=options.no_repeat_ngram,
        decoder_start_token_id=model.config.decoder_start_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **beam_rules,
    )


def _beam_cache() -> Any:
    """A cache of which a step moves the generated part: that of the document is the same in all of its beams."""
    from transformers import DynamicCache, EncoderDecoderCache

    class OfDocuments(DynamicCache):
        def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
            pass

    return EncoderDecoderCache(DynamicCache(), OfDocuments())


@contextmanager
def _own_settings_alone(model: Any) -> Iterator[None]:
    """Blank generation settings for the block: transformers fills unset values from the model's."""
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own
