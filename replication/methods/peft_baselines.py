"""Baselines from Hugging Face PEFT, injected into the model by PEFT's tuner classes.

`PeftBaselineConfig(name="dora")` is DoRA; any PEFT type is named in lower case, with its own keyword arguments in
`settings`. Those that PEFT runs from a wrapper around the model are in peft_wholes.

Implementation details:
1. The model keeps its class, and the names of its parameters but for `.base_layer` in the wrapped projections.
   PEFT's tuner object is used once and dropped; the layers keep what they share (VeRA's random matrices).
2. Start values come from `init_seed`; every global source of chance is put back. VeRA's shared matrices are drawn
   from `projection_prng_key`, by default `init_seed`, and are saved with the adapter.
3. Merging keeps the original tensors aside, as `lora` does, so that `unmerge` restores them bit for bit; PEFT's
   own unmerge subtracts.
4. Query, key and value of GPT-2's fused projection cannot be wrapped separately by PEFT: AdapterError.
5. (IA)^3 scales key and value outputs and the input of the feedforward's second projection (Liu et al. 2022,
   arXiv 2205.05638, section 3.3); where GPT-2 fuses query, key and value, the whole output, as PEFT does.
6. Attached, the model computes what the base does, up to rounding, with PEFT's default start values of all rivals
   but `fourierft` and, less so, `c3a`, `vblora` and `unilora`; and of LoKr and LoHa by default.
7. In a model of half precision PEFT's own `autocast_adapter_dtype` makes the adapters float32; adapter_dtype="model"
   switches it off. Merging sums in float32 and rounds once.
8. PiSSA and its like (`init_lora_weights`) take the start values out of the base weight; `detach` puts them back.
9. Poly routes every row as task 0; `trainable_tokens` trains rows of the input embedding, tied ones everywhere.
10. PEFT's warnings reach the user, but for `INTENDED_WARNINGS`.

A rival is the lower-case name of a PEFT type (`adalora`, `boft`, `prompt_tuning`, ...; docs/peft_types.md) or one of
two names for a switch of PEFT's LoRA (`dora`, `rslora`). Its settings are the keyword arguments of PEFT's own
configuration class, except those that `RESERVED` lists with the reason.

AdaLoRA's rank budget over training (Zhang et al. 2023, arXiv 2303.10512) uses PEFT's own allocator.
After each update PEFT's allocator smooths the sensitivity |w dL/dw| of every entry and, between `tinit` and
`total_step - tfinal`, zeroes the singular values with the lowest scores, from `init_r` down to `target_r` on
average. The orthogonality term (equation 4) is added to the training loss always; PEFT adds it only where the call
goes through its tuner, which its wrapper for no particular task does not do.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from replication.errors import AdapterError, ConfigError
from replication.methods.shared.base import (
    FLOAT32,
    MethodConfig,
    check_adapter_dtype,
    check_finite,
    check_integer,
    is_narrow,
    start_selection,
)
from replication.methods.shared.blocks import head_parameters
from replication.methods.shared.peft_wholes import EXEMPT, WHOLES, first_task
from replication.methods.shared.projections import (
    FEEDFORWARD,
    ROLES,
    feedforward_projections,
    find_projections,
    is_feedforward,
    linear_shape,
    replace_module,
)
from replication.methods.shared.quantized import check_mergeable, of_bitsandbytes, quantized_weight
from replication.methods.shared.registry import register_method
from replication.methods.shared.virtual_tokens import CACHED, EMBEDDED
from replication.methods.shared.watching import state_names
from replication.training.callbacks import Callback, Run
from replication.training.config import TrainingConfig
from replication.training.determinism import capture_random_states, restore_random_states, seed_everything

PREFIX = "peft_baselines"
DEFAULT_TARGETS = ("query", "key", "value")
ADAPTER = "default"
# Attribute put on PEFT's layers: the base's tensors before PiSSA and its like took their start values out of them.
_BEFORE = "_replication_before"
_PEFT_ERRORS = (ValueError, TypeError, RuntimeError)  # NotImplementedError is a RuntimeError
_INSTALL_ERRORS = (*_PEFT_ERRORS, AttributeError, AssertionError, ImportError, LookupError, OSError)
# Attribute put on a merged layer: the tensors of its base before.
_UNMERGED = "_replication_unmerged"


@register_method
@dataclass(frozen=True)
class PeftBaselineConfig(MethodConfig):
    """A PEFT method by `name`, with PEFT's keyword arguments in `settings` (defaults: `DEFAULTS`).

    `targets` None means query, key and value; for (IA)^3 key, value and the feedforward's second projection. Types in
    `WITHOUT_TARGETS` find their modules themselves.
    """

    name: str = "lora"
    settings: dict[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] | None = None
    init_seed: int = 0
    adapter_dtype: str = field(default=FLOAT32, kw_only=True)

    method: ClassVar[str] = PREFIX

    def __post_init__(self) -> None:
        """Check every field, the settings with PEFT's own configuration class; imports peft."""
        check_integer(self, "init_seed", minimum=0)
        check_adapter_dtype(self)
        if self.init_seed >= 2**32:
            raise ConfigError(f"{PREFIX}: init_seed={self.init_seed!r}: must be below 2**32")
        object.__setattr__(self, "settings", complete_settings(self.name, self.settings))
        object.__setattr__(self, "targets", self._checked_targets())
        with without_intended_warnings():
            self._peft_config("x")

    def _checked_targets(self) -> tuple[str, ...] | None:
        targets: Any = (self.targets,) if isinstance(self.targets, str) else self.targets
        if self.name in WITHOUT_TARGETS:
            if targets is not None:
                raise ConfigError(
                    f"{PREFIX}: targets={self.targets!r}: {self.name} finds its modules itself; leave it out"
                )
            return None
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
        if self.name in WHOLES:
            first: dict[str, Any] = {"task_type": "CAUSAL_LM"} if self.name in (*EMBEDDED, *CACHED) else {}
            if self.name == "xlora":
                first = {"hidden_size": self.settings.get("hidden_size") or 1}  # until the model is known
            return peft_config(self.name, self.settings, **{**first, **filled_in})
        if self.name == "adalora":
            check_budget(self.settings)
            filled_in = {**placeholder_schedule(self.settings), **filled_in}
        if self.name == "vera":
            filled_in = {"projection_prng_key": self.settings.get("projection_prng_key", self.init_seed), **filled_in}
        if self.name == "ia3":
            filled_in = {"feedforward_modules": "", **filled_in}
        return peft_config(self.name, self.settings, target_modules=modules, **filled_in)

    @classmethod
    def named(cls, config: Any) -> tuple[str, dict[str, Any]]:
        """`name` and `settings` of a trained adapter of PEFT, from its own configuration object.

        Settings that only decide values before training are left out: the trained ones replace them.
        """
        name = config.peft_type.value.lower()
        name = _COMPUTED.get(name, name)
        aliases = [
            alias
            for alias, (kind, switches) in ALIASES.items()
            if kind == name and all(getattr(config, switch, False) for switch in switches)
        ]
        if len(aliases) > 1:
            raise ConfigError(
                f"{PREFIX}: {' and '.join(aliases)} at once: here they are two methods; load the adapter with "
                "PeftModel.from_pretrained, whose merge_and_unload() gives a model to go on from"
            )
        name = aliases[0] if aliases else name
        defaults = {field.name: field.default for field in dataclasses.fields(_config_class(name))}
        wanted = {*DEFAULTS.get(name, {}), *REQUIRED.get(name, {})}
        settings = {key: getattr(config, key) for key in _fields(name) if key not in _BEFORE_TRAINING}
        settings = {k: v for k, v in settings.items() if k in wanted or (v not in (None, {}, []) and v != defaults[k])}
        if settings.get("init_lora_weights") in _STARTS_ALIKE:
            del settings["init_lora_weights"]
        return name, {key: sorted(v) if isinstance(v, set) else v for key, v in settings.items()}

    # --- putting in and taking out ---------------------------------------------

    def install(self, model: nn.Module) -> None:
        """Wrap every target with PEFT's layer; AdapterError names the module and what would be valid."""
        if self.name in WHOLES:
            self._install_whole(model)
            return
        names = self._target_names(model)
        modules = dict(model.named_modules())
        plain = {name: modules[name] for name in names}
        self._check_ranks(plain)
        self._check_quantized(plain)
        filled_in: dict[str, Any] = {}
        if self.name == "ia3":
            filled_in["feedforward_modules"] = name_pattern(self.feedforward(names))
        with without_warnings():  # those of __post_init__
            if hasattr(self._peft_config("x"), "fan_in_fan_out"):
                filled_in["fan_in_fan_out"] = any(isinstance(module, Conv1D) for module in plain.values())
            config = self._peft_config(name_pattern(names), **filled_in)
        training = {name: module.training for name, module in plain.items()}
        originals = {name: copies(module) for name, module in plain.items() if self._changes_base()}
        try:
            with drawn_from(self.init_seed), without_intended_warnings():
                tuner = tuner_class(self.name)(model, config, adapter_name=ADAPTER)
                tuner._cast_adapter_dtype(ADAPTER, autocast_adapter_dtype=self.adapter_dtype == FLOAT32)
        except _INSTALL_ERRORS as error:
            self.uninstall(model)
            for name, kept in originals.items():
                put_back(plain[name], kept)
            raise AdapterError(f"{PREFIX}: {self.name} does not fit {type(model).__name__}: {error}") from error
        model.__dict__.pop("peft_config", None)
        for name, module in plain.items():
            wrapper = model.get_submodule(name)
            wrapper.train(training[name])
            replace_module(model, module, wrapper)  # PEFT fills one position of a module that is used in several
            setattr(wrapper, _BEFORE, originals.get(name, {}))
            for fixed in getattr(wrapper, "ranknum", nn.ParameterDict()).values():
                fixed.requires_grad_(False)  # AdaLoRA's rank: PEFT thaws it where it moves or casts it
            if self.name == "poly":
                wrapper.register_forward_pre_hook(first_task, with_kwargs=True)

    def _install_whole(self, model: nn.Module) -> None:
        whole = WHOLES[self.name]
        training = {module: module.training for module in model.modules()}
        try:
            fields = whole.fields(self.name, self.settings, model)
            with without_warnings():  # those of __post_init__
                config = self._peft_config("", **fields)
            with drawn_from(self.init_seed), without_intended_warnings():
                whole.install(model, self.name, config, ADAPTER)
        except AdapterError:
            self.uninstall(model)
            raise
        except (*_INSTALL_ERRORS, ConfigError) as error:
            self.uninstall(model)
            raise AdapterError(f"{PREFIX}: {self.name} does not fit {type(model).__name__}: {error}") from error
        model.__dict__.pop("peft_config", None)
        for module in model.modules():
            module.training = training.get(module, model.training)
        if self.name == "adaption_prompt":  # PEFT multiplies its prompts with the model's own projections
            return
        own: Any = getattr(model, "dtype", torch.float32)
        for tensor in self.owned_tensors(model).values():
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(torch.float32 if self.adapter_dtype == FLOAT32 else own)

    @staticmethod
    def feedforward(names: Iterable[str]) -> list[str]:
        """Those of the modules whose input (IA)^3 scales, not their output."""
        return [name for name in names if is_feedforward(name)]

    def _changes_base(self) -> bool:
        """Whether the start values are taken out of the base weight: PiSSA, OLoRA."""
        return any(isinstance(self.settings.get(key), str) for key in ("init_lora_weights", "init_weights"))

    def uninstall(self, model: nn.Module) -> None:
        """Put the plain modules back, with the weights they had, or merged as they are."""
        if self.name in WHOLES:
            WHOLES[self.name].uninstall(model)
        for layer in tuner_layers(model).values():
            plain: Any = layer.get_base_layer()  # type: ignore[operator]
            if not layer.merged:
                put_back(plain, layer.__dict__.get(_BEFORE, {}))
            replace_module(model, layer, plain)
        model.__dict__.pop("peft_config", None)

    def _target_names(self, model: nn.Module) -> list[str]:
        if self.name == "trainable_tokens":
            return self._embedding(model)
        if self.targets is None:
            return ia3_modules(model)
        if self.name == "ln_tuning":
            return modules_ending(model, self.targets)
        if peft_type(self.name) in NOT_ON_CONV1D:
            self._refuse_conv1d(model, find_projections(model, self.targets))
        return whole_projections(model, self.targets, self.name)

    def _embedding(self, model: nn.Module) -> list[str]:
        embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
        largest = max(self.settings["token_indices"], default=-1)
        if not 0 <= largest < embedding.num_embeddings or min(self.settings["token_indices"]) < 0:
            raise AdapterError(
                f"{PREFIX}: trainable_tokens: settings.token_indices={self.settings['token_indices']}: must be ids of "
                f"tokens from 0 to {embedding.num_embeddings - 1}"
            )
        return [name for name, module in model.named_modules() if module is embedding]

    def _refuse_conv1d(self, model: nn.Module, names: Iterable[str]) -> None:
        for name in names:
            if isinstance(model.get_submodule(name), Conv1D):
                placed = [known for known in rival_names() if peft_type(known) not in NOT_ON_CONV1D]
                raise AdapterError(
                    f"{PREFIX}: {self.name}: PEFT has no such layer for {name}, a Conv1D of {type(model).__name__}; "
                    f"it has them for {', '.join(placed)}"
                )

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

    def _check_quantized(self, modules: dict[str, nn.Module]) -> None:
        known = importlib.util.find_spec(f"peft.tuners.{peft_type(self.name)}.bnb") is not None
        for name, module in modules.items():
            reason = quantized_weight(module)
            if reason is not None and not (known and (self.name != "dora" or of_bitsandbytes(module))):
                raise AdapterError(
                    f"{PREFIX}: PEFT's {self.name} has no layer for a quantised weight, and {name} has one ({reason}): "
                    "use lora, or load the model unquantised"
                )

    # --- training and saving ----------------------------------------------------

    def training_callback(self, training: TrainingConfig) -> Callback | None:
        """AdaLoRA's budget schedule; ConfigError if it does not fit `training.steps`. None for other rivals."""
        if self.name != "adalora":
            return None
        return AdaLoraCallback(self.settings, training.steps)

    def exempt_laws(self) -> dict[str, str]:
        """Those of types that PEFT runs from a wrapper."""
        return EXEMPT.get(self.name, {})

    def unfinished(self, model: nn.Module) -> str | None:
        """AdaLoRA with more ranks than its target: the budget was never cut."""
        if self.name != "adalora":
            return None
        values = [p for name, p in model.named_parameters() if f".lora_E.{ADAPTER}" in name and not p.is_meta]
        kept, target = sum(int(p.count_nonzero()) for p in values), self.settings["target_r"] * len(values)
        return f"{PREFIX}: adalora: {kept} ranks remain, target_r asks for {target}" if kept > target else None

    def owned_tensors(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """All parameters and persistent buffers of PEFT's layers, VeRA's shared random matrices included."""
        owned = {id(tensor) for tensor in WHOLES[self.name].tensors(model)} if self.name in WHOLES else set()
        for layer in tuner_layers(model).values():
            base = {id(tensor) for tensor in all_tensors(layer.get_base_layer()).values()}  # type: ignore[operator]
            owned |= {id(tensor) for tensor in all_tensors(layer).values()} - base
        persistent = state_names(model)
        return {name: t for name, t in all_tensors(model).items() if id(t) in owned and name in persistent}

    # --- merging ----------------------------------------------------------------

    def merge(self, model: nn.Module) -> None:
        """Fold PEFT's update into the base tensors; AdapterError, with the model unmerged, where PEFT cannot."""
        if self.name in WHOLES:
            raise AdapterError(f"{PREFIX}: {self.name} cannot be merged: it is no change of weights")
        layers: dict[str, Any] = tuner_layers(model)
        check_mergeable(f"{PREFIX}: {self.name}", {name: layer.get_base_layer() for name, layer in layers.items()})
        try:
            with torch.no_grad(), without_intended_warnings():
                for name, layer in layers.items():
                    merge_layer(layer, name)
        except _PEFT_ERRORS as error:
            self.unmerge(model)
            raise AdapterError(f"{PREFIX}: {self.name} cannot be merged: {error or type(error).__name__}") from error

    def unmerge(self, model: nn.Module) -> None:
        """Put every original tensor back."""
        for layer in tuner_layers(model).values():
            unmerge_layer(layer)


# --- names, settings and defaults ------------------------------------------------------------

# Names that are a switch of a PEFT type, not a separate type.
ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dora": ("lora", {"use_dora": True}),
    "rslora": ("lora", {"use_rslora": True}),
}

# What the WeightLoRA paper's controls share: r=8, alpha=32, dropout 0.05. LoHa and LoKr have no dropout on the
# input. Anything else uses PEFT's defaults.
_LORA: dict[str, Any] = {"r": 8, "lora_alpha": 32, "lora_dropout": 0.05}
DEFAULTS: dict[str, dict[str, Any]] = {
    "lora": _LORA,
    "dora": _LORA,
    "rslora": _LORA,
    "adalora": {"init_r": 12, "target_r": 8, "lora_alpha": 32, "lora_dropout": 0.05},
    "loha": {"r": 8, "alpha": 32},
    "lokr": {"r": 8, "alpha": 32},
    "vera": {"vera_dropout": 0.05},
    **{name: {"num_virtual_tokens": 20} for name in (*EMBEDDED, *CACHED) if name != "cpt"},  # cpt counts its ids
    "adaption_prompt": {"adapter_len": 10},
}

# Settings that have to be given, with what there is to choose from.
REQUIRED: dict[str, dict[str, str]] = {
    "vera": {"r": "the WeightLoRA authors' runs have 1024, PEFT's default is 256"},
    "cpt": {"cpt_token_ids": "ids of the tokens that the prompt starts from"},
    "trainable_tokens": {"token_indices": "ids of the tokens whose embeddings train"},
    "xlora": {"adapters": "{name: folder} of LoRA adapters in PEFT's format, as export_peft_lora writes them"},
}

# Packages that a type needs besides PEFT, and where they come from.
EXTRAS = {"adamss": ("sklearn", "scikit-learn")}

# Types that find their modules themselves.
WITHOUT_TARGETS = (*WHOLES, "trainable_tokens")

# Types without a layer for Conv1D, as GPT-2 has it; OSF's has nothing to train.
NOT_ON_CONV1D = (
    *(
        "adamss",
        "beft",
        "boft",
        "c3a",
        "delora",
        "glora",
        "hra",
        "lily",
        "loha",
        "lokr",
        "miss",
        "oft",
        "osf",
        "peanut",
        "poly",
    ),
    *("psoft", "road", "shira", "supertuning"),
)

_TARGETS = "use `targets` (roles, or ends of module names)"
_HEAD = "a task head is trained by every method here"
_OWN = "PEFT fills it in itself"
_BASE = "it would train or replace parts of the base that detach must restore"
RESERVED: dict[str, str] = {
    **dict.fromkeys(("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"), _TARGETS),
    "feedforward_modules": "(IA)^3 scales the input of the feedforward's second projection among its targets",
    "modules_to_save": _HEAD,
    **dict.fromkeys(("peft_type", "peft_version", "task_type", "auto_mapping", "revision"), _OWN),
    **dict.fromkeys(("base_model_name_or_path", "inference_mode", "fan_in_fan_out"), _OWN),
    **dict.fromkeys(("bias", "layer_replication", "target_parameters", "trainable_token_indices"), _BASE),
    "ensure_weight_tying": _BASE,
    "use_dora": "use name='dora'",
    "use_rslora": "use name='rslora'",
}

# For trained adapters. PEFT saves the prompts that these types compute, not what computes them.
_COMPUTED = {"p_tuning": "prompt_tuning"}
# Settings, and values of init_lora_weights, that only decide values before training and leave the base alone.
_BEFORE_TRAINING = (
    *("runtime_config", "eva_config", "corda_config", "lora_ga_config", "loftq_config", "prefix_projection"),
    *("prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs"),
    *("prompt_tuning_init_state_dict_path", "encoder_hidden_size", "token_dim", "num_layers", "num_attention_heads"),
    "num_transformer_submodules",
)
_STARTS_ALIKE = (True, False, "gaussian", "eva", "orthogonal")

# Values of init_lora_weights that need more than the model: PEFT would start a plain LoRA, or fail later.
_STARTS_FROM_DATA = ("eva", "corda", "loftq", "lora_ga")


def rival_names() -> list[str]:
    """Every type of the PEFT that is installed, in lower case, and `ALIASES`."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    return sorted({kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING} | set(ALIASES))


def complete_settings(name: Any, settings: Any) -> dict[str, Any]:
    """`settings` over the rival's defaults, as JSON values; ConfigError names the field and what is valid."""
    _check_name(name)
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{PREFIX}: settings={settings!r}: must be a mapping of {name}'s keyword arguments")
    valid = _fields(name)
    if reserved := [key for key in settings if key in RESERVED]:
        raise ConfigError(f"{PREFIX}: {name}: settings.{reserved[0]} cannot be given: {RESERVED[reserved[0]]}")
    if unknown := [str(key) for key in settings if key not in valid]:
        raise ConfigError(
            f"{PREFIX}: {name}: unknown setting(s) {', '.join(sorted(unknown))}; valid are {', '.join(valid)}"
        )
    for key, choice in REQUIRED.get(name, {}).items():
        if key not in settings:
            raise ConfigError(f"{PREFIX}: {name}: settings.{key} must be given: {choice}")
    try:
        complete = json.loads(json.dumps({**DEFAULTS.get(name, {}), **settings}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{PREFIX}: {name}: settings must be JSON values ({error})") from error
    _check_values(name, complete)
    return complete


def peft_config(name: str, settings: Mapping[str, Any], **filled_in: Any) -> Any:
    """PEFT's own configuration object; ConfigError carries PEFT's reason when it refuses the settings."""
    switches = ALIASES[name][1] if name in ALIASES else {}
    try:
        return _config_class(name)(**{**settings, **switches, **filled_in})
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise ConfigError(f"{PREFIX}: {name}: PEFT refuses the settings: {error}") from error


def tuner_class(name: str) -> Any:
    """PEFT's class that puts the rival's layers into a model."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.utils import PeftType

    return PEFT_TYPE_TO_TUNER_MAPPING[PeftType(peft_type(name).upper())]


def peft_type(name: str) -> str:
    """Lower-case PEFT type of a rival: `lora` for `dora`."""
    return ALIASES[name][0] if name in ALIASES else name


def _config_class(name: str) -> Any:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type(name).upper())]


def _fields(name: str) -> list[str]:
    names = {field.name for field in dataclasses.fields(_config_class(name)) if field.init}
    if name == "adalora":
        names -= {"r", "rank_pattern"}  # it ignores LoRA's r, and finds the ranks itself
    return sorted(names - set(RESERVED))


def _check_name(name: Any) -> None:
    names = rival_names()
    if name not in names:
        raise ConfigError(f"{PREFIX}: name={name!r}: unknown; valid names are {', '.join(names)}")
    module, package = EXTRAS.get(name, ("", ""))
    if module and find_spec(module) is None:
        raise ConfigError(f"{PREFIX}: {name} needs {package}, which is not installed: pip install {package}")


def _check_values(name: str, settings: Mapping[str, Any]) -> None:
    """Checks that PEFT makes late or not at all."""
    if (start := settings.get("init_lora_weights")) in _STARTS_FROM_DATA:
        raise ConfigError(
            f"{PREFIX}: {name}: settings.init_lora_weights={start!r}: needs data or a quantised model before training; "
            "true, 'gaussian', 'pissa', 'olora' and 'orthogonal' do not"
        )
    if settings.get(tasks := {"poly": "n_tasks", "multitask_prompt_tuning": "num_tasks"}.get(name, ""), 1) != 1:
        raise ConfigError(f"{PREFIX}: {name}: settings.{tasks}={settings[tasks]!r}: must be 1: a run has one task")
    folders = settings.get("adapters")
    if name == "xlora" and not (isinstance(folders, dict) and folders and all(map(str, folders.values()))):
        raise ConfigError(f"{PREFIX}: xlora: settings.adapters={folders!r}: must be {REQUIRED['xlora']['adapters']}")
    if peft_type(name) not in ("lora", "adalora", "loha", "lokr", "vera"):
        return
    for key, value in settings.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if key in ("r", "init_r", "target_r") and not (whole and value >= 1):
            raise ConfigError(f"{PREFIX}: {name}: settings.{key}={value!r}: must be an integer of at least 1")
        number = (whole or isinstance(value, float)) and not isinstance(value, bool)
        if key in ("lora_alpha", "alpha") and not (number and value > 0):
            raise ConfigError(f"{PREFIX}: {name}: settings.{key}={value!r}: must be a number above 0")
        if key.endswith("dropout") and not (number and 0 <= value < 1):
            raise ConfigError(f"{PREFIX}: {name}: settings.{key}={value!r}: must be at least 0 and below 1")


# --- the modules that a rival wraps ------------------------------------------------------------


def whole_projections(model: nn.Module, targets: Sequence[str], rival: str) -> list[str]:
    """Linear modules of roles or ends of names; AdapterError if a role is a slice of a fused projection."""
    found = find_projections(model, targets)
    for name, slices in found.items():
        shape = linear_shape(model.get_submodule(name))
        assert shape is not None
        for piece in slices:
            if (piece.start, piece.stop) != (0, shape[1]):
                raise AdapterError(
                    f"{PREFIX}: {rival} cannot wrap only {piece.label}: {name} fuses it with other projections, and "
                    f"PEFT wraps whole modules; name {name.rpartition('.')[2]!r} as the target"
                )
    return list(found)


def modules_ending(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """Modules without children whose names end so, outside the task head: for norms, which are not projections."""
    head = {name.rpartition(".")[0] for name in head_parameters(model)}
    leaves = [n for n, m in model.named_modules() if n and n not in head and not any(m.children())]
    for target in targets:
        if not any(("." + name).endswith("." + target) for name in leaves):
            ends = dict.fromkeys(name.rpartition(".")[2] for name in leaves)
            raise AdapterError(
                f"target {target!r} matches no module of {type(model).__name__}; names there end with {', '.join(ends)}"
            )
    return [name for name in leaves if any(("." + name).endswith("." + target) for target in targets)]


def ia3_modules(model: nn.Module) -> list[str]:
    """Key and value projections, whole where they are fused, and the feedforward's second projection."""
    names: set[str] = set()
    for role in ("key", "value"):
        names |= set(find_projections(model, (role,)))
    feedforward = feedforward_projections(model)
    if not feedforward:
        raise AdapterError(
            f"{PREFIX}: ia3: no second projection of a feedforward network found in {type(model).__name__} "
            f"(looked for {', '.join(FEEDFORWARD)}); set `targets`"
        )
    names |= set(feedforward)
    return [name for name, _ in model.named_modules() if name in names]


def name_pattern(names: Sequence[str]) -> str:
    """A regular expression that PEFT matches against full module names; one that matches nothing if empty."""
    return f"(?:{'|'.join(re.escape(name) for name in names)})" if names else "(?!)"


# --- PEFT's layers inside a model ------------------------------------------------------------


def tuner_layers(model: nn.Module) -> dict[str, nn.Module]:
    """PEFT's layers, by module name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    kind: Any = BaseTunerLayer  # a mixin of nn.Module subclasses
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


def merge_layer(layer: Any, module: str = "a module") -> None:
    """PEFT's merge, the original tensors kept aside; NotImplementedError if no weight takes up the update.

    AdapterError, calling the layer `module`, if the sum is not finite in the weight's dtype.
    """
    if layer.merged:
        return
    base = layer.get_base_layer()
    originals = _parameters(base)
    setattr(layer, _UNMERGED, originals)
    for name, parameter in originals.items():  # a separate copy: a tied weight stays unchanged in its other uses
        wide = torch.float32 if is_narrow(parameter) else parameter.dtype
        setattr(base, name, nn.Parameter(parameter.detach().to(wide, copy=True), requires_grad=False))
    try:
        layer.merge()
    finally:
        for name, parameter in originals.items():
            getattr(base, name).data = getattr(base, name).detach().to(parameter.dtype)
    if layer.get_base_layer() is not base:
        layer.unmerge()
        raise NotImplementedError("PEFT swaps modules there, no weight takes up the update")
    for name in originals:
        check_finite(module, getattr(base, name))


def unmerge_layer(layer: Any) -> None:
    """Put the original tensors back, bit for bit; PEFT's own unmerge subtracts."""
    base = layer.get_base_layer()
    for name, parameter in layer.__dict__.pop(_UNMERGED, {}).items():
        with torch.no_grad():
            parameter.data = parameter.data.to(getattr(base, name))
        setattr(base, name, parameter)
    if layer.merged_adapters:
        layer.merged_adapters.clear()


def _parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    return dict(module.named_parameters(recurse=False))


def copies(module: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the parameters directly in `module`."""
    return {name: parameter.detach().clone() for name, parameter in _parameters(module).items()}


def put_back(module: nn.Module, kept: Mapping[str, torch.Tensor]) -> None:
    """Restore parameter values from `copies`, with the current device and dtype."""
    with torch.no_grad():
        for name, value in kept.items():
            parameter: Any = getattr(module, name)
            parameter.data = value.to(parameter)


def all_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a module, by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """PEFT draws from the global generators: seed them, and put them back."""
    states = capture_random_states()
    seed_everything(seed)
    try:
        yield
    finally:
        restore_random_states(states)


# Starts of PEFT's warnings about what is intended here, or has no effect; every other one reaches the user.
INTENDED_WARNINGS = (
    "`is_gradient_checkpointing` is deprecated",  # PEFT reads it
    "Unsupported layer type",  # ln_tuning: norms are its targets
    "Setting boft_n_butterfly_factor to 1",  # PEFT's default
    "Failed to load the CUDA extension",  # BOFT's; it computes the same without
    "Sparse invariant checks are implicitly disabled",  # FRoD's sparse matrices
)


@contextmanager
def without_warnings() -> Iterator[None]:
    """For a call that repeats one whose warnings were shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def without_intended_warnings() -> Iterator[None]:
    """Let PEFT's warnings through, except `INTENDED_WARNINGS`."""
    with warnings.catch_warnings():
        for start in INTENDED_WARNINGS:
            warnings.filterwarnings("ignore", message=start)
        yield


# --- AdaLoRA's budget ------------------------------------------------------------

_AVERAGES = ("exp_avg_ipt", "exp_avg_unc")


def check_budget(settings: Mapping[str, Any]) -> None:
    """ConfigError unless the target rank is below the initial one: PEFT's allocator fails when it has nothing
    to take away.
    """
    if settings["target_r"] >= settings["init_r"]:
        raise ConfigError(
            f"peft_baselines: adalora: settings.target_r={settings['target_r']!r}: must be below "
            f"init_r={settings['init_r']}"
        )


def placeholder_schedule(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A schedule for PEFT's configuration while the length of training is not known: attaching, counting."""
    least = settings.get("tinit", 0) + settings.get("tfinal", 0) + 1
    return {"total_step": settings.get("total_step") or least}


def schedule(settings: Mapping[str, Any], steps: int) -> dict[str, int]:
    """`total_step`, `tinit` and `tfinal` as given, else from the length of training: a tenth of it without a
    cut, the last half with the final ranks, near the paper's settings for GLUE (its table 8). ConfigError when
    they do not fit `steps`.
    """
    total = settings.get("total_step") or steps
    tfinal = settings.get("tfinal")
    if tfinal is None:
        tfinal = min(total // 2, max(total - 2, 0))
    last = total - tfinal
    tinit = settings.get("tinit")
    if tinit is None:
        tinit = min(total // 10, max(last - 1, 0))
    if not (2 <= last <= steps and 0 <= tinit < last):
        raise ConfigError(
            f"peft_baselines: adalora: tinit={tinit}, tfinal={tfinal}, total_step={total} do not fit training.steps="
            f"{steps}: tinit < total_step - tfinal and 2 <= total_step - tfinal <= steps must hold"
        )
    return {"total_step": total, "tinit": tinit, "tfinal": tfinal}


class AdaLoraCallback(Callback):
    """Cuts the ranks after each update; its state lets a killed run continue with the same bits."""

    def __init__(self, settings: Mapping[str, Any], steps: int):
        self.settings = {**settings, **schedule(settings, steps)}
        self._host: Any = None
        self._saved: dict[str, Any] = {}

    def on_start(self, model: nn.Module) -> None:
        """Make PEFT's allocator over the model's AdaLoRA layers; take back the state of a killed run."""
        from peft.tuners.adalora import RankAllocator

        config = peft_config("adalora", self.settings, target_modules="x")
        allocator = RankAllocator(model, config, ADAPTER)
        if not allocator.name_set:
            raise AdapterError(f"{type(model).__name__} carries no AdaLoRA layer: attach it before training")
        start_selection(model)
        # The attributes that AdaLoraModel.update_and_allocate reads: the tuner itself is gone after injection.
        self._host = SimpleNamespace(
            model=model, peft_config={ADAPTER: config}, trainable_adapter_name=ADAPTER, rankallocator=allocator
        )
        if self._saved:
            config.rank_pattern = self._saved["rank_pattern"]
            parameters = dict(model.named_parameters())
            for average in _AVERAGES:
                values = {n: _unpack(v, parameters[n]) for n, v in self._saved[average].items()}
                setattr(allocator, average, values)
            # Overwritten at each update before it is read; a name without one would reset its averages.
            allocator.ipt = {name: torch.zeros_like(value) for name, value in allocator.exp_avg_ipt.items()}

    def penalty(self, model: nn.Module) -> torch.Tensor | None:
        """`orth_reg_weight` times the mean over all P and Q of |P P^T - I| (Frobenius), as PEFT adds it to the
        loss.
        """
        terms = []
        for name, parameter in model.named_parameters():
            right = f"lora_A.{ADAPTER}" in name
            if right or f"lora_B.{ADAPTER}" in name:
                gram = parameter @ parameter.T if right else parameter.T @ parameter
                terms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram)).to(gram)))
        weight = self._host.peft_config[ADAPTER].orth_reg_weight
        return weight * torch.stack(terms).mean() if weight and terms else None

    def on_update(self, run: Run) -> None:
        """PEFT's `update_and_allocate` for this step."""
        from peft import AdaLoraModel

        AdaLoraModel.update_and_allocate(self._host, run.step)

    def state(self) -> dict[str, Any]:
        """Kept ranks, and the running averages as hexadecimal bytes: decimal text would be five times as long."""
        allocator = self._host.rankallocator
        averages = {
            average: {name: _pack(value) for name, value in getattr(allocator, average).items()}
            for average in _AVERAGES
        }
        return {"rank_pattern": self._host.peft_config[ADAPTER].rank_pattern, **averages}

    def load_state(self, state: dict[str, Any]) -> None:
        """Kept until `on_start` has made the allocator."""
        self._saved = state


def _pack(value: torch.Tensor) -> str:
    return value.detach().to("cpu").contiguous().view(-1).view(torch.uint8).numpy().tobytes().hex()


def _unpack(text: str, like: torch.Tensor) -> torch.Tensor:
    value = torch.frombuffer(bytearray.fromhex(text), dtype=like.dtype).clone()
    return value.view(like.shape).to(like.device)
