"""LoRA, Hu et al. 2021 (arXiv 2106.09685), equation 3: h = W x + (alpha / r) B A x, with W frozen.

Implementation details:
1. Two thin products, x A^T then B^T; the d x d update is only formed by `merge` (microsoft/LoRA,
   loralib/layers.py).
2. A starts kaiming-uniform with a = sqrt(5), B at zero, so that the model starts as the base
   (loralib/layers.py; Gaussian A in the paper's section 4.1).
3. Dropout acts on the input of A only, one mask for all slices of a fused projection (loralib, MergedLinear).
4. Query and value of a fused projection, such as GPT-2's, each get their own pair (A, B) acting on their slice of the
   output (examples/NLG: enable_lora=[True, False, True]). One pair of rank r on the whole `c_attn` has the
   same count and is another model: name `c_attn` as the target to get it.
5. Merging keeps the original weight aside, so that `unmerge` restores it bit for bit and tied weights stay
   untouched; it costs one copy of each target weight. The sum is taken in float32 and rounded once to the
   weight's dtype.
6. A and B are float32 in a model of half precision too (`adapter_dtype`): the input is cast before A, the update
   after B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from replication.errors import AdapterError, ConfigError
from replication.methods.shared.base import (
    FLOAT32,
    AdapterModule,
    MethodConfig,
    check_adapter_dtype,
    check_finite,
    check_integer,
    check_number,
    check_seed,
    fill,
)
from replication.methods.shared.projections import ROLES, OutputSlice, find_projections, linear_shape, replace_module
from replication.methods.shared.quantized import check_mergeable
from replication.methods.shared.registry import register_method


@register_method
@dataclass(frozen=True)
class LoraConfig(MethodConfig):
    """Settings of LoRA; defaults are the E2E recipe of microsoft/LoRA (r=4, alpha=32, dropout 0.1, query and
    value).
    """

    rank: int = 4
    alpha: float = 32
    dropout: float = 0.1
    targets: tuple[str, ...] = ("query", "value")
    init_seed: int = 0
    adapter_dtype: str = field(default=FLOAT32, kw_only=True)

    method: ClassVar[str] = "lora"

    def __post_init__(self) -> None:
        """Check every field; a list of targets, or one target, becomes a tuple."""
        targets: Any = (self.targets,) if isinstance(self.targets, str) else self.targets
        if not isinstance(targets, list | tuple) or not targets or not all(isinstance(t, str) and t for t in targets):
            raise ConfigError(
                f"{self.method}: targets={self.targets!r}: must be a list of roles ({', '.join(ROLES)}) or ends of "
                "module names"
            )
        object.__setattr__(self, "targets", tuple(targets))
        check_integer(self, "rank", minimum=1)
        check_seed(self)
        largest = torch.finfo(torch.float32).max
        check_number(self, "alpha", "a finite number above 0", low=math.ulp(0.0), high=largest)
        check_number(self, "dropout", "at least 0 and below 1", low=0, high=1)
        check_adapter_dtype(self)

    def closed_form_parameters(self, width: int, blocks: int) -> int:
        """2 r d per target and block: roles only, square projections, one attention per block (GPT-2,
        DeBERTa).
        """
        return blocks * len(set(self.targets)) * 2 * self.rank * width

    def install(self, model: nn.Module) -> None:
        """Wrap every target projection; AdapterError names the module when the rank exceeds a side of its
        update.
        """
        found = find_projections(model, self.targets)
        modules = dict(model.named_modules())
        for name, slices in found.items():
            self._check_rank(name, modules[name], slices)
        generator = torch.Generator(device="cpu").manual_seed(self.init_seed)
        for name, slices in found.items():
            replace_module(model, modules[name], LoraLinear(modules[name], slices, self, generator))

    def new_update(self, inputs: int, outputs: int, like: torch.Tensor, generator: torch.Generator) -> LowRankUpdate:
        """The pair of one projection (slice), in the dtype and device of `like`."""
        return LowRankUpdate(inputs, outputs, self, like, generator)

    def draw_start(self, value: torch.Tensor, generator: torch.Generator) -> None:
        """Fill an A of (r, in) in place."""
        nn.init.kaiming_uniform_(value, a=math.sqrt(5), generator=generator)

    def input_dropout(self) -> float:
        """Probability of the dropout before A."""
        return self.dropout

    def _check_rank(self, name: str, module: nn.Module, slices: Sequence[OutputSlice]) -> None:
        shape = linear_shape(module)
        assert shape is not None
        for piece in slices:
            limit = min(shape[0], piece.size)
            if self.rank > limit:
                raise AdapterError(
                    f"{self.method}: rank={self.rank} exceeds {limit}, the smaller side of the {piece.label} update "
                    f"of {name}: {shape[0]} in, {piece.size} out; use a rank up to {limit}"
                )

    def uninstall(self, model: nn.Module) -> None:
        """Put the plain projections back."""
        for wrapper in lora_layers(model).values():
            replace_module(model, wrapper, wrapper.base_layer)

    def merge(self, model: nn.Module) -> None:
        """Fold every update into its projection's weight; AdapterError names a module that is quantised or whose sum is
        not finite.
        """
        layers = lora_layers(model)
        check_mergeable(self.method, {name: layer.base_layer for name, layer in layers.items()})
        for name, layer in layers.items():
            layer.merge(name)

    def unmerge(self, model: nn.Module) -> None:
        """Put every original weight back."""
        for layer in lora_layers(model).values():
            layer.unmerge()


class LowRankUpdate(AdapterModule):
    """The pair of one projection (slice): lora_A (r, in), lora_B (out, r); `scaling` = alpha / r."""

    def __init__(self, inputs: int, outputs: int, config: LoraConfig, like: torch.Tensor, generator: torch.Generator):
        super().__init__()
        self.scaling = config.alpha / config.rank
        self.lora_A = fill(
            (config.rank, inputs),
            like,
            lambda value: config.draw_start(value, generator),
        )
        self.lora_B = fill((outputs, config.rank), like)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        return F.linear(F.linear(x.to(self.lora_A.dtype), self.lora_A), self.lora_B) * self.scaling

    def delta(self) -> torch.Tensor:
        """The update as a matrix (out, in), in float32 or better."""
        wide = torch.promote_types(self.lora_A.dtype, torch.float32)
        return (self.lora_B.to(wide) @ self.lora_A.to(wide)) * self.scaling


class LoraLinear(nn.Module):
    """A frozen nn.Linear or Conv1D with one `LowRankUpdate` for each slice, registered under the slice's
    label.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        slices: Sequence[OutputSlice],
        config: LoraConfig,
        generator: torch.Generator,
    ):
        super().__init__()
        shape = linear_shape(base_layer)
        assert shape is not None
        self.base_layer = base_layer
        self.in_features, self.out_features = shape
        self.slices = tuple(slices)
        self.dropout = nn.Dropout(config.input_dropout())
        for piece in slices:
            update = config.new_update(shape[0], piece.size, config.like(self.weight), generator)
            self.add_module(piece.label, update)
        self.train(base_layer.training)
        # The weight before merging, in a tuple so that it is neither a parameter nor part of the state.
        self._unmerged: tuple[nn.Parameter, ...] = ()

    @property
    def weight(self) -> torch.Tensor:
        """The base weight, in the base layer's layout: model code may read its dtype or device."""
        return self.base_layer.weight  # type: ignore[return-value]

    @property
    def bias(self) -> torch.Tensor | None:
        """The base bias."""
        return self.base_layer.bias  # type: ignore[return-value]

    @property
    def merged(self) -> bool:
        """Whether the base weight holds the update."""
        return bool(self._unmerged)

    def updates(self) -> list[tuple[OutputSlice, LowRankUpdate]]:
        """Each slice with its pair."""
        return [(piece, self.get_submodule(piece.label)) for piece in self.slices]  # type: ignore[misc]

    def drop(self, label: str) -> None:
        """Take one slice's pair out; a wrapper without slices only calls its base layer."""
        self.slices = tuple(piece for piece in self.slices if piece.label != label)
        delattr(self, label)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out), in the dtype of the base layer's output."""
        result = self.base_layer(x)
        if self.merged:
            return result
        dropped = self.dropout(x)
        segments, done, groups = [], 0, 1  # of a fused projection's output, left to right in each group; joined once
        for piece, update in self.updates():
            change = update(dropped).to(result.dtype)
            if piece.size == self.out_features:
                result = result + change
                continue
            if piece.groups != groups:  # all slices of a projection have the same
                groups = piece.groups
                result = result.unflatten(-1, (groups, -1))
            change = change if groups == 1 else change.unflatten(-1, (groups, -1))
            segments += [result[..., done : piece.start], result[..., piece.start : piece.stop] + change]
            done = piece.stop
        joined = torch.cat([*segments, result[..., done:]], dim=-1) if segments else result
        return joined if groups == 1 else joined.flatten(-2)

    def merge(self, name: str = "a projection") -> None:
        """Swap the weight for weight + updates (Conv1D stores it transposed); sums are taken in float32 or
        better. AdapterError, calling the module `name`, if the sum is not finite in the weight's dtype.
        """
        if self.merged:
            return
        original = self.base_layer.weight
        assert isinstance(original, nn.Parameter)
        with torch.no_grad():
            wide = torch.promote_types(original.dtype, torch.float32)
            merged = original.detach().to(wide, copy=True)
            rows = merged.T if isinstance(self.base_layer, Conv1D) else merged
            for piece, update in self.updates():
                change = update.delta().to(rows.device)
                piece.rows(rows).add_(change.unflatten(0, (piece.groups, -1)))
        merged = merged.to(original.dtype)
        check_finite(name, merged)
        self._unmerged = (original,)
        self.base_layer.weight = nn.Parameter(merged, requires_grad=False)

    def unmerge(self) -> None:
        """Put the original weight back, on the device and in the dtype the model has now."""
        if not self.merged:
            return
        (original,) = self._unmerged
        with torch.no_grad():
            original.data = original.data.to(self.weight)
        self.base_layer.weight = original
        self._unmerged = ()


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """Every wrapped projection, by module name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}
