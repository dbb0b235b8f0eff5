"""Weights in bfloat16, and matrix products of bfloat16 on processors that have no instructions for them.

torch hands bfloat16 products to oneDNN only where the processor has AVX-512; elsewhere it falls back to plain loops: a
training step of SmolLM2-135M on an AMD EPYC with AVX2 took 13.6 times as long as in float32, and 1.7 times with
these kernels (benchmarks/bfloat16_products.py). A bfloat16 product is defined by its rounding: products of rounded
factors, summed in float32, rounded once. The float32 kernels compute just that.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from replication import records

_ops: Any = torch.ops.aten
# Each product with the positions of the outputs that are float32 by definition.
_PRODUCTS: dict[Any, frozenset[int]] = {
    _ops.mm.default: frozenset(),
    _ops.addmm.default: frozenset(),
    _ops.bmm.default: frozenset(),
    _ops.baddbmm.default: frozenset(),
    _ops._scaled_dot_product_flash_attention_for_cpu.default: frozenset({1}),  # the logarithms of the softmax's sums
    _ops._scaled_dot_product_flash_attention_for_cpu_backward.default: frozenset(),
}


def narrow_weights(model: nn.Module) -> nn.Module:
    """Cast a model's float32 parameters to bfloat16, in place; to be called before a method is attached.

    Buffers stay as they are: `model.to(torch.bfloat16)` would also round Llama's rotary frequencies, and with them
    every position.
    """
    for parameter in model.parameters():
        if parameter.dtype == torch.float32:
            parameter.data = parameter.detach().to(torch.bfloat16)
            parameter.grad = None
    return model


def fast_bfloat16_products(*, enabled: bool = True) -> AbstractContextManager[Any]:
    """A block whose bfloat16 products on the CPU run on float32 kernels; changes nothing if bfloat16 has its own.

    Enter it around forward and backward; a float32 run leaves it not `enabled`, as it would slow every operation a
    little. Sums of `mm` and similar differ from the plain loops' by the order of summation only; attention keeps its
    probabilities in float32 until the one rounding at its end.
    """
    return FloatProducts() if enabled and not records.has_bfloat16_kernels() else nullcontext()


class FloatProducts(TorchDispatchMode):
    """Sends every bfloat16 matrix product and attention on the CPU through float32, on any processor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        stay_wide = _PRODUCTS.get(func)
        if stay_wide is None or not any(map(_is_narrow, args)):
            return func(*args, **kwargs)
        result = func(*map(_widened, args), **{name: _widened(value) for name, value in kwargs.items()})
        if isinstance(result, torch.Tensor):
            return result.bfloat16()
        return tuple(value if i in stay_wide else _narrowed(value) for i, value in enumerate(result))


def _is_narrow(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 and value.device.type == "cpu"


def _widened(value: Any) -> Any:
    return value.float() if _is_narrow(value) else value


def _narrowed(value: Any) -> Any:
    return value.bfloat16() if isinstance(value, torch.Tensor) else value
