"""The optimizer of a selection: AdamW and plain SGD in one, and parameters that leave it on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from replication.training_config import TrainingConfig

IMPORTANCE_NAME = "importance_weight"


class SelectionAdamW(torch.optim.AdamW):
    """AdamW, except for groups with `plain_sgd`: these take p <- p - lr * gradient and hold no state."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every group."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group.get("plain_sgd"):
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.add_(parameter.grad, alpha=-group["lr"])
        self.param_groups = [group for group in groups if not group.get("plain_sgd")]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss


def build_selection_optimizer(
    trained: Mapping[str, nn.Parameter], training: TrainingConfig, weight_learning_rate: float, epsilon: float
) -> SelectionAdamW:
    """AdamW over pairs and head; importance weights in a group of their own, without decay, whose `rate_factor`
    gives them `weight_learning_rate` in the shape of the same schedule.
    """
    weights = [parameter for name, parameter in trained.items() if name.endswith(IMPORTANCE_NAME)]
    others = [parameter for name, parameter in trained.items() if not name.endswith(IMPORTANCE_NAME)]
    groups: list[dict[str, Any]] = [{"params": others}]
    if weights:
        factor = weight_learning_rate / training.learning_rate
        groups.append({"params": weights, "weight_decay": 0.0, "plain_sgd": True, "rate_factor": factor})
    return SelectionAdamW(groups, lr=training.learning_rate, eps=epsilon, weight_decay=training.weight_decay)


def forget(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Take parameters out of the optimizer, their state with them, and groups that hold nothing any more."""
    gone = {id(parameter) for parameter in parameters}
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in gone]
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
    for parameter in parameters:
        optimizer.state.pop(parameter, None)
        parameter.grad = None


def exchange(optimizer: torch.optim.Optimizer, replaced: dict[nn.Parameter, nn.Parameter]) -> None:
    """Put new parameters in the places of old ones, without state."""
    for group in optimizer.param_groups:
        group["params"] = [replaced.get(parameter, parameter) for parameter in group["params"]]
    for parameter in replaced:
        optimizer.state.pop(parameter, None)
