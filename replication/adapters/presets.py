"""Named settings of WeightLoRA: the paper's two phases, and what the authors' code does at four moments.

    method_config("weight_lora", preset="code_2025_08", keep=5)      # explicit fields override the preset's
    method_config("weight_lora", **{**preset("code_2025_08"), "keep": 5})                # the same settings

Sources: Vepricov/Weight_Lora (earliest, and the basis of the later ones), Vepricov/WLoRA (second repository):
src/optimizers.py, src/utils.py, the run scripts, and PEFT's pull request 2406 for the layer. What a preset
cannot carry over is in weight_lora.py, under "not copied".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from replication.errors import ConfigError

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
        "project_every": 10,  # fat_step of the scripts for WeightLoRA+; those for WeightLoRA give 1
        "weight_learning_rate": 5.0,
        "targets": ("query", "key", "value", "output.dense"),
    },
    # T differs from task to task in the later code: 100 stands in, set it with the length of training
    "code_2025_08": {**_CODE, "selection_steps": 100, "weight_learning_rate": 5.0},
    "code_2025_11": {
        **_CODE,
        "selection_steps": 100,
        "weight_learning_rate": 5.0,
        "freeze_losers": True,
        "reset_adapters_after": "selection",
    },
}
# WeightLoRA+ in the code: no selection of its own before the rounds; K halves from the number of all adapters.
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
        by_place = [field.name for field in fields(cls)][: len(values)]  # type: ignore[arg-type]
        object.__setattr__(self, "_given", {*by_place, *settings})
        return self

    def apply_preset(self, method: str, name: str | None) -> None:
        """To be called first in `__post_init__`; ConfigError for an unknown name."""
        given = self.__dict__.pop("_given", set())
        settings: Mapping[str, Any] = {} if name is None else preset(name, method)
        for field, value in settings.items():
            if field not in given:
                object.__setattr__(self, field, value)
