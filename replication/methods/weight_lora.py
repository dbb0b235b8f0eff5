"""WeightLoRA, Veprikov et al. 2025 (arXiv 2506.02724): LoRA pairs with one learned importance weight each.

    h_i = W_i x + s w_i B_i A_i x,   s = alpha / r,   w_i a scalar started at 1

minimised over A, B and w such that at most K of the w_i are not zero. Phase 1, T updates: AdamW on the pairs
and the task head; plain SGD on w, with its own learning rate and the same schedule; hard thresholding to the K
largest. Then the adapters whose weight is zero are taken out of the model, and phase 2 trains the others with
w fixed.

Implementation details (`WeightLoraCallback` is the part that acts during training):
1. Two thin products; w s scales the r numbers between them, so a weight costs nothing and no d x d matrix
   is built.
2. Thresholding is skipped while all gradients of w are numerically zero (1e-10, src/optimizers.py): at the
   first update, since B is zero, and at the second under a warm-up, whose first rate is zero.
3. Ties: the adapter that comes first in module order stays.
4. w is in a parameter group without decay; its rate is weight_learning_rate times the schedule's shape.
5. Removed means removed: the plain projection is back (or the slice of a fused one is plain again), the pair
   has left the optimizer with its state, and the backward pass ends at the first adapter that is left.
6. A survivor whose weight is exactly zero would never learn again; it is removed too.

Variants of the authors' code are settings, and presets by name (`WEIGHT_LORA`, `WEIGHT_LORA_PLUS`):
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
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from replication.errors import AdapterError, ConfigError, ReplicationWarning, TrainingError
from replication.methods.lora import LoraConfig, LowRankUpdate
from replication.methods.selection import (
    RANKINGS,
    apply_structure,
    enumerate_adapters,
    follow_state_dicts,
    forget_adapters,
    ignore_state_dicts,
    kept_by_place,
    largest,
    list_names,
    pair_parameters,
    present_updates,
    record_adapters,
    recorded_adapters,
    remove_adapters,
    report,
    seeded_generator,
    set_pair,
    structure_of,
)
from replication.methods.shared.base import (
    IMPORTANCE_NAME,
    check_boolean,
    check_integer,
    check_number,
    fill,
    start_selection,
)
from replication.methods.shared.projections import find_projections
from replication.methods.shared.registry import register_method
from replication.training.callbacks import Callback, Run
from replication.training.config import TrainingConfig

AT_SELECTION = "selection"
RANGES = ("inputs", "rank")
NUMERICALLY_ZERO = 1e-10  # Vepricov/Weight_Lora, src/optimizers.py

# --- presets ------------------------------------------------------------
# Named settings of WeightLoRA: the paper's two phases, and what the authors' code does at four moments.
#
#     method_config("weight_lora", preset="code_2025_08", keep=5)      # explicit fields override the preset's
#     method_config("weight_lora", **{**preset("code_2025_08"), "keep": 5})                # the same settings
#
# Sources: Vepricov/Weight_Lora (earliest, and the basis of the later ones), Vepricov/WLoRA (second repository):
# src/optimizers.py, src/utils.py, the run scripts, and PEFT's pull request 2406 for the layer. What a preset
# cannot reproduce is above, under "not copied".

Config = TypeVar("Config", bound="HasPresets")

# What all versions of the code share: one A of (in, r) whose kaiming range follows from r instead of from the
# inputs, a dropout that is stored and never applied, Adam with epsilon 1e-6.
_CODE: dict[str, Any] = {
    "rank_by": "signed",
    "apply_dropout": False,
    "initial_range": "rank",
    "adam_epsilon": 1e-6,
    "freeze_weights_after": None,
    "reset_adapters_after": None,
    "remove_losers": False,
    "freeze_losers": False,
    "project_every": 1,
}
WEIGHT_LORA: dict[str, dict[str, Any]] = {
    "paper": {
        "selection_steps": 100,
        "project_every": 1,
        "rank_by": "signed",
        "remove_losers": True,
        "freeze_losers": False,
        "freeze_weights_after": None,
        "reset_adapters_after": None,
        "apply_dropout": True,
        "initial_range": "inputs",
        "adam_epsilon": 1e-8,
        "weight_learning_rate": 5.0,
    },
    "code_2025_02": {**_CODE, "selection_steps": None, "weight_learning_rate": 10.0},
    "code_2025_02_second": {
        **_CODE,
        "selection_steps": None,
        "project_every": 10,  # fat_step of the scripts for WeightLoRA+; those for WeightLoRA use 1
        "weight_learning_rate": 5.0,
        "targets": ("query", "key", "value", "output.dense"),
    },
    # T differs from task to task in the later code: 100 is used here; set it with the length of training
    "code_2025_08": {**_CODE, "selection_steps": 100, "weight_learning_rate": 5.0},
    "code_2025_11": {
        **_CODE,
        "selection_steps": 100,
        "weight_learning_rate": 5.0,
        "freeze_losers": True,
        "reset_adapters_after": "selection",
    },
}
# WeightLoRA+ in the code: no separate selection before the rounds; K halves from the number of all adapters.
_CODE_PLUS: dict[str, Any] = {
    **_CODE,
    "keep": None,
    "selection_steps": 0,
    "expand_every": 10,
    "expansion": "qr",
    "freeze_losers": True,
}
WEIGHT_LORA_PLUS: dict[str, dict[str, Any]] = {
    "paper": {**WEIGHT_LORA["paper"], "keep": None, "expand_every": 10, "expansions": 2, "expansion": "qr"},
    "code_2025_02": {**_CODE_PLUS, "expansions": 3, "weight_learning_rate": 10.0},
    "code_2025_02_second": {
        **_CODE_PLUS,
        "expansions": 2,
        "weight_learning_rate": 5.0,
        "targets": ("query", "key", "value", "output.dense"),
    },
}


def preset(name: str, method: str = "weight_lora") -> dict[str, Any]:
    """Settings of a named preset of `weight_lora` or `weight_lora_plus`; ConfigError lists the names."""
    known = {"weight_lora": WEIGHT_LORA, "weight_lora_plus": WEIGHT_LORA_PLUS}.get(method, {})
    if name not in known:
        raise ConfigError(f"{method}: preset={name!r}: unknown; valid names are {', '.join(known) or 'none'}")
    return dict(known[name])


class HasPresets:
    """For a frozen dataclass with a field `preset`: fields that were not given take the preset's values."""

    def __new__(cls: type[Config], *values: Any, **settings: Any) -> Config:
        """Note which fields are given: a field given at its default value still overrides the preset."""
        self = super().__new__(cls)
        by_place = [field.name for field in fields(cls) if not field.kw_only][: len(values)]  # type: ignore[arg-type]
        object.__setattr__(self, "_given", {*by_place, *settings})
        return self

    def apply_preset(self, method: str, name: str | None) -> None:
        """To be called first in `__post_init__`; ConfigError for an unknown name."""
        given = self.__dict__.pop("_given", set())
        settings: Mapping[str, Any] = {} if name is None else preset(name, method)
        for field, value in settings.items():
            if field not in given:
                object.__setattr__(self, field, value)


# --- the method ------------------------------------------------------------


@dataclass(frozen=True)
class Milestone:
    """After update `step` only `keep` adapters remain, with pairs of `rank`."""

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
        """When adapters leave, of how many that were found; empty if the selection never ends."""
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
        """The selection; ConfigError if a step of it lies beyond the training length, or before any weight
        can have moved.
        """
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
        return WeightLoraCallback(self, training)

    def _too_late(self, field: str, step: int, steps: int) -> str:
        return (
            f"{self.method}: {field}={getattr(self, field)!r} exceeds the training's steps={steps}: use up to {steps}"
        )

    def closed_form_parameters(self, width: int, blocks: int, moment: str = "start") -> int:
        """Trained numbers in the pairs at "start", once "selected", or at the end ("final"); importance weights
        not counted: one an adapter until they are fixed. Roles only, square projections, one attention per block.
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

    def expanded_pair(
        self, lora_A: torch.Tensor, lora_B: torch.Tensor, rank: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A (r, in) and B (out, r) at a milestone of another rank: only where `milestones` names one."""
        raise NotImplementedError(f"{self.method} has no milestone of another rank")

    # --- the modules ---------------------------------------------------------------

    def new_update(self, inputs: int, outputs: int, like: torch.Tensor, generator: torch.Generator) -> LowRankUpdate:
        """A pair with its importance weight."""
        return WeightedUpdate(inputs, outputs, self, like, generator)

    def input_dropout(self) -> float:
        """0 if the code's neglect of lora_dropout is wanted."""
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
        follow_state_dicts(model)

    def uninstall(self, model: nn.Module) -> None:
        """Put back the plain projections that are still wrapped."""
        super().uninstall(model)
        forget_adapters(model)
        ignore_state_dicts(model)

    def structure(self, model: nn.Module) -> dict[str, Any]:
        """Survivors, ranks, fixed weights, frozen pairs."""
        return structure_of(model)

    def restructure(self, model: nn.Module, structure: Mapping[str, Any]) -> None:
        """Remove, expand and fix adapters according to `structure`; adapters that were removed come back if need be."""
        if not set(structure["survivors"]) <= set(present_updates(model)):
            LoraConfig.uninstall(self, model)
            LoraConfig.install(self, model)
        apply_structure(model, structure)

    def unfinished(self, model: nn.Module) -> str | None:
        """A selection of which nothing has happened: all adapters are there and all weights train. Or one that is over,
        after which the weights still train: `load_state_dict` leaves them so.
        """
        updates, adapters = present_updates(model), len(recorded_adapters(model))
        waiting = all(update.get_parameter(IMPORTANCE_NAME).requires_grad for update in updates.values())
        if self.selection_steps is None or not waiting:
            return None
        if len(updates) == adapters:
            return f"{self.method}: selection_steps={self.selection_steps} is set, but all {adapters} adapters remain"
        last = self.milestones(adapters)[-1]
        over = len(updates) <= last.keep and {len(update.lora_A) for update in updates.values()} == {last.rank}
        if over and self.freeze_weights_after is None:
            return (
                f"{self.method}: {len(updates)} of {adapters} adapters remain, but their importance weights still train"
            )
        return None


class WeightedUpdate(LowRankUpdate):
    """lora_A (r, in), lora_B (out, r) and importance_weight (1); `scaling` keeps alpha over the first r."""

    def __init__(
        self, inputs: int, outputs: int, config: WeightLoraConfig, like: torch.Tensor, generator: torch.Generator
    ):
        super().__init__(inputs, outputs, config, like, generator)
        self.importance_weight = fill((1,), like, lambda value: value.fill_(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        inner = F.linear(x.to(self.lora_A.dtype), self.lora_A)
        return F.linear(inner * (self.importance_weight.reshape(()) * self.scaling), self.lora_B)

    def delta(self) -> torch.Tensor:
        """The update as a matrix (out, in), in float32 or better."""
        return super().delta() * self.importance_weight.reshape(()).to(
            torch.promote_types(self.lora_A.dtype, torch.float32)
        )


# --- its optimizer ------------------------------------------------------------


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
    """AdamW over pairs and head; importance weights in a separate group, without decay, whose `rate_factor`
    gives them `weight_learning_rate` with the same schedule.
    """
    weights = [parameter for name, parameter in trained.items() if name.endswith(IMPORTANCE_NAME)]
    others = [parameter for name, parameter in trained.items() if not name.endswith(IMPORTANCE_NAME)]
    groups: list[dict[str, Any]] = [{"params": others}]
    if weights:
        factor = weight_learning_rate / training.learning_rate
        groups.append({"params": weights, "weight_decay": 0.0, "plain_sgd": True, "rate_factor": factor})
    return SelectionAdamW(
        groups,
        lr=training.learning_rate,
        eps=epsilon,
        weight_decay=training.weight_decay,
        fused=training.fused_adamw or None,
    )


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
    """Replace old parameters by new ones, without state."""
    for group in optimizer.param_groups:
        group["params"] = [replaced.get(parameter, parameter) for parameter in group["params"]]
    for parameter in replaced:
        optimizer.state.pop(parameter, None)


# --- what it does during training ------------------------------------------------------------


class WeightLoraCallback(Callback):
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
        """Number the adapters, or rebuild what a checkpoint describes."""
        self.model = model
        start_selection(model)
        adapters = recorded_adapters(model)
        milestones = self.config.milestones(len(adapters))
        if self._saved is not None:
            apply_structure(model, self._saved["structure"])
        else:
            self.active = list(present_updates(model))
            trained = all(weight.requires_grad for weight in self._weights(self.active).values())
            self.selects = trained and len(self.active) == len(adapters)
        self.milestones = {milestone.step: milestone for milestone in milestones if self.selects}
        self.grows = any(milestone.rank != self.config.rank for milestone in self.milestones.values())

    def build_optimizer(self, trained: Mapping[str, nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
        """AdamW over pairs and head, and the importance weights in a separate group."""
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
                f"step {step}: no importance weight has had a gradient, so a selection would follow module order: "
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
        values = torch.cat([weights[index].detach() for index in indices])
        kept = set(largest(values, keep, self.config.rank_by))
        if not self.projections:
            self._warn_of_ties(values, keep, step)
        with torch.no_grad():
            for position, index in enumerate(indices):
                if position not in kept:
                    weights[index].zero_()
        self.projections.append(step)

    def _warn_of_ties(self, values: torch.Tensor, keep: int, step: int) -> None:
        if by_place := kept_by_place(values, keep, self.config.rank_by):
            warnings.warn(
                f"step {step}: {by_place} of the {keep} adapters kept have the same importance weight as one that is "
                "dropped, so module order decides: the weights have moved by less than their type resolves. A larger "
                "project_every puts the first projection later, a larger weight_learning_rate moves them further",
                ReplicationWarning,
                stacklevel=2,
            )

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
            set_pair(update, *self.config.expanded_pair(*old, milestone.rank, generator))
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
