"""Rivals from Hugging Face PEFT, put into the model in place by PEFT's own tuner classes.

`PeftBaselineConfig(name="dora")` is DoRA; any PEFT tuner that can be injected goes by its type's name with its
own keyword arguments in `settings`.

Implementation details:
1. The model keeps its class, and the names of its parameters but for `.base_layer` in the wrapped projections.
   PEFT's tuner object is used once and dropped; the layers keep what they share (VeRA's random matrices).
2. Start values come from `init_seed`; every global source of chance is put back. VeRA's shared matrices are drawn
   from `projection_prng_key`, by default `init_seed`, and are saved with the adapter.
3. Merging keeps the original tensors aside, as `lora` does, so that `unmerge` restores them bit for bit; PEFT's
   own unmerge subtracts.
4. Query, key and value of GPT-2's fused projection cannot be wrapped alone by PEFT: AdapterError.
5. (IA)^3 scales key and value outputs and the input of the feedforward's second projection (Liu et al. 2022,
   arXiv 2205.05638, section 3.3); where GPT-2 fuses query, key and value, the whole output, as PEFT does.
6. Attached, the model computes what the base does, up to rounding, with PEFT's default start values of all rivals
   but `fourierft` and, less so, `c3a`, `vblora` and `unilora`; and of LoKr and LoHa unless `init_weights` says else.
7. PiSSA and its like (`init_lora_weights`) take the start values out of the base weight; `detach` puts them back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from replication.adapters.base import MethodConfig, check_integer, register_method
from replication.adapters.peft_layers import (
    all_tensors,
    copies,
    drawn_from,
    merge_layer,
    put_back,
    tuner_layers,
    unmerge_layer,
    without_warnings,
)
from replication.adapters.peft_settings import PREFIX, complete_settings, peft_config, peft_type, tuner_class
from replication.adapters.peft_targets import (
    ia3_modules,
    is_feedforward,
    modules_ending,
    name_pattern,
    whole_projections,
)
from replication.adapters.projections import ROLES, linear_shape, replace_module
from replication.errors import AdapterError, ConfigError
from replication.training_config import TrainingConfig
from replication.training_hooks import Callback

DEFAULT_TARGETS = ("query", "key", "value")
ADAPTER = "default"
# Attribute put on PEFT's layers: the base's tensors before PiSSA and its like took their start values out of them.
_BEFORE = "_replication_before"
_PEFT_ERRORS = (ValueError, TypeError, RuntimeError)  # NotImplementedError is a RuntimeError


@register_method
@dataclass(frozen=True)
class PeftBaselineConfig(MethodConfig):
    """A PEFT method by `name`, with PEFT's keyword arguments in `settings` (defaults: `peft_settings.DEFAULTS`).

    `targets` None means query, key and value; for (IA)^3 key, value and the feedforward's second projection.
    """

    name: str = "lora"
    settings: dict[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] | None = None
    init_seed: int = 0

    method: ClassVar[str] = PREFIX

    def __post_init__(self) -> None:
        """Check every field, the settings with PEFT's own configuration class; imports peft."""
        check_integer(self, "init_seed", minimum=0)
        if self.init_seed >= 2**32:
            raise ConfigError(f"{PREFIX}: init_seed={self.init_seed!r}: must be below 2**32")
        object.__setattr__(self, "settings", complete_settings(self.name, self.settings))
        object.__setattr__(self, "targets", self._checked_targets())
        with without_warnings():
            self._peft_config("x")

    def _checked_targets(self) -> tuple[str, ...] | None:
        targets: Any = (self.targets,) if isinstance(self.targets, str) else self.targets
        if targets is None:
            if self.name == "ln_tuning":
                raise ConfigError(f"{PREFIX}: ln_tuning: targets must be given: ends of names such as 'LayerNorm'")
            return None if self.name == "ia3" else DEFAULT_TARGETS
        if not isinstance(targets, list | tuple) or not targets or not all(isinstance(t, str) and t for t in targets):
            raise ConfigError(
                f"{PREFIX}: targets={self.targets!r}: must be a list of roles ({', '.join(ROLES)}) or ends of module "
                "names"
            )
        return tuple(targets)

    def _peft_config(self, modules: str, **filled_in: Any) -> Any:
        if self.name == "adalora":
            from replication.adapters.peft_adalora import check_budget, placeholder_schedule

            check_budget(self.settings)
            filled_in = {**placeholder_schedule(self.settings), **filled_in}
        if self.name == "vera":
            filled_in = {"projection_prng_key": self.settings.get("projection_prng_key", self.init_seed), **filled_in}
        if self.name == "ia3":
            filled_in = {"feedforward_modules": "", **filled_in}
        return peft_config(self.name, self.settings, target_modules=modules, **filled_in)

    # --- putting in and taking out ---------------------------------------------

    def install(self, model: nn.Module) -> None:
        """Wrap every target with PEFT's layer; AdapterError names the module and what would be valid."""
        names = self._target_names(model)
        modules = dict(model.named_modules())
        plain = {name: modules[name] for name in names}
        self._check_ranks(plain)
        filled_in: dict[str, Any] = {}
        if self.name == "ia3":
            filled_in["feedforward_modules"] = name_pattern([name for name in names if is_feedforward(name)])
        probe = self._peft_config("x")
        if hasattr(probe, "fan_in_fan_out"):
            filled_in["fan_in_fan_out"] = any(isinstance(module, Conv1D) for module in plain.values())
        config = self._peft_config(name_pattern(names), **filled_in)
        training = {name: module.training for name, module in plain.items()}
        originals = {name: copies(module) for name, module in plain.items() if self._changes_base()}
        try:
            with drawn_from(self.init_seed), without_warnings():
                tuner_class(self.name)(model, config, adapter_name=ADAPTER)
        except (*_PEFT_ERRORS, AttributeError, AssertionError, ImportError, KeyError) as error:
            self.uninstall(model)
            for name, kept in originals.items():
                put_back(plain[name], kept)
            raise AdapterError(f"{PREFIX}: {self.name} does not fit {type(model).__name__}: {error}") from error
        model.__dict__.pop("peft_config", None)
        for name, module in plain.items():
            wrapper = model.get_submodule(name)
            wrapper.train(training[name])
            replace_module(model, module, wrapper)  # PEFT fills one place of a module that stands in several
            setattr(wrapper, _BEFORE, originals.get(name, {}))
            for fixed in getattr(wrapper, "ranknum", nn.ParameterDict()).values():
                fixed.requires_grad_(False)  # AdaLoRA's rank: PEFT thaws it where it moves or casts it

    def _changes_base(self) -> bool:
        """Whether the start values are taken out of the base weight: PiSSA, OLoRA."""
        return any(isinstance(self.settings.get(key), str) for key in ("init_lora_weights", "init_weights"))

    def uninstall(self, model: nn.Module) -> None:
        """Put the plain modules back, with the weights they had."""
        for layer in tuner_layers(model).values():
            plain: Any = layer.get_base_layer()  # type: ignore[operator]
            put_back(plain, layer.__dict__.get(_BEFORE, {}))
            replace_module(model, layer, plain)
        model.__dict__.pop("peft_config", None)

    def _target_names(self, model: nn.Module) -> list[str]:
        if self.targets is None:
            return ia3_modules(model)
        if self.name == "ln_tuning":
            return modules_ending(model, self.targets)
        return whole_projections(model, self.targets, self.name)

    def _check_ranks(self, modules: dict[str, nn.Module]) -> None:
        key = {"lora": "r", "adalora": "init_r"}.get(peft_type(self.name))
        if key is None:
            return
        for name, module in modules.items():
            shape = linear_shape(module)
            rank = self.settings[key]
            if shape is not None and rank > min(shape):
                raise AdapterError(
                    f"{PREFIX}: {self.name}: {key}={rank} exceeds {min(shape)}, the smaller side of {name}: "
                    f"{shape[0]} in, {shape[1]} out; use a rank up to {min(shape)}"
                )

    # --- training and saving ----------------------------------------------------

    def training_callback(self, training: TrainingConfig) -> Callback | None:
        """AdaLoRA's budget schedule; ConfigError when it does not fit `training.steps`. None for other rivals."""
        if self.name != "adalora":
            return None
        from replication.adapters.peft_adalora import AdaLoraCallback

        return AdaLoraCallback(self.settings, training.steps)

    def owned_tensors(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """All parameters and persistent buffers of PEFT's layers, VeRA's shared random matrices included."""
        owned = set()
        for layer in tuner_layers(model).values():
            base = {id(tensor) for tensor in all_tensors(layer.get_base_layer()).values()}  # type: ignore[operator]
            owned |= {id(tensor) for tensor in all_tensors(layer).values()} - base
        persistent = set(model.state_dict())
        return {name: t for name, t in all_tensors(model).items() if id(t) in owned and name in persistent}

    # --- merging ----------------------------------------------------------------

    def merge(self, model: nn.Module) -> None:
        """Fold PEFT's update into the base tensors; AdapterError, with the model unmerged, where PEFT cannot."""
        try:
            with torch.no_grad(), without_warnings():
                for layer in tuner_layers(model).values():
                    merge_layer(layer)
        except _PEFT_ERRORS as error:
            self.unmerge(model)
            raise AdapterError(f"{PREFIX}: {self.name} cannot be merged: {error or type(error).__name__}") from error

    def unmerge(self, model: nn.Module) -> None:
        """Put every original tensor back."""
        for layer in tuner_layers(model).values():
            unmerge_layer(layer)
