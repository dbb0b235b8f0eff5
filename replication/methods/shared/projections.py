"""Finding the linear projections that a method targets, and swapping a module for a wrapper and back.

A target is a role (`query`, `key`, `value`, `output`) or the end of a module's name (`mlp.c_fc`, `fc1`,
`c_attn`). Roles follow the names of attention projections in Hugging Face models. In a fused projection a role is
a slice of the output, laid out as the architecture does it (`FUSED`). Modules of a task head are never targets:
they train anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from replication.errors import AdapterError
from replication.methods.shared.base import AdapterModule
from replication.methods.shared.blocks import head_parameters
from replication.methods.shared.quantized import check_wrappable, foreign_layers

ROLES: dict[str, tuple[str, ...]] = {
    "query": ("q_proj", "query", "query_proj", "q_lin", "q", "Wq", "q_attn"),
    "key": ("k_proj", "key", "key_proj", "k_lin", "k", "Wk"),
    "value": ("v_proj", "value", "value_proj", "v_lin", "v", "Wv"),
    "output": (
        *("o_proj", "out_proj", "out_lin", "o", "attn.Wo", "attention.output.dense", "crossattention.output.dense"),
        *("attn.c_proj", "crossattention.c_proj", "self_attn.output"),
        *("attention.dense", "self_attention.dense", "self_attn.dense", "multi_head_attention.dense"),
    ),
}
_ATTENTION = re.compile(r"(?<!linear_)att(entio)?n", re.IGNORECASE)
FEEDFORWARD = (
    *("output.dense", "fc2", "down_proj", "mlp.c_proj", "ffn.lin2", "DenseReluDense.wo", "mlp.Wo"),
    *("dense_4h_to_h", "fc_out", "ffn_output"),  # GPT-NeoX, Bloom, Falcon; GPT-J, CodeGen; ALBERT
)
"""Second projection of the feedforward network, by its names in Hugging Face models."""
WHOLE = "whole"


@dataclass(frozen=True)
class OutputSlice:
    """Output features of a projection, under the name of the role, or `whole`: start:stop of each of `groups` equal
    groups (of attention heads, where an architecture interleaves the roles; otherwise one group).
    """

    label: str
    start: int
    stop: int
    groups: int = 1

    @property
    def size(self) -> int:
        """Number of output features."""
        return (self.stop - self.start) * self.groups

    def rows(self, matrix: torch.Tensor) -> torch.Tensor:
        """Its rows of `matrix` (out, n): a view (groups, rows of each, n)."""
        return matrix.unflatten(0, (self.groups, -1))[:, self.start : self.stop]


@dataclass(frozen=True)
class Layout:
    """The outputs of a fused projection: `groups` equal groups, in each the roles one after the other, of widths in
    proportion to `shares`.
    """

    groups: int = 1
    shares: tuple[int, ...] = (1, 1, 1)
    roles: tuple[str, ...] = ("query", "key", "value")

    def slice_of(self, role: str, outputs: int) -> OutputSlice | None:
        """The outputs of a role, of `outputs` in all; None if it is not among them."""
        if role not in self.roles:
            return None
        position, unit = self.roles.index(role), outputs // (self.groups * sum(self.shares))
        start = unit * sum(self.shares[:position])
        return OutputSlice(role, start, start + unit * self.shares[position], self.groups)


def _by_head(heads: int) -> Layout:
    return Layout(groups=heads)


def _in_turn(heads: int, key_value_heads: int) -> Layout:
    return Layout(shares=(heads, key_value_heads, key_value_heads))


def _falcon(a: Any) -> Layout:
    if a.new_decoder_architecture:
        return Layout(a.num_kv_heads, (a.num_heads // a.num_kv_heads, 1, 1))
    return _in_turn(a.num_heads, 1) if a.multi_query else _by_head(a.num_heads)


FUSED: dict[str, Callable[[Any], Layout]] = {
    "BloomAttention.query_key_value": lambda a: _by_head(a.num_heads),
    "CodeGenAttention.qkv_proj": lambda a: Layout(4, roles=("query", "value", "key")),
    "DbrxAttention.Wqkv": lambda a: _in_turn(a.num_heads, a.num_key_value_heads),
    "DisentangledSelfAttention.in_proj": lambda a: _by_head(a.num_attention_heads),  # DeBERTa, the first
    "FalconAttention.query_key_value": _falcon,
    "GPTBigCodeAttention.c_attn": lambda a: _in_turn(a.num_heads, 1) if a.multi_query else _by_head(a.num_heads),
    "GPTNeoXAttention.query_key_value": lambda a: _by_head(a.config.num_attention_heads),
    "GPTNeoXJapaneseAttention.query_key_value": lambda a: _by_head(a.num_attention_heads),
    "MiniMaxLightningAttention.qkv_proj": lambda a: _by_head(a.num_attention_heads),
    "ModernBertAttention.Wqkv": lambda a: Layout(),
    "MptAttention.Wqkv": lambda a: Layout(),
    "PersimmonAttention.query_key_value": lambda a: _by_head(a.num_heads),
    "Phi3Attention.qkv_proj": lambda a: _in_turn(a.config.num_attention_heads, a.config.num_key_value_heads),
    "Phi4MultimodalAttention.qkv_proj": lambda a: _in_turn(a.config.num_attention_heads, a.config.num_key_value_heads),
}
"""Class of the attention module and name of its fused projection -> layout, as `forward` of that class splits it
(transformers 5). GPT-2's c_attn, and that of models which copied it, is known by its class: see `_layout`.
"""


_MIXERS = ("x_proj", "dt_proj", "out_proj")
WEIGHT_READ: dict[str, tuple[str, ...]] = {
    "MultiheadAttention": ("out_proj",),
    "TransformerEncoderLayer": ("linear1", "linear2"),
    **dict.fromkeys(("MambaMixer", "FalconMambaMixer", "JambaMambaMixer", "ZambaMambaMixer"), _MIXERS),
}
"""Class of a module and its projections whose weight it reads, always or in a fast path, instead of calling them: what
is put around them would have no effect.
"""


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
    layouts = {name: _layout(model, name, module) for name, module in candidates.items()}
    own = {name: _roles(model, name) for name in candidates}
    matches = {
        target: {n: p for n, module in candidates.items() if (p := _match(n, module, layouts[n], own[n], target))}
        for target in targets
    }
    found: dict[str, list[OutputSlice]] = {}
    for name in candidates:
        slices = [matches[target][name] for target in targets if name in matches[target]]
        if slices:
            # The whole projection first, then the slices of a fused one from left to right: these do not overlap.
            partial = {piece: layouts[name] is not None and piece.label != WHOLE for piece in slices}
            found[name] = sorted(partial, key=lambda piece: (partial[piece], piece.start, piece.label))
    for target in targets:
        if not matches[target]:
            patterns = dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in candidates)
            raise AdapterError(
                f"target {target!r} matches no linear module of {type(model).__name__}; use a role "
                f"({', '.join(ROLES)}) or the end of one of these names: {', '.join(patterns) or 'none'}"
                + foreign_layers(model)
            )
    _check_called(model, found)
    check_wrappable({name: candidates[name] for name in found})
    return found


def _check_called(model: nn.Module, names: Iterable[str]) -> None:
    for name in names:
        parent, _, end = name.rpartition(".")
        kind = _read_by(model.get_submodule(parent), end)
        if kind is not None:
            raise AdapterError(
                f"{name}: {kind} reads its weight and does not call it, so an adapter there would have no effect; "
                "choose other targets"
            )


def _read_by(holder: nn.Module, end: str) -> str | None:
    """The class, of those in `WEIGHT_READ`, that reads this child's weight."""
    return next((k.__name__ for k in type(holder).__mro__ if end in WEIGHT_READ.get(k.__name__, ())), None)


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


def _layout(model: nn.Module, name: str, module: nn.Module) -> Layout | None:
    """How a fused projection lays out its roles; None for a projection of one role or none."""
    shape = linear_shape(module)
    assert shape is not None
    parent, _, end = name.rpartition(".")
    if isinstance(module, Conv1D) and end == "c_attn":  # GPT-2; its cross-attention has the query apart, in q_attn
        return {3 * shape[0]: Layout(), 2 * shape[0]: Layout(shares=(1, 1), roles=("key", "value"))}.get(shape[1])
    attention = model.get_submodule(parent)
    keys = [f"{kind.__name__}.{end}" for kind in type(attention).__mro__]
    layout = next((FUSED[key](attention) for key in keys if key in FUSED), None)
    if layout is not None and shape[1] % (layout.groups * sum(layout.shares)):
        raise AdapterError(
            f"{name}: {shape[1]} outputs do not divide into {layout.groups} groups of {sum(layout.shares)} heads: this "
            f"{type(attention).__name__} splits them otherwise than that of transformers 5; target {end!r} as a whole"
        )
    return layout


def _roles(model: nn.Module, name: str) -> set[str]:
    """The role that a projection's name says; none outside attention, where state-space mixers, convolutions, routers
    and output layers have an `out_proj` too, and RWKV's feedforward network a `key`.
    """
    parent, _, end = name.rpartition(".")
    holder = model.get_submodule(parent)
    kind = type(holder).__name__
    if _read_by(holder, end) is not None:
        return set()
    siblings = {child for child, _ in holder.named_children()}
    attends = bool(_ATTENTION.search(kind))
    if "." in (known := next((e for ends in ROLES.values() for e in ends if _ends_with(name, e)), "")):
        inside = attends or not known.endswith(".dense") or "output." in known
    else:
        named = next((part for part in reversed(parent.split(".")) if not part.isdigit()), "")
        inside = attends or bool(_ATTENTION.search(named)) or bool(siblings & {*ROLES["query"]})
    return {role for role, ends in ROLES.items() if inside and any(_ends_with(name, e) for e in ends)}


def _match(name: str, module: nn.Module, layout: Layout | None, own: set[str], target: str) -> OutputSlice | None:
    shape = linear_shape(module)
    assert shape is not None
    if target not in ROLES:
        return OutputSlice(WHOLE, 0, shape[1]) if _ends_with(name, target) else None
    if layout is not None:
        return layout.slice_of(target, shape[1])
    return OutputSlice(target, 0, shape[1]) if target in own else None


def _ends_with(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith("." + suffix)


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace `old` by `new` in `model`, in every position of a shared module."""
    for parent in list(model.modules()):
        for child_name, child in list(parent._modules.items()):  # named_children() skips second positions
            if child is old and parent is not new:
                setattr(parent, child_name, new)
