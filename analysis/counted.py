"""Closed forms of adapter parameter counts: a claim about counts can be checked without building a model.

Sources: Hu et al. 2021 for LoRA, the first author's development code (harsh306/CLoRA, dev-clora) for Solo.
"""

from __future__ import annotations

from decimal import Decimal


def lora_parameters(width: int, blocks: int, rank: int) -> int:
    """LoRA on query and value of every block: two pairs of matrices, rank x width and width x rank."""
    return blocks * 2 * 2 * width * rank


def connections(blocks: int, skip_length: int) -> int:
    """Number of connections: one ends at every block that is a multiple of the skip length and above it."""
    return max(0, blocks // skip_length - 1)


def solo_parameters(width: int, blocks: int, rank: int, skip_length: int) -> int:
    """Dense, shared encoder and decoder with biases; v (width), a (1) and e (rank) per connection."""
    return solo_parameters_of(width, rank, connections(blocks, skip_length))


def solo_parameters_of(width: int, rank: int, count: int, sparsity: Decimal = Decimal(0)) -> int:
    """The same for `count` connections, with a share `sparsity` of the encoder's and decoder's entries masked away."""
    return round(2 * width * rank * (1 - sparsity)) + rank + width + count * (width + 1 + rank)


def reduction(fewer: float, than: float) -> float:
    """By how much `fewer` lies below `than`, as a share: 0.59 for 59 % fewer."""
    return 1 - fewer / than
