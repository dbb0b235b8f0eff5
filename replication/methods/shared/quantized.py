"""Quantised bases: how they are recognised, and what is refused on them.

An adapter beside a subclass of nn.Linear works whatever its weight is (bitsandbytes, torchao, FP8): the layer computes
its own output, the adapter is float32. Its weight cannot be trained or merged into; other classes (GPTQ, AWQ) cannot be
wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers.pytorch_utils import Conv1D

from replication.errors import AdapterError


def quantized_weight(module: nn.Module) -> str | None:
    """Why the weight of `module` is no plain tensor, such as "Linear4bit, torch.uint8"; None if it is one."""
    kind, weight = type(module).__name__, getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        return f"{kind}, without a weight"
    if is_quantized(weight) or of_bitsandbytes(module):  # which quantises when the model moves to its device
        return f"{kind}, {weight.dtype}"
    wrapped = is_traceable_wrapper_subclass(weight.data) and type(weight.data).__name__ != "DTensor"
    return f"{kind}, {type(weight.data).__name__}" if wrapped else None


def is_quantized(tensor: torch.Tensor) -> bool:
    """Whether its numbers are integers, or floats of 8 bits."""
    return not tensor.is_floating_point() or tensor.dtype.itemsize == 1


def of_bitsandbytes(module: nn.Module) -> bool:
    """Whether it is one of bitsandbytes' layers."""
    return type(module).__module__.partition(".")[0] == "bitsandbytes"


def check_trainable(method: str, model: nn.Module, head: Iterable[str], trains_base: bool) -> None:
    """AdapterError if a parameter that is to train, of the task head or the base, is quantised."""
    heads = set(head)
    for name, parameter in model.named_parameters():
        if is_quantized(parameter) and (trains_base or name in heads):
            fix = "load the model unquantised, or attach another method"
            if name in heads:
                fix = f"load the model with llm_int8_skip_modules=[{name.split('.')[0]!r}] or the like"
            raise AdapterError(f"{method}: {name} is to train, but is quantised ({parameter.dtype}): {fix}")


def keep_gradients(model: nn.Module) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes packs a 4-bit weight when it is first evaluated, and no gradient passes a
    packed one: unpack, and pack no more.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False) and of_bitsandbytes(module):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
            module.state_dict()  # which unpacks


def check_mergeable(method: str, layers: Mapping[str, nn.Module]) -> None:
    """AdapterError if one of these layers, by name, is quantised."""
    for name, module in layers.items():
        if (reason := quantized_weight(module)) is not None:
            raise AdapterError(
                f"{method} cannot be merged: {name} is quantised ({reason}), and rounding the sum to the steps between "
                "its values would lose most of the update; load the adapter on the base unquantised and merge there"
            )


def check_wrappable(layers: Mapping[str, nn.Module]) -> None:
    """AdapterError if one of these linear layers, by name, keeps its weight in tensors of another name."""
    for name, module in layers.items():
        if not isinstance(getattr(module, "weight", None), torch.Tensor):
            raise AdapterError(
                f"{name} ({type(module).__name__}) keeps a quantised weight in a form that cannot be wrapped; load the "
                "model unquantised, or quantised by bitsandbytes"
            )


def foreign_layers(model: nn.Module) -> str:
    """The end of an error message where layers of unknown classes look like linear ones; else empty."""
    kinds = {
        type(module).__name__
        for module in model.modules()
        if hasattr(module, "in_features") and hasattr(module, "out_features")
        if not isinstance(module, nn.Linear | Conv1D)
    }
    if not kinds:
        return ""
    return (
        f". The layers of {', '.join(sorted(kinds))} cannot be wrapped: load the model unquantised, or quantised by "
        "bitsandbytes"
    )
