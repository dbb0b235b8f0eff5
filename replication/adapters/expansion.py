"""Raising the rank of a pair, WeightLoRA+ (Vepricov/WLoRA, src/optimizers.py: smart, dummy, restart)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from replication.adapters.base import fill

if TYPE_CHECKING:
    from replication.adapters.weight_lora import WeightLoraConfig

EXPANSIONS = ("qr", "concatenate", "restart")


@torch.no_grad()
def expand_pair(
    lora_A: torch.Tensor, lora_B: torch.Tensor, rank: int, config: WeightLoraConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, in) and B (out, r) -> A (rank, in) and B (out, rank), drawn from `generator`.

    "qr" and "concatenate" keep B A, "restart" starts a new pair with B = 0.
    """
    kind: str = config.expansion  # type: ignore[attr-defined]
    old = lora_A.shape[0]
    if kind == "restart":
        return _drawn(lora_A, rank, config, generator), lora_B.new_zeros(lora_B.shape[0], rank)
    if kind == "concatenate":
        new = _drawn(lora_A, rank - old, config, generator)
        return torch.cat([lora_A, new]), _widened(lora_B, rank)
    new_A, new_B = expand_by_qr(lora_A, lora_B, rank, generator)
    return new_A.to(lora_A), new_B.to(lora_B)


def expand_by_qr(
    lora_A: torch.Tensor, lora_B: torch.Tensor, rank: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """With A^T = Q R: A'^T = [Q, N], N orthonormal and orthogonal to Q, and B' = [B R^T, 0]; in float64.

    The code leaves N as it falls out of (I - Q Q^T) times uniform numbers from 0 to 1; here it is orthonormal too.
    """
    Q, R = torch.linalg.qr(lora_A.detach().double().T)
    inputs, old = Q.shape
    drawn = torch.randn(inputs, rank - old, generator=generator, dtype=torch.float64).to(Q.device)
    for _ in range(2):  # twice is enough: the first pass leaves what rounding puts back
        drawn = torch.linalg.qr(drawn - Q @ (Q.T @ drawn)).Q
    return torch.cat([Q, drawn], dim=1).T.contiguous(), _widened(lora_B.detach().double() @ R.T, rank)


def _widened(lora_B: torch.Tensor, rank: int) -> torch.Tensor:
    return torch.cat([lora_B, lora_B.new_zeros(lora_B.shape[0], rank - lora_B.shape[1])], dim=1)


def _drawn(like: torch.Tensor, rank: int, config: WeightLoraConfig, generator: torch.Generator) -> torch.Tensor:
    return fill((rank, like.shape[1]), like, lambda value: config.draw_start(value, generator)).detach()
