"""WeightLoRA+, Veprikov et al. 2025 (arXiv 2506.02724): rounds in which K halves and the rank doubles.

Implementation details:
1. After phase 1 (selection_steps = T updates, as in weight_lora) come `expansions` rounds, at T + i
   expand_every. In round i the K >> i adapters with the largest weights stay, the others are removed, and the
   rank of those that stay becomes rank << i: the number of trained parameters stays about K r.
2. keep=None, the default, starts from all adapters found, as the code does (Vepricov/WLoRA, src/optimizers.py,
   num_adapters): then phase 1 only trains the weights, nothing is thresholded, and the first round selects.
3. The importance weights train until the last round and are fixed after it (max_fat_steps, there).
4. expansion="qr" (there "smart") keeps the product: with A^T = Q R, A'^T = [Q, new columns orthogonal to Q] and
   B' = [B R^T, 0]; "concatenate" ("dummy") appends random rows to A and zeros to B; "restart" draws a new pair.
5. The scale keeps alpha over the first rank; Adam's state of an expanded pair is reset.
6. Random numbers come from a generator seeded by init_seed and the round.

Not copied:
1. In Vepricov/WLoRA's GLUE script the expansion runs before the selection, so every adapter expands first.
2. A large negative weight that is among the K stays in the model there but is no longer trained; here whatever
   stays is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from replication.errors import AdapterError, ConfigError
from replication.methods.selection import present_updates
from replication.methods.shared.base import check_integer, fill
from replication.methods.shared.projections import OutputSlice, find_projections, linear_shape
from replication.methods.shared.registry import register_method
from replication.methods.weight_lora import Milestone, WeightLoraConfig

EXPANSIONS = ("qr", "concatenate", "restart")


@register_method
@dataclass(frozen=True)
class WeightLoraPlusConfig(WeightLoraConfig):
    """Settings of weight_lora, and the rounds. keep: K before the first round (None: all adapters found).
    selection_steps may be 0 if keep is None.
    """

    keep: int | None = None
    expand_every: int = 10
    expansions: int = 2
    expansion: str = "qr"

    method: ClassVar[str] = "weight_lora_plus"

    def _check_selection(self) -> None:
        for field in ("expand_every", "expansions"):
            check_integer(self, field, minimum=1)
        if self.expansion not in EXPANSIONS:
            raise ConfigError(f"{self.method}: expansion={self.expansion!r}: must be one of {', '.join(EXPANSIONS)}")
        if self.keep is not None:
            check_integer(self, "keep", minimum=1)
            self._check_halving(self.keep, f"keep={self.keep}", ConfigError)
        if self.selection_steps is None:
            raise ConfigError(f"{self.method}: selection_steps=None: must be a number, the rounds follow it")
        check_integer(self, "selection_steps", minimum=0 if self.keep is None else 1)

    def expanded_pair(
        self, lora_A: torch.Tensor, lora_B: torch.Tensor, rank: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The pair at `rank`, by `expand_pair`."""
        return expand_pair(lora_A, lora_B, rank, self, generator)

    def _check_halving(self, keep: int, name: str, error: type[Exception]) -> None:
        if not keep >> self.expansions:
            raise error(
                f"{self.method}: expansions={self.expansions} leaves no adapter of {name}; use up to "
                f"{keep.bit_length() - 1}"
            )

    def milestones(self, adapters: int) -> list[Milestone]:
        """The selection, if keep is given, and the rounds."""
        start, first = self.keep or adapters, self.selection_steps or 0
        rounds = [
            Milestone(first + i * self.expand_every, start >> i, self.rank << i) for i in range(1, self.expansions + 1)
        ]
        return [Milestone(first, start, self.rank), *rounds] if self.keep is not None else rounds

    def last_step(self) -> int:
        """The update after which the last round happens."""
        return (self.selection_steps or 0) + self.expansions * self.expand_every

    def unfinished(self, model: nn.Module) -> str | None:
        """As weight_lora, and rounds that have not taken place."""
        rank = max((len(update.lora_A) for update in present_updates(model).values()), default=0)
        done = (rank // self.rank).bit_length() - 1
        if (reason := super().unfinished(model)) is not None or not 0 <= done < self.expansions:
            return reason
        return f"{self.method}: {done} of expansions={self.expansions} rounds have taken place"

    def install(self, model: nn.Module) -> None:
        """As weight_lora; AdapterError also where the last rank exceeds a side, or the rounds leave nothing."""
        modules = dict(model.named_modules())
        found = find_projections(model, self.targets)
        if self.keep is None:
            number = sum(map(len, found.values()))
            self._check_halving(number, f"the {number} found", AdapterError)
        for name, slices in found.items():
            self._check_last_rank(name, modules[name], slices)
        super().install(model)

    def _check_last_rank(self, name: str, module: nn.Module, slices: Sequence[OutputSlice]) -> None:
        shape, last = linear_shape(module), self.rank << self.expansions
        assert shape is not None
        for piece in slices:
            limit = min(shape[0], piece.size)
            if last > limit:
                doublings = (limit // self.rank).bit_length() - 1
                fixes = [f"expansions up to {doublings}"] if doublings > 0 else []
                fixes += [f"a rank up to {limit >> self.expansions}"] if limit >> self.expansions else []
                raise AdapterError(
                    f"{self.method}: rank={self.rank} doubled {self.expansions} times is {last}, above {limit}, the "
                    f"smaller side of the {piece.label} update of {name}: {shape[0]} in, {piece.size} "
                    f"out; use {' or '.join(fixes or ['a smaller rank and fewer expansions'])}"
                )

    def _too_late(self, field: str, step: int, steps: int) -> str:
        if field != "selection_steps":
            return super()._too_late(field, step, steps)
        return (
            f"{self.method}: the last of expansions={self.expansions} comes after update {step} (selection_steps="
            f"{self.selection_steps}, expand_every={self.expand_every}), the training has steps={steps}: make it "
            "longer, or the rounds earlier"
        )


# --- raising the rank of a pair (Vepricov/WLoRA, src/optimizers.py: smart, dummy, restart) ----


@torch.no_grad()
def expand_pair(
    lora_A: torch.Tensor, lora_B: torch.Tensor, rank: int, config: WeightLoraPlusConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, in) and B (out, r) -> A (rank, in) and B (out, rank), drawn from `generator`.

    "qr" and "concatenate" keep B A, "restart" starts a new pair with B = 0.
    """
    old = lora_A.shape[0]
    if config.expansion == "restart":
        return _drawn(lora_A, rank, config, generator), lora_B.new_zeros(lora_B.shape[0], rank)
    if config.expansion == "concatenate":
        new = _drawn(lora_A, rank - old, config, generator)
        return torch.cat([lora_A, new]), _widened(lora_B, rank)
    new_A, new_B = expand_by_qr(lora_A, lora_B, rank, generator)
    return new_A.to(lora_A), new_B.to(lora_B)


def expand_by_qr(
    lora_A: torch.Tensor, lora_B: torch.Tensor, rank: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """With A^T = Q R: A'^T = [Q, N], N orthonormal and orthogonal to Q, and B' = [B R^T, 0]; in float64.

    The code leaves N as (I - Q Q^T) times uniform numbers from 0 to 1; here it is orthonormal too.
    """
    Q, R = torch.linalg.qr(lora_A.detach().double().T)
    inputs, old = Q.shape
    drawn = torch.randn(inputs, rank - old, generator=generator, dtype=torch.float64).to(Q.device)
    for _ in range(2):  # twice is enough: the first pass leaves what rounding puts back
        drawn = torch.linalg.qr(drawn - Q @ (Q.T @ drawn)).Q
    return torch.cat([Q, drawn], dim=1).T.contiguous(), _widened(lora_B.detach().double() @ R.T, rank)


def _widened(lora_B: torch.Tensor, rank: int) -> torch.Tensor:
    return torch.cat([lora_B, lora_B.new_zeros(lora_B.shape[0], rank - lora_B.shape[1])], dim=1)


def _drawn(like: torch.Tensor, rank: int, config: WeightLoraPlusConfig, generator: torch.Generator) -> torch.Tensor:
    return fill((rank, like.shape[1]), like, lambda value: config.draw_start(value, generator)).detach()
