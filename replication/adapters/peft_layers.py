"""PEFT's layers inside a model: finding, merging and undoing, and drawing their start values."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from replication.determinism import capture_random_states, restore_random_states, seed_everything

# Attribute put on a merged layer: the tensors of its base before.
_UNMERGED = "_replication_unmerged"


def tuner_layers(model: nn.Module) -> dict[str, nn.Module]:
    """PEFT's layers, by module name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    kind: Any = BaseTunerLayer  # a mixin of nn.Module subclasses
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


def merge_layer(layer: Any) -> None:
    """PEFT's merge, the original tensors kept aside; NotImplementedError where no weight takes up the update."""
    if layer.merged:
        return
    base = layer.get_base_layer()
    originals = _parameters(base)
    setattr(layer, _UNMERGED, originals)
    for name, parameter in originals.items():  # a copy of its own: a tied weight stays untouched elsewhere
        setattr(base, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
    layer.merge()
    if layer.get_base_layer() is not base:
        layer.unmerge()
        raise NotImplementedError("PEFT swaps modules there, no weight takes up the update")


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
    """Copies of the parameters that stand in `module` itself."""
    return {name: parameter.detach().clone() for name, parameter in _parameters(module).items()}


def put_back(module: nn.Module, kept: Mapping[str, torch.Tensor]) -> None:
    """Give parameters the values kept by `copies`, on the device and in the dtype they have now."""
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


@contextmanager
def without_warnings() -> Iterator[None]:
    """PEFT warns about settings that are chosen here on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
