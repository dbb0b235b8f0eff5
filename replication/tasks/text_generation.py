"""Data to text by a causal language model: a context in, a text about it out (E2E NLG and its like).

Implementation details:

1. A training row is encoded as in the LoRA paper's recipe (examples.py): context, separator, completion, separator.
2. Test examples have several references each; decoding is that of the recipe (decoding.py).
3. With `references_scored` the model is also scored on references, by teacher forcing (reference_losses.py); the
   generated text does not depend on it.
4. The separator is the backbone's, and fills batches too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from replication.errors import ConfigError
from replication.examples import Encoded, TextPair, collate, encode_pair, encode_pairs
from replication.predictions import gold
from replication.tasks.base import OF_THE_RUN, Batch, Fit, Options, Progress, Row, TaskForm, check_rows
from replication.training.decoding_config import DecodingConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class GenerationOptions(DecodingConfig, Options):
    """Decoding settings and further measurements.

    `references_scored`: how many of each item's references, the first ones in corpus order, the model is scored on;
    0: none. `max_length` limits only training examples.
    """

    references_scored: int = 0
    max_length: int = field(default=512, metadata=OF_THE_RUN)
    separator: str = field(default="<|endoftext|>", metadata=OF_THE_RUN)

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.references_scored
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigError(f"decoding: references_scored={value!r}; valid is a whole number of at least 0")

    def recorded(self) -> dict[str, Any]:
        """Settings that affect the predictions: the decoding, then further measurements."""
        decoding = {field.name: getattr(self, field.name) for field in fields(DecodingConfig)}
        return {**decoding, **super().recorded()}


class TextGeneration(TaskForm):
    """Training rows {"context", "completion"}, test examples {"mr", "context", "references": [str]}."""

    name = "generation"
    model_task = "causal_lm"
    options_class = GenerationOptions
    shared_options = "decoding"
    generates = True

    def pad_id(self, tokenizer: Any, options: GenerationOptions) -> int:
        """The separator's id."""
        from replication.examples import separator_id

        return separator_id(tokenizer, options.separator)

    def passes(self, options: GenerationOptions) -> int:
        """One for the texts, one more where references are scored."""
        return 2 if options.references_scored else 1

    def encode(self, tokenizer: Any, rows: Sequence[Row], options: GenerationOptions) -> list[Encoded]:
        """One example per row; DataError names row and field of what cannot be used."""
        check_rows(self.name, rows)
        pairs = [TextPair(row["context"], row["completion"]) for row in rows]
        return encode_pairs(tokenizer, pairs, self.pad_id(tokenizer, options), options.max_length)

    def fit(self, tokenizer: Any, rows: Sequence[Row], options: GenerationOptions) -> Fit:
        """Pairs to learn from, or contexts and the references that are scored; `truncated`: pairs whose context is cut.

        A reported row has its context, the separator and room for one token.
        """
        if not rows or "references" not in rows[0]:
            examples = self.encode(tokenizer, rows, options)
            cut = sum(bool(example.dropped_tokens) for example in examples)
            return Fit(len(rows), tuple(map(len, examples)), cut)
        check_rows(self.name, rows)
        separator = self.pad_id(tokenizer, options)
        lengths = []
        for row in rows:
            context = tokenizer.encode(row["context"], add_special_tokens=False)
            lengths.append(len(context) + 2)
            for reference in row["references"][: options.references_scored]:
                pair = TextPair(row["context"], reference)
                lengths.append(len(encode_pair(tokenizer, pair, separator, sys.maxsize)))
        return Fit(len(rows), tuple(lengths), 0)

    def collate(self, batch: Sequence[Encoded], pad_id: int) -> Batch:
        """`input_ids`, `attention_mask`, `loss_mask` (1 on the completion and its end): (examples, longest)."""
        return collate(batch, pad_id)

    def loss(self, model: Any, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """The token loss summed over the completions' tokens, and their number."""
        from replication.training.losses import token_loss

        return token_loss(model, batch, label_smoothing=label_smoothing)

    def gold(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """{"id": the meaning representation, "context", "references"}."""
        check_rows(self.name, rows)
        return gold(rows)

    def predict(
        self,
        model: Any,
        tokenizer: Any,
        rows: Sequence[Row],
        options: GenerationOptions,
        progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """{"mr", "context", "prediction", "references"}; "reference_nll" and "reference_tokens" where scored."""
        from replication.training.decoding import generate

        check_rows(self.name, rows)
        losses = self._losses(model, tokenizer, rows, options, progress)
        contexts = [row["context"] for row in rows]
        texts = generate(model, tokenizer, contexts, options, separator=options.separator, progress=progress)
        return [
            {"mr": row["mr"], "context": row["context"], "prediction": text, "references": row["references"], **loss}
            for row, text, loss in zip(rows, texts, losses, strict=True)
        ]

    def _losses(
        self, model: Any, tokenizer: Any, rows: Sequence[Row], options: GenerationOptions, progress: Progress | None
    ) -> list[dict[str, Any]]:
        """Loss of each row's scored references; empty if none is scored."""
        from replication.tasks.reference_losses import encode_references, reference_losses

        count = options.references_scored
        if not count:
            return [{} for _ in rows]
        references = encode_references(model, tokenizer, rows, count, separator=options.separator)
        return reference_losses(model, references, options.batch_size, progress)
