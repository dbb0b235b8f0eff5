"""WeightLoRA, Veprikov et al. 2025 (arXiv 2506.02724): LoRA pairs with one learned importance weight each.

    h_i = W_i x + s w_i B_i A_i x,   s = alpha / r,   w_i a scalar started at 1

minimised over A, B and w such that at most K of the w_i are not zero. Phase 1, T updates: AdamW on the pairs
and the task head; plain SGD on w, at a rate of its own with the same schedule; hard thresholding to the K
largest. Then the adapters whose weight is zero are taken out of the model, and phase 2 trains the others with
w fixed.

Implementation details (selection_training.py is the part that acts during training):
1. Two thin products; w s scales the r numbers between them, so a weight costs nothing and no d x d matrix
   is built.
2. Thresholding is skipped while all gradients of w are numerically zero (1e-10, src/optimizers.py): at the
   first update, since B is zero, and at the second under a warm-up, whose first rate is zero.
3. Ties: the adapter that comes first in module order stays.
4. w is in a parameter group without decay; its rate is weight_learning_rate times the schedule's shape.
5. Removed means removed: the plain projection is back (or the slice of a fused one is plain again), the pair
   has left the optimizer with its state, and the backward pass ends at the first adapter that is left.
6. A survivor whose weight is exactly zero would never learn again; it is removed too.

Variants of the authors' code are settings, and presets by name (presets.py):
selection_steps (T; None: thresholding never ends), project_every, rank_by, remove_losers (False: losers stay
with w fixed at zero), freeze_losers (and their pairs no longer train), freeze_weights_after (None: with the
end of the selection; never if that never ends), reset_adapters_after (a step, or "selection": then A and B
start anew and Adam's state is fresh), apply_dropout (the code stores lora_dropout and ignores it),
initial_range ("inputs": LoRA's range of A, 1/sqrt(in); "rank": the code's, 1/sqrt(r)), adam_epsilon, targets.

Not copied:
1. The dense product w A B in every forward pass, and losers that are computed and kept for ever (dossier,
   fault 1); in a preset with remove_losers=False the losers are still computed, for comparison.
2. The skip test of the earliest code, which lets the first adapters of the list miss an update and shifts the
   positions of the others; here all weights step, or none moves.
3. Its Adam decays after the update and adds epsilon before the bias correction; here it is torch's AdamW.
4. The separate warm-up run of November 2025: here it is the first T updates of the same run and schedule.
5. The second repository trains no task head in its GLUE script; here every method trains it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from replication.adapters.base import check_boolean, check_integer, check_number, fill, register_method
from replication.adapters.lora import LoraConfig, LowRankUpdate
from replication.adapters.presets import HasPresets
from replication.adapters.projections import find_projections
from replication.adapters.selection import (
    RANKINGS,
    apply_structure,
    enumerate_adapters,
    forget_adapters,
    list_names,
    record_adapters,
    structure_of,
)
from replication.errors import AdapterError, ConfigError
from replication.training_config import TrainingConfig
from replication.training_hooks import Callback

AT_SELECTION = "selection"
RANGES = ("inputs", "rank")


@dataclass(frozen=True)
class Milestone:
    """After update `step` only `keep` adapters go on, with pairs of `rank`."""

    step: int
    keep: int
    rank: int


@register_method
@dataclass(frozen=True)
class WeightLoraConfig(HasPresets, LoraConfig):
    """Settings; the defaults are the paper's two phases with the common values of the authors' scripts."""

    rank: int = 8
    alpha: float = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ("query", "key", "value")
    init_seed: int = 0
    keep: int | None = 10
    selection_steps: int | None = 100
    weight_learning_rate: float = 5.0
    project_every: int = 1
    rank_by: str = "signed"
    remove_losers: bool = True
    freeze_losers: bool = False
    freeze_weights_after: int | None = None
    reset_adapters_after: int | str | None = None
    apply_dropout: bool = True
    initial_range: str = "inputs"
    adam_epsilon: float = 1e-8
    preset: str | None = None

    method: ClassVar[str] = "weight_lora"

    def __post_init__(self) -> None:
        """Fill in the preset, then check every field."""
        self.apply_preset(self.method, self.preset)
        super().__post_init__()
        self._check_selection()
        for field in ("remove_losers", "freeze_losers", "apply_dropout"):
            check_boolean(self, field)
        check_integer(self, "project_every", minimum=1)
        check_number(self, "weight_learning_rate", "a finite number above 0", low=math.ulp(0.0))
        check_number(self, "adam_epsilon", "a finite number above 0", low=math.ulp(0.0))
        for field, valid in (("rank_by", RANKINGS), ("initial_range", RANGES)):
            if getattr(self, field) not in valid:
                raise ConfigError(
                    f"{self.method}: {field}={getattr(self, field)!r}: must be {' or '.join(map(repr, valid))}"
                )
        if self.freeze_weights_after is not None:
            check_integer(self, "freeze_weights_after", minimum=1)
        if self.reset_adapters_after == AT_SELECTION:
            if self.selection_steps is None:
                raise ConfigError(
                    f"{self.method}: reset_adapters_after='selection': must be a step or null where "
                    "selection_steps is null, since the selection never ends"
                )
        elif self.reset_adapters_after is not None:
            check_integer(self, "reset_adapters_after", minimum=1)

    def _check_selection(self) -> None:
        check_integer(self, "keep", minimum=1)
        if self.selection_steps is not None:
            check_integer(self, "selection_steps", minimum=1)

    # --- the schedule ------------------------------------------------------------

    def milestones(self, adapters: int) -> list[Milestone]:
        """When adapters leave, of how many that were found; empty where the selection never ends."""
        if self.selection_steps is None:
            return []
        return [Milestone(self.selection_steps, self.keep or adapters, self.rank)]

    def last_step(self) -> int | None:
        """The update after which the last adapters leave; None: never."""
        return self.selection_steps

    def reset_step(self) -> int | None:
        """The update after which the pairs start anew; None: never."""
        return self.last_step() if self.reset_adapters_after == AT_SELECTION else self.reset_adapters_after  # type: ignore[return-value]

    def training_callback(self, training: TrainingConfig) -> Callback:
        """The selection; ConfigError where a step of it lies beyond the training length, or before any weight
        can have moved.
        """
        from replication.adapters.selection_training import SelectionCallback

        limits = {
            "selection_steps": self.last_step(),
            "freeze_weights_after": self.freeze_weights_after,
            "reset_adapters_after": self.reset_step(),
        }
        for field, step in limits.items():
            if step is not None and step > training.steps:
                raise ConfigError(self._too_late(field, step, training.steps))
        first = self.milestones(2**30)[0].step if self.milestones(2**30) else None
        earliest = 3 if training.warmup_steps else 2
        if first is not None and first < earliest:
            raise ConfigError(
                f"{self.method}: the first selection after update {first} comes before any importance weight "
                f"moves (B starts at zero, a warm-up starts at rate 0): it must be at least {earliest}"
            )
        return SelectionCallback(self, training)

    def _too_late(self, field: str, step: int, steps: int) -> str:
        return (
            f"{self.method}: {field}={getattr(self, field)!r} exceeds the training's steps={steps}: use up to {steps}"
        )

    def closed_form_parameters(self, width: int, blocks: int, moment: str = "start") -> int:
        """Trained numbers in the pairs at "start", once "selected", or at the end ("final"); importance weights
        not counted: one an adapter until they are fixed. Roles only, square projections, one attention a block.
        """
        ranks = [self.rank] * (blocks * len(set(self.targets)))
        stops = {"start": 0, "selected": 1, "final": None}
        if moment not in stops:
            raise ConfigError(f"{self.method}: moment={moment!r}: must be one of {', '.join(stops)}")
        losers: list[int] = []
        for milestone in self.milestones(len(ranks))[: stops[moment]]:
            losers += ranks[milestone.keep :]
            ranks = [milestone.rank] * min(milestone.keep, len(ranks))
        if self.remove_losers or self.freeze_losers:
            losers = []
        return 2 * width * sum(ranks + losers)

    # --- the modules ---------------------------------------------------------------

    def new_update(self, inputs: int, outputs: int, like: torch.Tensor, generator: torch.Generator) -> LowRankUpdate:
        """A pair with its importance weight."""
        return WeightedUpdate(inputs, outputs, self, like, generator)

    def input_dropout(self) -> float:
        """0 where the code's neglect of lora_dropout is wanted."""
        return self.dropout if self.apply_dropout else 0.0

    def draw_start(self, value: torch.Tensor, generator: torch.Generator) -> None:
        """Fill an A of (r, in) in place."""
        if self.initial_range == "inputs":
            super().draw_start(value, generator)
        else:
            bound = 1 / math.sqrt(value.shape[0])
            nn.init.uniform_(value, -bound, bound, generator=generator)

    def install(self, model: nn.Module) -> None:
        """Wrap every candidate; AdapterError, before any change, where keep exceeds their number or a rank the
        side of an update.
        """
        adapters = enumerate_adapters(find_projections(model, self.targets))
        if self.keep is not None and self.keep > len(adapters):
            raise AdapterError(
                f"{self.method}: keep={self.keep} exceeds the {len(adapters)} adapters found; use up to "
                f"{len(adapters)}. Found: {list_names(adapters)}"
            )
        super().install(model)
        record_adapters(model, adapters)

    def uninstall(self, model: nn.Module) -> None:
        """Put back the plain projections that are still wrapped."""
        super().uninstall(model)
        forget_adapters(model)

    def structure(self, model: nn.Module) -> dict[str, Any]:
        """Survivors, ranks, fixed weights, frozen pairs."""
        return structure_of(model)

    def restructure(self, model: nn.Module, structure: Mapping[str, Any]) -> None:
        """Remove, grow and fix as `structure` says."""
        apply_structure(model, structure)


class WeightedUpdate(LowRankUpdate):
    """lora_A (r, in), lora_B (out, r) and the scalar importance_weight; `scaling` keeps alpha over the first r."""

    def __init__(
        self, inputs: int, outputs: int, config: WeightLoraConfig, like: torch.Tensor, generator: torch.Generator
    ):
        super().__init__(inputs, outputs, config, like, generator)
        self.importance_weight = fill((), like, lambda value: value.fill_(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        inner = F.linear(x.to(self.lora_A.dtype), self.lora_A)
        return F.linear(inner * (self.importance_weight * self.scaling), self.lora_B)

    def delta(self) -> torch.Tensor:
        """The update as a matrix (out, in), in float32 or better."""
        return super().delta() * self.importance_weight.to(torch.promote_types(self.lora_A.dtype, torch.float32))
