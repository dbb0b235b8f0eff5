"""Adapter-H: two bottleneck adapters a block, Houlsby et al. 2019 (arXiv 1902.00751).

    h <- h + W_up gelu(W_down h + b_down) + b_up

after the output projection of the attention and after the second projection of the feedforward network, each before the
residual is added; the block's layer norms train too.

Implementation details:
1. W_down starts from N(0, 0.01), cut at two deviations, as in the paper (its code: N(0, 0.001)); biases at zero.
2. W_up starts at zero, so that the start is the base model bit for bit. The paper and its code draw it like W_down:
   near the identity only.
3. The activation is gelu (google-research/adapter-bert, modeling.py, `feedforward_adapter`, at 69b7c580).
4. The paper trains new layer norms for each task: here a change, started at zero, is added to weight and bias of every
   norm inside a block, and the base's own stay. `train_layer_norms=False` leaves it out. Norms outside the blocks do
   not train.
5. An adapter acts on the projection itself, before the dropout that GPT-2 and BART put behind it; in adapter-bert it
   acts after the dropout.
6. In an encoder-decoder model both stacks have adapters, a decoder block a third one after its cross-attention.
7. There is a nonlinearity between the projections, so nothing can be merged.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from replication.errors import AdapterError
from replication.methods.shared.base import (
    FLOAT32,
    AdapterModule,
    MethodConfig,
    check_adapter_dtype,
    check_boolean,
    check_integer,
    check_seed,
    fill,
)
from replication.methods.shared.bottleneck import Bottleneck, install_bottlenecks, normal, remove_bottlenecks
from replication.methods.shared.projections import (
    feedforward_projections,
    find_projections,
    linear_shape,
)
from replication.methods.shared.registry import register_method

_ADAPTERS, _NORMS = "adapter_h", "adapter_h_norms"
INITIAL_DEVIATION = 0.01


@register_method
@dataclass(frozen=True)
class AdapterHConfig(MethodConfig):
    """`bottleneck`: inner width m.

    The LoRA paper's table 3 has 11.09M for GPT-2 Medium, which no setting gives: 112 gives 11.06M without layer norms
    and 11.16M with them.
    """

    bottleneck: int = 64
    train_layer_norms: bool = True
    init_seed: int = 0
    adapter_dtype: str = field(default=FLOAT32, kw_only=True)

    method: ClassVar[str] = "adapter_h"

    def __post_init__(self) -> None:
        """Check every field."""
        check_integer(self, "bottleneck", minimum=1)
        check_boolean(self, "train_layer_norms")
        check_seed(self)
        check_adapter_dtype(self)

    def closed_form_parameters(self, width: int, blocks: int) -> int:
        """2 (2 d m + m + d) a block, and 4 d for its two layer norms (GPT-2)."""
        adapter = 2 * width * self.bottleneck + self.bottleneck + width
        return blocks * (2 * adapter + (4 * width if self.train_layer_norms else 0))

    def install(self, model: nn.Module) -> None:
        """Put the adapters behind their projections; AdapterError where the model has none that are known."""
        feedforward = feedforward_projections(model)
        if not feedforward:
            raise AdapterError(
                f"adapter_h: no second projection of a feedforward network found in {type(model).__name__}"
            )
        chosen = {*find_projections(model, ("output",)), *feedforward}
        modules = {name: module for name, module in model.named_modules() if name in chosen}
        norms = block_norms(model) if self.train_layer_norms else []
        generator = torch.Generator(device="cpu").manual_seed(self.init_seed)
        draw = normal(generator, INITIAL_DEVIATION)
        adapters = []
        for module in modules.values():
            shape = linear_shape(module)
            assert shape is not None
            like = self.like(module.weight)
            adapters.append(Bottleneck(shape[1], self.bottleneck, like, draw, F.gelu))
        install_bottlenecks(model, _ADAPTERS, list(modules.values()), adapters)
        if norms:
            changes = [NormChange(norm, self) for norm in norms]
            for norm, change in zip(norms, changes, strict=True):
                change.handle = norm.register_forward_hook(change.after, prepend=True)
            model.add_module(_NORMS, nn.ModuleList(changes))

    def uninstall(self, model: nn.Module) -> None:
        """Remove the adapters and the changes of the norms."""
        remove_bottlenecks(model, _ADAPTERS)
        if hasattr(model, _NORMS):
            for change in model.get_submodule(_NORMS).children():
                change.handle.remove()  # type: ignore[operator, union-attr]
            delattr(model, _NORMS)

    def merge(self, model: nn.Module) -> None:
        """Not supported: raises AdapterError."""
        raise AdapterError(
            "adapter_h cannot be merged: between its two projections is a nonlinearity, which no weight of the model "
            "can hold. Keep the adapter attached for inference"
        )


class NormChange(AdapterModule):
    """What is added to the parameters of one layer norm, zero at the start; the norm's own are not touched."""

    def __init__(self, norm: nn.Module, config: MethodConfig):
        super().__init__()
        for name, parameter in norm.named_parameters(recurse=False):
            self.register_parameter(name, fill(tuple(parameter.shape), config.like(parameter)))
        self.handle: Any = None

    def after(self, norm: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """Forward hook: the norm's output with the changed parameters, from a copy of the norm that shares its tensors:
        the norm itself may be in use by another thread.
        """
        own: dict[str, Any] = {
            name: (parameter + self.get_parameter(name)).to(parameter.dtype)
            for name, parameter in norm.named_parameters(recurse=False)
        }
        if type(norm) is nn.LayerNorm:  # torch.compile captures this, and no copy of a module
            return F.layer_norm(inputs[0], norm.normalized_shape, own["weight"], own.get("bias"), norm.eps)
        changed = copy.copy(norm)
        changed.__dict__["_parameters"] = own
        return changed.forward(*inputs)


def block_norms(model: nn.Module) -> list[nn.Module]:
    """Layer norms and RMS norms with trained parameters inside the model's blocks, in module order."""
    return [
        module
        for name, module in model.named_modules()
        if any(part.isdigit() for part in name.split("."))
        and type(module).__name__.lower().endswith("norm")
        and any(True for _ in module.parameters(recurse=False))
    ]
