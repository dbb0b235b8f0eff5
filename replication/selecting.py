"""Methods whose parameters change during training, in any training loop: `Selection`.

WeightLoRA and WeightLoRA+ choose, remove and expand adapters; AdaLoRA cuts ranks. `replication.training.loop` calls
their callback itself. Elsewhere a `Selection` does, from hooks of the optimizer, so that an update that
torch.amp.GradScaler skips does not count. `replication.SelectionCallback` is the same for transformers.Trainer.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from replication.errors import CheckpointError, ConfigError, ReplicationWarning, TrainingError
from replication.methods.shared.base import MethodConfig, attached_config, attachment, config_to_dict
from replication.training.callbacks import Callback, Run
from replication.training.config import TrainingConfig
from replication.training.parallel import is_sharded

_FOLLOWER = "_replication_selection"


class Selection:
    """Follows an optimizer's updates and does after each what the attached method's callback does in `train`.

        optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=2e-4)
        selection = Selection(model, optimizer, total_steps=1000)
        ...
            loss = model(**batch).loss + selection.penalty()
            loss.backward()
            optimizer.step()

    `optimizer` holds all parameters that train; any class, wrapped by Accelerate or not. It never steps the importance
    weights of WeightLoRA: they take plain SGD steps without decay, at `weight_learning_rate` times the schedule of the
    first group (its rate, over `learning_rate`: by default the rate it has now, or had before a scheduler came). A
    method that selects nothing needs no `Selection` and takes one without effect. A new one takes over from an earlier
    one of the same optimizer. Updates made before it do not count: ReplicationWarning at its first one, unless
    `load_state_dict` has said how many there were.

    Raises AdapterError if nothing is attached, ConfigError where the method does not fit `total_steps` or the
    optimizer; `optimizer.step()` raises TrainingError where no selection can be made, for example from nan.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        total_steps: int,
        *,
        warmup_steps: int = 0,
        learning_rate: float | None = None,
    ):
        while (wrapped := _wrapped_model(model)) is not None:
            model = wrapped
        while (inner := getattr(optimizer, "optimizer", None)) is not None:
            optimizer = inner  # in Accelerate's wrapper
        config = attachment(model).config
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        _check_optimizer(optimizer, trained)
        _check_epsilon(optimizer, config)
        self.model, self.optimizer = model, optimizer
        self.learning_rate = _base_rate(optimizer) if learning_rate is None else learning_rate
        training = TrainingConfig(steps=total_steps, learning_rate=self.learning_rate, warmup_steps=warmup_steps)
        self.callback = config.training_callback(training) or Callback()
        self._run = Run(model, optimizer)
        self._penalty_used = self._told_of_rate = False
        self._late = bool(optimizer.state) and config.unfinished(model) is not None
        self.callback.on_start(model)
        if self.callback.grows and _processes() > 1:
            raise ConfigError(
                f"{config.method} puts new parameters into the model on the way, and DistributedDataParallel does not "
                "average their gradients: start one process, or train with replication.training.loop"
            )
        reference = self.callback.build_optimizer(trained, training)
        sgd = {id(p): g["rate_factor"] for g in reference.param_groups if g.get("plain_sgd") for p in g["params"]}
        self._weight_rates = {name: sgd[id(p)] * self.learning_rate for name, p in trained.items() if id(p) in sgd}
        # Positions in an optimizer's state must survive a restart: they follow names, and what is fixed stays listed.
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._listed = [[names.get(id(p), p) for p in group["params"]] for group in optimizer.param_groups]
        if (earlier := getattr(optimizer, _FOLLOWER, None)) is not None:
            earlier.close()
        setattr(optimizer, _FOLLOWER, self)
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
            optimizer.register_load_state_dict_pre_hook(lambda *_: self._relist()),
        ]

    @property
    def updates(self) -> int:
        """Updates made so far; those that a gradient scaler skipped do not count."""
        return self._run.step

    def penalty(self) -> torch.Tensor:
        """A scalar to add to the mean loss of every batch: AdaLoRA's orthogonality term; 0 for other methods."""
        self._penalty_used = True
        penalty = self.callback.penalty(self.model)
        return next(self.model.parameters()).new_zeros((), dtype=torch.float32) if penalty is None else penalty

    def add_penalty_gradient(self, scale: float = 1.0) -> None:
        """Add `scale` times the gradient of `penalty` to the parameters' gradients: once an update, before clipping,
        where the loss cannot be changed.
        """
        penalty = self.penalty()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        if not penalty.requires_grad:
            return
        for parameter, gradient in zip(
            trained, torch.autograd.grad(penalty * scale, trained, allow_unused=True), strict=True
        ):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def summary(self) -> dict[str, Any] | None:
        """The choices so far (JSON values), as `train` saves them next to a record; None: the method makes none."""
        return self.callback.summary()

    def state_dict(self) -> dict[str, Any]:
        """What a restart needs besides the states of model and optimizer (JSON values)."""
        callback = copy.deepcopy(self.callback.state())
        config = config_to_dict(attachment(self.model).config)
        return {"updates": self.updates, "learning_rate": self.learning_rate, "config": config, "callback": callback}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned; CheckpointError if another method or configuration was attached then.

        Load the model first: its `load_state_dict` takes out and expands what the checkpoint's model had taken out and
        expanded. Optimizer and selection follow in any order.
        """
        _check_same(attachment(self.model).config, state)
        try:
            self._run.step, self.learning_rate = int(state["updates"]), float(state["learning_rate"])
            self.callback.load_state(copy.deepcopy(state["callback"]))
            self.callback.on_start(self.model)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            method = attachment(self.model).config.method
            raise CheckpointError(f"the saved selection does not fit method {method}: {error!r}") from error
        self._late = False
        self._relist()

    def close(self) -> None:
        """Stop following the optimizer."""
        for handle in self._handles:
            handle.remove()

    # --- hooks of the optimizer ------------------------------------------------------------

    def _before_step(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(value is not None for value in (*args[1:], kwargs.get("closure"))):
            raise TrainingError("a selection cannot follow optimizer.step(closure): call backward() before step()")
        ours = {id(parameter) for parameter in self._weights().values()}
        for group in optimizer.param_groups:  # a gradient scaler has seen them by now; `_relist` puts them back
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in ours]

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._relist()
        found = getattr(optimizer, "found_inf", None)  # a fused optimizer is called to skip its update itself
        if found is not None and found.item():
            return
        self._run.step += 1
        self._warn_of_a_late_start()
        self._step_weights(optimizer)
        self._warn_of_a_lost_penalty()
        groups = list(optimizer.param_groups)
        self.callback.on_update(self._run)
        self.callback.on_step_end(self._run)
        optimizer.param_groups[:] = groups  # a scheduler expects as many as before
        self._relist()

    def _weights(self) -> dict[str, nn.Parameter]:
        named = dict(self.model.named_parameters())
        return {name: named[name] for name in self._weight_rates if name in named}

    @torch.no_grad()
    def _step_weights(self, optimizer: torch.optim.Optimizer) -> None:
        shape = float(optimizer.param_groups[0]["lr"]) / self.learning_rate
        self._warn_of_a_higher_rate(shape)
        scale = getattr(optimizer, "grad_scale", None)
        for name, weight in self._weights().items():
            if weight.grad is None or not weight.requires_grad:
                continue
            if scale is not None:
                weight.grad.div_(scale)  # a fused optimizer unscales the others
            if not torch.isfinite(weight.grad).all():
                raise TrainingError(
                    f"update {self.updates}: the gradient of {name} is {weight.grad.item()}; lower the learning rate, "
                    "clip the gradients, or train float16 with a gradient scaler"
                )
            weight.add_(weight.grad, alpha=-shape * self._weight_rates[name])

    def _relist(self) -> None:
        """Parameters by name, as the model has them now, in the positions that they had at first."""
        named = dict(self.model.named_parameters())
        for group, listed in zip(self.optimizer.param_groups, self._listed, strict=True):
            group["params"] = [
                named[entry] if isinstance(entry, str) else entry
                for entry in listed
                if not isinstance(entry, str) or entry in named
            ]

    def _warn_of_a_late_start(self) -> None:
        if self._late and self.callback.summary() is not None:
            warnings.warn(
                "the optimizer had made updates before this selection, which counts from here: make the Selection "
                "before the first update, or load its state with load_state_dict",
                ReplicationWarning,
                stacklevel=4,
            )
        self._late = False

    def _warn_of_a_higher_rate(self, shape: float) -> None:
        if shape > 1 + 1e-6 and self._weights() and not self._told_of_rate:
            self._told_of_rate = True
            warnings.warn(
                f"the optimizer's rate is {shape:.3g} times learning_rate={self.learning_rate:.3g}, and so are the "
                "importance weights' steps: pass learning_rate=, the schedule's highest, to Selection",
                ReplicationWarning,
                stacklevel=5,
            )

    def _warn_of_a_lost_penalty(self) -> None:
        if not self._penalty_used and self.callback.penalty(self.model) is not None:
            warnings.warn(
                "the method adds a penalty to the loss, and it was not asked for: train on loss + selection.penalty()",
                ReplicationWarning,
                stacklevel=4,
            )
        self._penalty_used = True


def _wrapped_model(model: nn.Module) -> nn.Module | None:
    """The model inside torch.compile's or a data-parallel wrapper."""
    if isinstance(compiled := getattr(model, "_orig_mod", None), nn.Module):
        return compiled
    parallel = getattr(model, "module", None) if attached_config(model) is None else None
    return parallel if isinstance(parallel, nn.Module) else None


def _processes() -> int:
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if there else 1


def _check_optimizer(optimizer: Any, trained: Mapping[str, nn.Parameter]) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigError(f"a selection follows a torch.optim.Optimizer, got {type(optimizer).__name__}")
    if split := [name for name, parameter in trained.items() if is_sharded(parameter)]:
        raise ConfigError(
            f"{len(split)} parameters that train are sharded by FSDP2, such as {split[0]}: a selection changes whole "
            "parameters. Train with replication.training.loop under `accelerate launch --use_fsdp --fsdp_version 2`, "
            "which shards the frozen ones alone, or replicate the model"
        )
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for name, parameter in trained.items() if id(parameter) not in held]
    if missing:
        raise ConfigError(
            f"the optimizer lacks {len(missing)} of the {len(trained)} parameters that train, such as {missing[0]}: "
            "build it over trainable_parameters(model).values(), after attach; sharded training (FSDP, DeepSpeed) "
            "is not supported"
        )


def _check_epsilon(optimizer: torch.optim.Optimizer, config: MethodConfig) -> None:
    wanted = getattr(config, "adam_epsilon", None)
    given = {group["eps"] for group in optimizer.param_groups} if isinstance(optimizer, torch.optim.Adam) else set()
    if wanted is not None and (other := given - {wanted}):
        warnings.warn(
            f"{config.method}: adam_epsilon={wanted} is set, but the optimizer has eps={min(other)}: make them equal",
            ReplicationWarning,
            stacklevel=3,
        )


def _check_same(config: MethodConfig, state: Mapping[str, Any]) -> None:
    """States written before they held their configuration pass."""
    here, there = config_to_dict(config), state.get("config", config_to_dict(config))
    for field in here | there:
        if (now := here.get(field)) != (then := there.get(field)):
            raise CheckpointError(
                f"the saved selection does not fit method {config.method}: {field} was {then!r} when it was saved and "
                f"is {now!r} now. Attach the configuration that it was saved with, or start anew"
            )


def _base_rate(optimizer: torch.optim.Optimizer) -> float:
    group = optimizer.param_groups[0]
    rate = group.get("max_lr", group.get("initial_lr", group.get("lr")))  # OneCycleLR begins at a fraction of max_lr
    if rate is None or not float(rate) > 0:
        raise ConfigError(f"the optimizer's first group has the learning rate {rate}: pass learning_rate=, its highest")
    return float(rate)
