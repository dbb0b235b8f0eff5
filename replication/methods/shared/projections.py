"""Finding the linear projections that a method targets, and swapping a module for a wrapper and back.

A target is a role (`query`, `key`, `value`, `output`) or the end of a module's name (`mlp.c_fc`, `fc1`,
`c_attn`). Roles follow the names of attention projections in Hugging Face models; in GPT-2's fused
`c_attn` a role is an equal slice of the output. Modules of a task head are never targets: they train anyway.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers.pytorch_utils import Conv1D

from replication.errors import AdapterError
from replication.methods.shared.base import AdapterModule
from replication.methods.shared.blocks import head_parameters

ROLES: dict[str, tuple[str, ...]] = {
    "query": ("q_proj", "query", "query_proj", "q_lin", "q", "Wq", "q_attn"),
    "key": ("k_proj", "key", "key_proj", "k_lin", "k", "Wk"),
    "value": ("v_proj", "value", "value_proj", "v_lin", "v", "Wv"),
    "output": (
        *("o_proj", "out_proj", "out_lin", "o", "attn.Wo", "attention.output.dense"),
        *("attn.c_proj", "crossattention.c_proj"),
    ),
}
FEEDFORWARD = ("output.dense", "fc2", "down_proj", "mlp.c_proj", "ffn.lin2", "DenseReluDense.wo", "mlp.Wo")
"""Second projection of the feedforward network, by its names in Hugging Face models."""
WHOLE = "whole"
# GPT-2 lays out the fused projection as query|key|value; that of its cross-attention as key|value.
_FUSED_ORDER = {3: ("query", "key", "value"), 2: ("key", "value")}


@dataclass(frozen=True)
class OutputSlice:
    """Output features start:stop of a projection, under the name of the role, or `whole`."""

    label: str
    start: int
    stop: int


def linear_shape(module: nn.Module) -> tuple[int, int] | None:
    """(input features, output features) of nn.Linear or GPT-2's Conv1D; None for any other module."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return (module.nx, module.nf) if isinstance(module, Conv1D) else None


def find_projections(model: nn.Module, targets: Sequence[str]) -> dict[str, list[OutputSlice]]:
    """Module name -> slices to update, in module order; AdapterError lists what there is if a target finds
    nothing.
    """
    candidates = _linear_modules(model)
    found: dict[str, list[OutputSlice]] = {}
    for name, module in candidates.items():
        slices = [piece for target in targets if (piece := _match(name, module, target)) is not None]
        if slices:
            # The whole projection first, then the slices of a fused one from left to right: these do not overlap.
            found[name] = sorted(set(slices), key=lambda piece: (piece.start - piece.stop, piece.start, piece.label))
    for target in targets:
        if not any(_match(name, candidates[name], target) for name in found):
            patterns = dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in candidates)
            raise AdapterError(
                f"target {target!r} matches no linear module of {type(model).__name__}; use a role "
                f"({', '.join(ROLES)}) or the end of one of these names: {', '.join(patterns) or 'none'}"
            )
    return found


def feedforward_projections(model: nn.Module) -> list[str]:
    """Names of the feedforward networks' second projections, in module order."""
    return [name for name in _linear_modules(model) if is_feedforward(name)]


def is_feedforward(name: str) -> bool:
    """Whether a module of this name is the second projection of a feedforward network."""
    attention = _ends_with(name, "attention.output.dense")
    return not attention and any(_ends_with(name, end) for end in FEEDFORWARD)


def _linear_modules(model: nn.Module) -> dict[str, nn.Module]:
    head = {name.rpartition(".")[0] for name in head_parameters(model)}
    inside = {id(m) for adapter in model.modules() if isinstance(adapter, AdapterModule) for m in adapter.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if linear_shape(module) is not None and name not in head and id(module) not in inside
    }


def _match(name: str, module: nn.Module, target: str) -> OutputSlice | None:
    shape = linear_shape(module)
    assert shape is not None
    inputs, outputs = shape
    if target not in ROLES:
        return OutputSlice(WHOLE, 0, outputs) if _ends_with(name, target) else None
    if isinstance(module, Conv1D) and _ends_with(name, "c_attn") and outputs % inputs == 0:
        order = _FUSED_ORDER.get(outputs // inputs, ())
        if target not in order:
            return None
        index = order.index(target)
        return OutputSlice(target, index * inputs, (index + 1) * inputs)
    return OutputSlice(target, 0, outputs) if any(_ends_with(name, end) for end in ROLES[target]) else None


def _ends_with(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith("." + suffix)


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace `old` by `new` in `model`, in every position of a shared module."""
    for parent in list(model.modules()):
        for child_name, child in list(parent._modules.items()):  # named_children() skips second positions
            if child is old and parent is not new:
                setattr(parent, child_name, new)
