"""Extension point for methods whose trained parameters change during training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from replication.training.config import TrainingConfig

Row = dict[str, Any]


@dataclass
class Run:
    """The state of a run: what `Callback` hooks may read and change, and what a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    tokens_seen: int = 0
    loss_sum: float = 0.0  # over the target tokens since the last row of the curves
    loss_weight: float = 0.0
    update_seconds: float = 0.0
    curves: list[Row] = field(default_factory=list)
    frozen_blocks: int | None = None  # that the prefix cache leaves out

    def counters(self) -> dict[str, Any]:
        """Everything but model, optimizer and step, as JSON values."""
        names = ("tokens_seen", "loss_sum", "loss_weight", "update_seconds", "curves", "frozen_blocks")
        return {name: getattr(self, name) for name in names}


class Callback:
    """Hooks for methods whose trained parameters change during training; the base class does nothing.

    A resumed run calls `load_state`, then `on_start`, before any tensor is read: rebuild the model there,
    and the tensors are put back by name. What `state` returns (JSON values) comes back in `load_state`. `grows`, once
    started: `on_step_end` will put new parameters into the model.
    """

    grows: bool = False

    def on_start(self, model: nn.Module) -> None:
        """Before the optimizer is built over the parameters that require gradients."""

    def build_optimizer(self, trained: Mapping[str, nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
        """The optimizer of what is trained, by name. Before each update the loop sets every group's `lr` to the
        scheduled rate times the group's `rate_factor` (1 where it has none).
        """
        return torch.optim.AdamW(
            trained.values(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=config.fused_adamw or None,
        )

    def penalty(self, model: nn.Module) -> torch.Tensor | None:
        """A scalar added to the mean training loss of every micro-batch; None adds nothing."""
        return None

    def on_update(self, run: Run) -> None:
        """Called after optimizer step `run.step`, with the averaged gradients still set."""

    def on_step_end(self, run: Run) -> None:
        """After each update, before its row of the curves and its checkpoint are written."""

    def state(self) -> dict[str, Any]:
        """State needed to resume a run."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""

    def summary(self) -> dict[str, Any] | None:
        """A finished run's choices (JSON values), saved next to its record; None: nothing."""
        return None
