"""The control of WeightLoRA ("RLoRA"): K adapters drawn at random, each with the fixed weight 1.

The others are never wrapped, so this is LoRA on K slots: K pairs train, from the first update to the last.
The pairs of the slots drawn start where LoRA's start under the same init_seed (Vepricov/Weight_Lora draws the
slots in apply_rand_weight_lora, src/utils.py, and keeps the others in the model with weight 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from replication.errors import AdapterError
from replication.methods.lora import LoraConfig
from replication.methods.selection import (
    ReportCallback,
    enumerate_adapters,
    forget_adapters,
    list_names,
    present_updates,
    record_adapters,
    recorded_adapters,
    remove_adapters,
    seeded_generator,
)
from replication.methods.shared.base import check_integer, check_seed
from replication.methods.shared.projections import find_projections
from replication.methods.shared.registry import register_method
from replication.training.callbacks import Callback
from replication.training.config import TrainingConfig


@register_method
@dataclass(frozen=True)
class RandomLoraConfig(LoraConfig):
    """Settings of LoRA, and K. selection_seed draws the slots (None: init_seed does)."""

    rank: int = 8
    alpha: float = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ("query", "key", "value")
    init_seed: int = 0
    keep: int = 10
    selection_seed: int | None = None

    method: ClassVar[str] = "random_lora"

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        check_integer(self, "keep", minimum=1)
        if self.selection_seed is not None:
            check_seed(self, "selection_seed")

    def closed_form_parameters(self, width: int, blocks: int) -> int:
        """2 r d an adapter: roles only, square projections, one attention per block."""
        return 2 * self.rank * width * min(self.keep, blocks * len(set(self.targets)))

    def drawn(self, adapters: int) -> list[int]:
        """The indices of the slots drawn, of how many there are, ascending."""
        seed = self.init_seed if self.selection_seed is None else self.selection_seed
        order = torch.randperm(adapters, generator=seeded_generator(seed, "random_lora"))
        return sorted(order[: self.keep].tolist())

    def install(self, model: nn.Module) -> None:
        """Wrap the slots drawn; AdapterError, before any change, where keep exceeds the slots found."""
        adapters = enumerate_adapters(find_projections(model, self.targets))
        if self.keep > len(adapters):
            raise AdapterError(
                f"{self.method}: keep={self.keep} exceeds the {len(adapters)} adapters found; use up to "
                f"{len(adapters)}. Found: {list_names(adapters)}"
            )
        self._wrap(model, self.drawn(len(adapters)))

    def _wrap(self, model: nn.Module, chosen: Sequence[int]) -> None:
        adapters = enumerate_adapters(find_projections(model, self.targets))
        super().install(model)
        record_adapters(model, adapters)
        remove_adapters(model, {adapter.index for adapter in adapters} - set(chosen))

    def uninstall(self, model: nn.Module) -> None:
        """Put the plain projections back."""
        super().uninstall(model)
        forget_adapters(model)

    def structure(self, model: nn.Module) -> dict[str, Any]:
        """The slots: a saved adapter does not depend on torch drawing the same ones again."""
        return {"survivors": list(present_updates(model))}

    def restructure(self, model: nn.Module, structure: Mapping[str, Any]) -> None:
        """Wrap the slots named instead of those drawn."""
        chosen, found = [int(index) for index in structure["survivors"]], len(recorded_adapters(model))
        if not set(chosen) <= set(range(found)):
            raise AdapterError(f"survivors {sorted(set(chosen) - set(range(found)))} are none of the {found} found")
        if chosen != list(present_updates(model)):
            self.uninstall(model)
            self._wrap(model, chosen)

    def training_callback(self, training: TrainingConfig) -> Callback:
        """Changes nothing; reports the slots."""
        return ReportCallback(self)
