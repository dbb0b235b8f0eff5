"""What Adapter-H and Adapter-L share: a bottleneck behind a module of the model, x + up(f(down(x))).

`install_bottlenecks` registers all of a model's bottlenecks once, at its root, and hooks each on its module. No module
of the base is replaced, so the names of its parameters stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from replication.methods.shared.base import AdapterModule, fill

Activation = Callable[[torch.Tensor], torch.Tensor]


class Linear(nn.Module):
    """Affine map x W^T + b with W (outputs, inputs) filled by `draw` (None: zero) and b zero."""

    def __init__(self, inputs: int, outputs: int, like: torch.Tensor, draw: Any = None):
        super().__init__()
        self.weight = fill((outputs, inputs), like, draw)
        self.bias = fill((outputs,), like)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., inputs) -> (..., outputs)."""
        return F.linear(x, self.weight, self.bias)


class Bottleneck(AdapterModule):
    """width -> size -> width around `activation`, added to its input; with `layer_norm` the input of `down` is
    normalised first, with a weight and a bias that train. `up` starts at zero: the output is the input, bit for bit.
    """

    def __init__(
        self, width: int, size: int, like: torch.Tensor, draw: Any, activation: Activation, layer_norm: bool = False
    ):
        super().__init__()
        self.activation = activation
        self.down, self.up = Linear(width, size, like, draw), Linear(size, width, like)
        self.layer_norm = nn.LayerNorm(width, device=like.device, dtype=self.down.weight.dtype) if layer_norm else None
        self.handle: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., width) -> (..., width), in the input's dtype."""
        inner = x.to(self.down.weight.dtype)
        inner = inner if self.layer_norm is None else self.layer_norm(inner)
        return x + self.up(self.activation(self.down(inner))).to(x.dtype)

    def after(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Forward hook: acts on the output, or on the first of several."""
        return (self(output[0]), *output[1:]) if isinstance(output, tuple) else self(output)


def install_bottlenecks(
    model: nn.Module, name: str, modules: Sequence[nn.Module], bottlenecks: Sequence[Bottleneck]
) -> None:
    """Register the bottlenecks as `model.<name>` and put each behind its module."""
    for module, bottleneck in zip(modules, bottlenecks, strict=True):
        bottleneck.train(module.training)
        bottleneck.handle = module.register_forward_hook(bottleneck.after, prepend=True)
    model.add_module(name, nn.ModuleList(bottlenecks))


def remove_bottlenecks(model: nn.Module, name: str) -> None:
    """Undo `install_bottlenecks`."""
    for bottleneck in model.get_submodule(name).children():
        bottleneck.handle.remove()  # type: ignore[operator, union-attr]
    delattr(model, name)


def normal(generator: torch.Generator, deviation: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Fills a tensor from N(0, deviation), cut at two deviations."""
    bounds = (-2 * deviation, 2 * deviation)
    return lambda value: nn.init.trunc_normal_(value, 0.0, deviation, *bounds, generator=generator)
