"""What WeightLoRA does during training: its optimizer, thresholding, removal, and the record of it all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from replication.adapters.base import fill
from replication.adapters.expansion import expand_pair
from replication.adapters.selection import (
    apply_structure,
    describe_adapters,
    largest,
    pair_parameters,
    present_updates,
    recorded_adapters,
    remove_adapters,
    seeded_generator,
    set_pair,
    structure_of,
)
from replication.adapters.selection_optimizer import (
    IMPORTANCE_NAME,
    build_selection_optimizer,
    exchange,
    forget,
)
from replication.errors import ConfigError, TrainingError
from replication.training_config import TrainingConfig
from replication.training_hooks import Callback, Run

if TYPE_CHECKING:
    from replication.adapters.weight_lora import Milestone, WeightLoraConfig

NUMERICALLY_ZERO = 1e-10  # Vepricov/Weight_Lora, src/optimizers.py


class SelectionCallback(Callback):
    """Phase 1 and the milestones of `config`; a resumed run rebuilds the model that its checkpoint saw.

    On a model that was already selected (loaded from a saved adapter) it selects nothing more.
    """

    def __init__(self, config: WeightLoraConfig, training: TrainingConfig):
        self.config, self.training = config, training
        self.milestones: dict[int, Milestone] = {}
        self.active: list[int] = []  # the adapters that have not lost, in index order
        self.selects = True  # False on a model whose selection was made before this run
        self.moved = False  # whether any importance weight has had a gradient
        self.trace: dict[str, list[Any]] = {"steps": [], "weights": []}
        self.projections: list[int] = []
        self.removed_at: int | None = None
        self.expansions: list[dict[str, Any]] = []
        self._saved: dict[str, Any] | None = None

    # --- before training ----------------------------------------------------------

    def on_start(self, model: nn.Module) -> None:
        """Number the adapters, or rebuild what a checkpoint describes; ConfigError where several processes train
        and pairs would grow.
        """
        self.model = model
        adapters = recorded_adapters(model)
        milestones = self.config.milestones(len(adapters))
        if _processes() > 1 and any(milestone.rank != self.config.rank for milestone in milestones):
            raise ConfigError(
                f"{self.config.method} cannot be trained by several processes: data parallelism does not average "
                "the gradients of pairs that grow on the way; start one process"
            )
        if self._saved is not None:
            apply_structure(model, self._saved["structure"])
        else:
            self.active = list(present_updates(model))
            trained = all(weight.requires_grad for weight in self._weights(self.active).values())
            self.selects = trained and len(self.active) == len(adapters)
        self.milestones = {milestone.step: milestone for milestone in milestones if self.selects}

    def build_optimizer(self, trained: Mapping[str, nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
        """AdamW over pairs and head, and the importance weights in a group of their own."""
        return build_selection_optimizer(trained, config, self.config.weight_learning_rate, self.config.adam_epsilon)

    # --- during training ------------------------------------------------------------

    def on_update(self, run: Run) -> None:
        """The weights have taken their step: note where they are, after thresholding where it is due."""
        weights, milestone = self._weights(self.active), self.milestones.get(run.step)
        gradients = [weight.grad for weight in weights.values() if weight.requires_grad and weight.grad is not None]
        silent = not gradients or torch.stack(gradients).abs().max().item() <= NUMERICALLY_ZERO
        self.moved = self.moved or not silent
        if milestone is not None:
            self._check_moved(run.step)
            self._project(weights, milestone.keep, run.step)
        elif not silent and self._due(run.step):
            self._project(weights, self.config.keep or len(weights), run.step)
        if milestone is not None or any(weight.requires_grad for weight in weights.values()):
            self._record(weights, run.step)

    def _weights(self, indices: list[int]) -> dict[int, nn.Parameter]:
        updates = present_updates(self.model)
        return {index: updates[index].get_parameter(IMPORTANCE_NAME) for index in indices}

    def _check_moved(self, step: int) -> None:
        if not self.moved:
            raise TrainingError(
                f"step {step}: no importance weight has had a gradient, so a selection would go by module order: "
                "check that the adapted modules take part in the loss"
            )

    def _due(self, step: int) -> bool:
        end = self.config.selection_steps
        wanted = self.selects and self.config.keep is not None and (end is None or step <= end)
        return wanted and step % self.config.project_every == 0

    def _record(self, weights: Mapping[int, nn.Parameter], step: int) -> None:
        present = {index: round(weight.item(), 6) for index, weight in weights.items()}
        self.trace["steps"].append(step)
        self.trace["weights"].append([present.get(adapter.index, 0.0) for adapter in recorded_adapters(self.model)])

    def _project(self, weights: Mapping[int, nn.Parameter], keep: int, step: int) -> None:
        indices = list(weights)
        values = torch.stack([weights[index].detach() for index in indices])
        kept = set(largest(values, keep, self.config.rank_by))
        with torch.no_grad():
            for position, index in enumerate(indices):
                if position not in kept:
                    weights[index].zero_()
        self.projections.append(step)

    def on_step_end(self, run: Run) -> None:
        """Gradients are gone: change the model where a milestone is reached."""
        milestone = self.milestones.get(run.step)
        if milestone is not None:
            self._pass(milestone, run)
        if not self.selects:
            return
        fixed = self.config.freeze_weights_after
        if run.step == (self.config.last_step() if fixed is None else fixed):
            self._fix_weights(self.active, run.optimizer)
        if run.step == self.config.reset_step():
            self._start_anew(run.optimizer)

    def _pass(self, milestone: Milestone, run: Run) -> None:
        updates = present_updates(self.model)
        before = [updates[index] for index in self.active]
        rank, parameters = before[0].lora_A.shape[0], pair_parameters(before)
        winners = [index for index, weight in self._weights(self.active).items() if weight.item() != 0]
        if not winners:
            raise TrainingError(
                f"step {run.step}: every importance weight is zero and no adapter would be left: lower "
                "weight_learning_rate"
            )
        losers = [index for index in self.active if index not in winners]
        self.active = winners
        self._dismiss(losers, run)
        if milestone.rank != rank:
            self._expand(milestone, updates, run)
            self.expansions.append(
                {
                    "step": run.step,
                    "kind": self.config.expansion,  # type: ignore[attr-defined]
                    "kept": list(winners),
                    "rank_before": rank,
                    "rank_after": milestone.rank,
                    "parameters_before": parameters,
                    "parameters_after": pair_parameters(updates[index] for index in winners),
                }
            )

    def _dismiss(self, losers: list[int], run: Run) -> None:
        updates = present_updates(self.model)
        if self.config.remove_losers:
            gone = [parameter for index in losers for parameter in updates[index].parameters()]
            remove_adapters(self.model, losers)
            forget(run.optimizer, gone)
            if losers and self.removed_at is None:
                self.removed_at = run.step
            return
        self._fix_weights(losers, run.optimizer)
        if self.config.freeze_losers:
            pairs = [p for index in losers for p in (updates[index].lora_A, updates[index].lora_B)]
            for parameter in pairs:
                parameter.requires_grad_(False)
            forget(run.optimizer, pairs)

    def _expand(self, milestone: Milestone, updates: Mapping[int, Any], run: Run) -> None:
        generator = seeded_generator(self.config.init_seed, "expansion", len(self.expansions) + 1)
        for index in self.active:
            update = updates[index]
            old = (update.lora_A, update.lora_B)
            set_pair(update, *expand_pair(*old, milestone.rank, self.config, generator))
            exchange(run.optimizer, dict(zip(old, (update.lora_A, update.lora_B), strict=True)))

    def _fix_weights(self, indices: list[int], optimizer: torch.optim.Optimizer) -> None:
        weights = list(self._weights(indices).values())
        for weight in weights:
            weight.requires_grad_(False)
        forget(optimizer, weights)

    def _start_anew(self, optimizer: torch.optim.Optimizer) -> None:
        generator = seeded_generator(self.config.init_seed, "reset")
        updates = present_updates(self.model)
        with torch.no_grad():
            for index in self.active:
                pair = updates[index]
                start = fill(tuple(pair.lora_A.shape), pair.lora_A, lambda v: self.config.draw_start(v, generator))
                pair.lora_A.copy_(start)
                pair.lora_B.zero_()
        optimizer.state.clear()

    # --- checkpoints and report -----------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything but the tensors."""
        names = ("active", "selects", "moved", "trace", "projections", "removed_at", "expansions")
        return {"structure": structure_of(self.model), **{name: getattr(self, name) for name in names}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take it back; the model follows in `on_start`."""
        self._saved = state
        for name, value in state.items():
            if name != "structure":
                setattr(self, name, value)

    def summary(self) -> dict[str, Any]:
        """The selection and how it came about; weights rounded to 6 decimals, 0 for what has been removed."""
        return {
            **report(self.config, self.model, self._survivors()),
            "selection_steps": self.config.selection_steps,
            "trace": self.trace,
            "projections": self.projections,
            "removed_at": self.removed_at,
            "expansions": self.expansions,
        }

    def _survivors(self) -> list[int]:
        return [index for index, weight in self._weights(self.active).items() if weight.item() != 0]


class ReportCallback(Callback):
    """For a selection that was made before training: changes nothing, reports it in the same form."""

    def __init__(self, config: Any):
        self.config = config

    def on_start(self, model: nn.Module) -> None:
        """Remember whose adapters to report."""
        self.model = model

    def summary(self) -> dict[str, Any]:
        """As SelectionCallback's, with an empty trace."""
        return report(self.config, self.model, list(present_updates(self.model)))


def report(config: Any, model: nn.Module, survivors: list[int]) -> dict[str, Any]:
    """The form of every summary (JSON values), for a selection that no training made."""
    updates = present_updates(model)
    return {
        "method": config.method,
        "keep": config.keep,
        "selection_steps": None,
        "adapters": describe_adapters(model),
        "trace": {"steps": [], "weights": []},
        "projections": [],
        "removed_at": None,
        "survivors": survivors,
        "final_ranks": {str(index): len(updates[index].lora_A) for index in survivors},
        "expansions": [],
    }


def _processes() -> int:
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if there else 1
