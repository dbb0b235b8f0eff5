"""Names, settings and defaults of the rivals that Hugging Face PEFT provides.

A rival is the lower-case name of a PEFT tuner type (`adalora`, `boft`, `ia3`, ...) or one of two names for a
switch of PEFT's LoRA (`dora`, `rslora`). Its settings are the keyword arguments of PEFT's own configuration
class, except those that `RESERVED` lists with the reason.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from replication.errors import ConfigError

PREFIX = "peft_baselines"

# Names that are a switch of a PEFT type, not a type of their own.
ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dora": ("lora", {"use_dora": True}),
    "rslora": ("lora", {"use_rslora": True}),
}

# What the WeightLoRA paper's controls share: r=8, alpha=32, dropout 0.05. LoHa and LoKr have no dropout on the
# input. What is not named here starts from PEFT's own defaults.
_LORA: dict[str, Any] = {"r": 8, "lora_alpha": 32, "lora_dropout": 0.05}
DEFAULTS: dict[str, dict[str, Any]] = {
    "lora": _LORA,
    "dora": _LORA,
    "rslora": _LORA,
    "adalora": {"init_r": 12, "target_r": 8, "lora_alpha": 32, "lora_dropout": 0.05},
    "loha": {"r": 8, "alpha": 32},
    "lokr": {"r": 8, "alpha": 32},
    "vera": {"vera_dropout": 0.05},
}

# Settings that have to be given, with what there is to choose from.
REQUIRED: dict[str, dict[str, str]] = {
    "vera": {"r": "the WeightLoRA authors' runs have 1024, PEFT's default is 256"},
}

_TARGETS = "use `targets` (roles, or ends of module names)"
_HEAD = "a task head is trained by every method here"
_OWN = "PEFT fills it in itself"
_BASE = "it would train or replace parts of the base that detach has to give back"
RESERVED: dict[str, str] = {
    **dict.fromkeys(("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"), _TARGETS),
    "feedforward_modules": "(IA)^3 scales the input of the feedforward's second projection among its targets",
    "modules_to_save": _HEAD,
    **dict.fromkeys(("peft_type", "peft_version", "task_type", "auto_mapping", "revision"), _OWN),
    **dict.fromkeys(("base_model_name_or_path", "inference_mode", "fan_in_fan_out"), _OWN),
    **dict.fromkeys(("bias", "layer_replication", "target_parameters", "trainable_token_indices"), _BASE),
    "ensure_weight_tying": _BASE,
    "use_dora": "name='dora' says so",
    "use_rslora": "name='rslora' says so",
}

# Values of init_lora_weights that need more than the model: PEFT would start a plain LoRA, or fail later.
_STARTS_FROM_DATA = ("eva", "corda", "loftq", "lora_ga")

_PROMPT = "it puts virtual tokens before the input through PEFT's own model class"
_WHY_NOT: dict[str, str] = {
    **dict.fromkeys(("prompt_tuning", "multitask_prompt_tuning", "p_tuning", "prefix_tuning"), _PROMPT),
    **dict.fromkeys(("cpt", "cartridge"), _PROMPT),
    "adaption_prompt": "it puts prompt tokens into Llama's attention through PEFT's own model class",
    "xlora": "it mixes LoRA adapters that were trained before",
    "shadow": "it runs a second network beside the model through PEFT's own model class",
    "poly": "its forward pass needs task numbers beside the input",
    "trainable_tokens": "it trains rows of the embedding, not a projection",
}


def rival_names() -> list[str]:
    """Every name that can be injected with the PEFT that is installed."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    types = {kind.value.lower() for kind in PEFT_TYPE_TO_TUNER_MAPPING}
    return sorted((types | set(ALIASES)) - set(_WHY_NOT))


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
    if isinstance(name, str) and name in _WHY_NOT:
        raise ConfigError(f"{PREFIX}: name={name!r} cannot be injected in place: {_WHY_NOT[name]}")
    names = rival_names()
    if name not in names:
        raise ConfigError(f"{PREFIX}: name={name!r}: unknown; valid names are {', '.join(names)}")


def _check_values(name: str, settings: Mapping[str, Any]) -> None:
    """What PEFT itself checks late or not at all."""
    if (start := settings.get("init_lora_weights")) in _STARTS_FROM_DATA:
        raise ConfigError(
            f"{PREFIX}: {name}: settings.init_lora_weights={start!r}: needs data or a quantised model before training; "
            "true, 'gaussian', 'pissa', 'olora' and 'orthogonal' do not"
        )
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
