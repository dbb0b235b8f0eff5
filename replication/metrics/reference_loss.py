"""Loss on the references of generated texts: nats a token, teacher-forced; lower is better.

Each row holds the sum over its scored references' tokens and their number (replication/tasks/reference_losses.py); the
score is the ratio of the two sums over rows, so that every token counts alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

REFERENCE_LOSS = "reference_loss"
Pair = tuple[float, int]


def item_losses(rows: Sequence[Mapping[str, Any]]) -> list[Pair] | None:
    """Summed negative log-likelihood and number of tokens of each row; None unless every row has them."""
    if not rows or not all("reference_nll" in row and "reference_tokens" in row for row in rows):
        return None
    return [(float(row["reference_nll"]), int(row["reference_tokens"])) for row in rows]


def reference_loss(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Nats a token over all rows; None unless every row has its sum."""
    losses = item_losses(rows)
    if losses is None:
        return None
    return math.fsum(nll for nll, _ in losses) / sum(tokens for _, tokens in losses)
