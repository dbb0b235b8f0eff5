"""Saving what a method trains, and loading it on a base model.

A folder holds `adapter_config.json` (format_version, method, config, base, parameter_count,
and the `structure` of a method whose modules change during training) and
`adapter_model.safetensors`: every adapter parameter and buffer, fixed random ones included since a
generator's stream may change with the version of torch, and a task head. `full` saves the whole state, tied
weights once; `frozen` saves no tensor. Tensors keep their dtype: float32 adapters of a bfloat16 model are saved and
loaded as float32. Learned scalars, of shape (1,) in memory, have shape () in files. Base weights are not saved
otherwise: the same base must be given to `load`. No pickle is read or written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from replication.errors import AdapterError, ConfigError, DataError
from replication.fileio import read_json, write_bytes, write_json
from replication.methods.shared.base import (
    SCALAR_NAMES,
    MethodConfig,
    attach,
    attachment,
    check_attachable,
    config_from_dict,
    config_settings,
    detach,
    owned_ids,
    uncompiled,
)
from replication.methods.shared.blocks import describe_base, is_sharded

FORMAT_VERSION = 1
CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"


def saved_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors that the saved form holds, by name, each storage once; they share memory with the model."""
    record = attachment(model)
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters())
    persistent = set(model.state_dict())
    tensors.update((name, buffer) for name, buffer in model.named_buffers() if name in persistent)
    if record.config.trains_base:
        return tensors
    owned = owned_ids(model)
    return {name: tensor for name, tensor in tensors.items() if id(tensor) in owned or name in record.head}


def save(model: nn.Module, directory: str | Path) -> Path:
    """Write the attached method to `directory` (made if missing); merged or not, the same bytes. Returns the
    folder.

    The configuration is written last: a folder without it is not a saved adapter. Where FSDP2 has sharded the model,
    all processes call this together, and the first writes whole tensors. AdapterError if nothing is attached or the
    model is on the meta device.
    """
    model = uncompiled(model)
    config = attachment(model).config
    sharded: list[Any] = [module for module in model.modules() if is_sharded(module)]
    for module in sharded:
        module.reshard()  # the outermost module stays gathered after a forward
    state = saved_state(model)
    if any(tensor.is_meta for tensor in state.values()):
        raise AdapterError(f"{type(model).__name__} is on the meta device and has no weights to save")
    description = {
        "format_version": FORMAT_VERSION,
        "method": config.method,
        "config": config_settings(config),
        "base": describe_base(model),
        "parameter_count": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    structure = config.structure(model)
    if structure is not None:
        description["structure"] = structure
    directory = Path(directory)
    tensors = {name: _as_stored(name, tensor) for name, tensor in state.items()}
    try:
        if not sharded or torch.distributed.get_rank() == 0:
            (directory / CONFIG_NAME).unlink(missing_ok=True)
            write_bytes(directory / WEIGHTS_NAME, safetensors.torch.save(tensors, metadata={"format": "pt"}))
            write_json(directory / CONFIG_NAME, description)
    finally:
        if sharded:
            torch.distributed.barrier()  # nobody reads before the folder is whole
    return directory


def _as_stored(name: str, tensor: Any) -> torch.Tensor:
    """A tensor as files hold it: whole, on the CPU, and a learned scalar with shape ()."""
    whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole.detach().to("cpu").contiguous().reshape(stored_shape(name, whole.shape))


def stored_shape(name: str, shape: torch.Size) -> torch.Size:
    """The shape that a tensor of the model has in files."""
    return torch.Size() if name.endswith(SCALAR_NAMES) and shape == (1,) else shape


def read_config(directory: str | Path) -> MethodConfig:
    """Configuration of a saved adapter, without its tensors; AdapterError names the file and the field."""
    path = Path(directory) / CONFIG_NAME
    return _parse(path, _read_description(path))


def load(model: nn.Module, directory: str | Path) -> nn.Module:
    """Attach a saved adapter to its base `model`, in place; returns the model, with torch's random state
    untouched.

    AdapterError, with the model unchanged, names the file and the field: a missing or damaged file, another
    format version, an unknown method, another base, missing or unexpected tensors, other shapes, another
    method attached.
    """
    path, weights = Path(directory) / CONFIG_NAME, Path(directory) / WEIGHTS_NAME
    check_attachable(model)
    if any(parameter.is_meta for parameter in model.parameters()):
        raise AdapterError(f"{type(model).__name__} is on the meta device: load the base model's weights first")
    description = _read_description(path)
    config = _parse(path, description)
    _check_base(path, description, model)
    tensors = _read_tensors(weights)
    try:
        attach(model, config)
    except AdapterError as error:
        raise AdapterError(f"{path}: cannot be attached: {error}") from error
    try:
        if "structure" in description:
            _restructure(path, config, model, description["structure"])
        expected = saved_state(model)
        _check_tensors(weights, tensors, expected)
    except AdapterError:
        detach(model)
        raise
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(tensors[name].reshape(tensor.shape))
    return model


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = read_json(path)
    except DataError as error:
        raise AdapterError(f"{error}; expected an adapter saved by replication.methods.save") from error
    if not isinstance(description, dict):
        raise AdapterError(f"{path}: must hold a JSON object")
    for key, kind in (("format_version", int), ("method", str), ("config", dict), ("base", dict)):
        if not isinstance(description.get(key), kind):
            raise AdapterError(f"{path}: field {key!r} is {description.get(key)!r}, expected {kind.__name__}")
    if description["format_version"] != FORMAT_VERSION:
        raise AdapterError(
            f"{path}: field 'format_version' is {description['format_version']}; this version reads {FORMAT_VERSION}"
        )
    return description


def _parse(path: Path, description: dict[str, Any]) -> MethodConfig:
    try:
        return config_from_dict({**description["config"], "method": description["method"]})
    except ConfigError as error:
        raise AdapterError(f"{path}: {error}") from error


def _restructure(path: Path, config: MethodConfig, model: nn.Module, structure: Any) -> None:
    try:
        config.restructure(model, structure)
    except (AdapterError, KeyError, TypeError, ValueError) as error:
        raise AdapterError(f"{path}: field 'structure' cannot be used: {error}") from error


def _check_base(path: Path, description: dict[str, Any], model: nn.Module) -> None:
    actual = describe_base(model)
    saved = {"vocabulary": actual["vocabulary"], **description["base"]}  # not in files of earlier releases
    for key, value in actual.items():
        if saved.get(key) != value:
            resize = f", or call model.resize_token_embeddings({saved[key]})" if key == "vocabulary" else ""
            raise AdapterError(
                f"{path}: field 'base.{key}' is {saved.get(key)!r}, but the model given has "
                f"{value!r}; load the base model that the adapter was trained on{resize}"
            )


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise AdapterError(f"{path}: no such file; the adapter's tensors are missing")
    try:
        with safe_open(path, framework="pt") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path}: not a complete safetensors file ({error})") from error


def _check_tensors(path: Path, tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unexpected:
        parts = [
            f"{label} {_first(names)}" for label, names in (("missing", missing), ("unexpected", unexpected)) if names
        ]
        raise AdapterError(f"{path}: tensors do not fit the configuration and the base: {'; '.join(parts)}")
    for name, tensor in tensors.items():
        shapes = (stored_shape(name, expected[name].shape), expected[name].shape)
        if tensor.shape not in shapes:
            raise AdapterError(f"{path}: tensor {name!r} has shape {tuple(tensor.shape)}, expected {tuple(shapes[0])}")
        if tensor.dtype.is_floating_point != expected[name].dtype.is_floating_point:
            raise AdapterError(f"{path}: tensor {name!r} is {tensor.dtype}, expected {expected[name].dtype}")


def _first(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
