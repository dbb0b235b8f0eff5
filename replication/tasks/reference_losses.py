"""Loss of a causal language model on the references of data-to-text items, by teacher forcing.

A reference is encoded as a training example (context, separator, completion, separator) and scored on the completion
and the separator that ends it, in float32 and without label smoothing: as `losses.token_loss` does in evaluation.
Unlike a score of decoded text it moves with every change of the model and does not depend on beam search.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replication.errors import DataError
from replication.examples import Encoded, TextPair, encode_pair, separator_id
from replication.tasks.base import RowsDone, log_probabilities, rounded


@dataclass(frozen=True)
class ScoredReferences:
    """Encoded references of several items; `owners` has the item's index of each."""

    items: int
    examples: Sequence[Encoded]
    owners: Sequence[int]
    separator_id: int


def encode_references(
    model: Any, tokenizer: Any, rows: Sequence[Mapping[str, Any]], count: int, *, separator: str
) -> ScoredReferences:
    """The first `count` references of each row {"context", "references"}, or all if there are fewer.

    DataError for a row without references, and for a reference that exceeds the model's positions.
    """
    positions = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    identifier, examples, owners = separator_id(tokenizer, separator), [], []
    for index, row in enumerate(rows):
        if not row["references"]:
            raise DataError(f"{row['context']!r} has no reference to score; set references_scored to 0")
        for reference in row["references"][:count]:
            examples.append(encode_pair(tokenizer, TextPair(row["context"], reference), identifier, positions))
            owners.append(index)
    return ScoredReferences(len(rows), examples, owners, identifier)


def reference_losses(
    model: Any,
    references: ScoredReferences,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """{"reference_nll": nats summed over the item's references, "reference_tokens"} for each item, in order.

    The model's mode is restored afterwards; `progress` is called with the number of items just finished.
    """
    finished = RowsDone(references.owners, progress).done
    scores = log_probabilities(model, references.examples, references.separator_id, batch_size, finished)
    nll, tokens = [0.0] * references.items, [0] * references.items
    for owner, example, score in zip(references.owners, references.examples, scores, strict=True):
        nll[owner] -= score
        tokens[owner] += sum(example.loss_mask)
    return [
        {"reference_nll": rounded(total, f"item {index}"), "reference_tokens": count}
        for index, (total, count) in enumerate(zip(nll, tokens, strict=True), start=1)
    ]
