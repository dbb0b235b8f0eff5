"""Saving what a method trains, and loading it on a base model.

A folder holds `adapter_model.safetensors`: every adapter parameter and buffer, fixed random ones included since a
generator's stream may change with the version of torch, and a task head. `full` saves the whole state, tied
weights once; `frozen` saves no tensor. Tensors keep their dtype: float32 adapters of a bfloat16 model are saved and
loaded as float32. Learned scalars, of shape (1,) in memory, have shape () in files. Base weights are not saved
otherwise: the same base must be given to `load`, which knows its class, sizes and name on the hub. Beside it are
`adapter_config.json`, which describes it (`FIELDS`), and `README.md`, a model card made from that description. No
pickle is read or written.

`load` also reads the folders that `model.save_pretrained` and Trainer write (`replication.pretrained`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from replication.errors import AdapterError, ConfigError, DataError, ReplicationWarning
from replication.fileio import read_json, sha256_bytes, sha256_file, system_fault, write_bytes, write_json, write_text
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
    warn_if_unfinished,
    warn_of_foreign,
)
from replication.methods.shared.blocks import describe_base, is_sharded
from replication.methods.shared.card import CARD_NAME, LIBRARY, card_facts, render_card
from replication.methods.shared.peft_import import load_stock, read_stock
from replication.methods.shared.watching import state_names

FORMAT_VERSION = 1
CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
PRETRAINED_CONFIG_NAME = "replication_config.json"
PRETRAINED_WEIGHTS_NAME = "model.safetensors"
SIZES = ("rank", "r", "bottleneck", "num_virtual_tokens", "encoder_hidden_size", "adapter_len", "rank_pattern")
SMALL = 1 << 13
"""Fields that are widths of tensors, PEFT's too, and the largest of them that is not compared with the tensors read."""
BASE_FIELDS = ("class", "width", "blocks", "vocabulary")
FIELDS = (
    *("format_version", "method", "config", "base", "parameter_count", "structure", "sha256", "peft_sha256", "card"),
    "backbone",
)
"""What a description may hold: `structure` of a method whose modules change during training; `sha256` of the file of
tensors, absent in folders of earlier releases; `peft_sha256` of the same adapter in PEFT's form beside it; `card`,
facts for the model card; `backbone`, a name that `replicate predict` reads.
"""


def saved_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors that the saved form holds, by name, each storage once; they share memory with the model."""
    record = attachment(model)
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters())
    persistent = state_names(model)
    tensors.update((name, buffer) for name, buffer in model.named_buffers() if name in persistent)
    if record.config.trains_base and record.config.owned_tensors(model) is None:
        return tensors
    owned = owned_ids(model)
    return {name: tensor for name, tensor in tensors.items() if id(tensor) in owned or name in record.head}


def save(model: nn.Module, directory: str | Path, *, card: Mapping[str, Any] | None = None) -> Path:
    """Write the attached method to `directory` (made if missing); merged or not, the same bytes. Returns the
    folder.

    `card`: facts for the model card (`replication.methods.shared.card.FACTS`), such as data, profile and scores.
    The configuration is written last: a folder without it is not a saved adapter. Where FSDP2 has sharded the model,
    all processes call this together, and the first writes whole tensors. ReplicationWarning where a configured
    selection has not run, or parameters train that are not the method's. AdapterError if nothing is attached, the model
    is on the meta device, a value is not finite, or the folder cannot be written; ConfigError for a fact that the card
    does not have.
    """
    model = uncompiled(model)
    if card is not None and not isinstance(card, Mapping):
        raise ConfigError(f"card={card!r}: must be a mapping of facts, such as {{'data': 'E2E NLG'}}")
    facts = card_facts({"base_model": _hub_name(model), "labels": _labels(model), **(card or {})})
    sharded: list[Any] = [module for module in model.modules() if is_sharded(module)]
    for module in sharded:
        module.reshard()  # the outermost module stays gathered after a forward
    state = saved_state(model)
    if any(tensor.is_meta for tensor in state.values()):
        raise AdapterError(f"{type(model).__name__} is on the meta device and has no weights to save")
    for name, tensor in state.items():
        _check_value(f"{directory}: nothing is saved", attachment(model).config, name, tensor, tensor)
    warn_if_unfinished(model)
    warn_of_foreign(model)
    directory = Path(directory)
    data = tensor_bytes(state, scalars=True)  # every process gathers
    description = {**describe(model), "sha256": sha256_bytes(data), **({"card": facts} if facts else {})}
    try:
        if not sharded or torch.distributed.get_rank() == 0:
            (directory / CONFIG_NAME).unlink(missing_ok=True)
            write_bytes(directory / WEIGHTS_NAME, data)
            _write_card(directory / CARD_NAME, description)
            write_json(directory / CONFIG_NAME, description)
    except OSError as error:
        raise AdapterError(system_fault(error) or f"{directory}: cannot be written ({error.strerror})") from error
    finally:
        if sharded:
            torch.distributed.barrier()  # nobody reads before the folder is whole
    return directory


def _write_card(path: Path, description: Mapping[str, Any]) -> None:
    """The model card, unless the file there is not one of this project's."""
    present = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if not present or f"library_name: {LIBRARY}" in present.partition("\n---")[0]:
        write_text(path, render_card(description))


def _labels(model: nn.Module) -> int | None:
    """Outputs of the task head, if it has one with another number than transformers gives it by default."""
    number = getattr(getattr(model, "config", None), "num_labels", 2)
    return number if attachment(model).head and number != 2 else None


def _hub_name(model: nn.Module) -> str | None:
    """The name on the hub that the base was loaded by; None for a folder of this machine."""
    name = str(getattr(model, "name_or_path", "") or "")
    return name if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) and not Path(name).exists() else None


def tensor_bytes(tensors: Mapping[str, Any], *, scalars: bool = False) -> bytes:
    """A safetensors file of these tensors, gathered where they are sharded; with `scalars` each learned scalar has
    shape () and not that of the model, (1,).
    """
    whole = {name: _whole(tensor) for name, tensor in tensors.items()}
    if scalars:
        whole = {name: tensor.reshape(stored_shape(name, tensor.shape)) for name, tensor in whole.items()}
    return safetensors.torch.save(whole, metadata={"format": "pt"})


def describe(model: nn.Module) -> dict[str, Any]:
    """The description of the attached method, without what concerns the file of its tensors."""
    config = attachment(model).config
    structure = config.structure(model)
    return {
        "format_version": FORMAT_VERSION,
        "method": config.method,
        "config": config_settings(config),
        "base": describe_base(model),
        "parameter_count": sum(p.numel() for p in model.parameters() if p.requires_grad),
        **({} if structure is None else {"structure": structure}),
    }


def _whole(tensor: Any) -> torch.Tensor:
    whole: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole.detach().to("cpu").contiguous()


def stored_shape(name: str, shape: torch.Size) -> torch.Size:
    """The shape that a tensor of the model has in files."""
    return torch.Size() if name.endswith(SCALAR_NAMES) and shape == (1,) else shape


def read_config(directory: str | Path) -> MethodConfig:
    """Configuration of a saved adapter, without its tensors; AdapterError names the file and the field."""
    path, _ = saved_files(directory)
    return _parse(path, read_description(path))


def check_saved(directory: str | Path) -> None:
    """AdapterError for a damaged description of an adapter of this project or of PEFT, before its base is loaded."""
    path, _ = saved_files(directory)
    if read_stock(path) is None:
        read_config(directory)


def saved_files(directory: str | Path) -> tuple[Path, Path]:
    """Description and tensors of a saved adapter, by `save`, `save_pretrained` or PEFT, whichever came last."""
    folder = Path(directory)
    ours = (folder / PRETRAINED_CONFIG_NAME).is_file() and not _is_own(folder / CONFIG_NAME)
    if ours and not _trained_on_by_peft(folder):
        return folder / PRETRAINED_CONFIG_NAME, folder / PRETRAINED_WEIGHTS_NAME
    names = [name for name in (WEIGHTS_NAME, PRETRAINED_WEIGHTS_NAME) if (folder / name).is_file()]
    return folder / CONFIG_NAME, folder / (names or [WEIGHTS_NAME])[0]


def _trained_on_by_peft(folder: Path) -> bool:
    """Whether PEFT has put other tensors in place of those that `save_pretrained` wrote in its format."""
    try:
        written = read_json(folder / PRETRAINED_CONFIG_NAME).get("peft_sha256")
        return written is not None and sha256_file(folder / WEIGHTS_NAME) != written
    except (DataError, OSError, AttributeError):
        return False


def _is_own(path: Path) -> bool:
    """Whether it is a description in this project's format; PEFT's file has the same name."""
    try:
        content = read_json(path)
    except DataError:
        return False
    return isinstance(content, dict) and "format_version" in content


def load(model: nn.Module, directory: str | Path) -> nn.Module:
    """Attach a saved adapter to its base `model`, in place; returns the model, with torch's random state
    untouched. The folder is one that `save` wrote, or PEFT's `save_pretrained` (see peft_import).

    AdapterError, with the model unchanged, names the file and the field: a missing or damaged file, another
    format version, an unknown field or method, another base, missing or unexpected tensors, other shapes, values
    that are not finite, another method attached.
    """
    if not isinstance(model, nn.Module):
        raise AdapterError(f"load needs the base model, got {type(model).__name__}: load(model, folder)")
    if Path(directory).is_file():
        raise AdapterError(f"{directory}: is a file; name the folder that holds the adapter's files")
    path, weights = saved_files(directory)
    check_attachable(model)
    if any(parameter.is_meta for parameter in model.parameters()):
        raise AdapterError(f"{type(model).__name__} is on the meta device: load the base model's weights first")
    if (stock := read_stock(path)) is not None:
        tensors = read_tensors(weights, {})
        _check_sizes(path, stock, tensors)
        return load_stock(model, path, stock, tensors)
    description = read_description(path)
    config = _parse(path, description)
    _check_base(path, description, model)
    _warn_of_another_base(path, description, model)
    tensors = read_tensors(weights, description)
    _check_sizes(path, description["config"], tensors)
    try:
        attach(model, config)
    except (AdapterError, RuntimeError, MemoryError, OverflowError) as error:
        raise AdapterError(f"{path}: cannot be attached: {error}") from error
    try:
        if "structure" in description:
            _restructure(path, config, model, description["structure"])
        expected = saved_state(model)
        if path.name == PRETRAINED_CONFIG_NAME and not config.adds_modules:  # beside all of the base's other tensors
            tensors = {name: tensor for name, tensor in tensors.items() if name in expected}
        _check_tensors(weights, config, tensors, expected)
    except AdapterError:
        detach(model)
        raise
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(tensors[name].reshape(tensor.shape))
    return model


def read_description(path: Path) -> dict[str, Any]:
    """The content of a description; AdapterError names the file, and a field that is missing, wrong or unknown."""
    try:
        description = read_json(path)
    except DataError as error:
        raise AdapterError(f"{error}; expected an adapter saved by replication.methods.save") from error
    if not isinstance(description, dict):
        raise AdapterError(f"{path}: must hold a JSON object")
    if "peft_type" in description and "format_version" not in description:
        raise AdapterError(f"{path}: is an adapter of PEFT, whose method depends on the model: use load(model, folder)")
    for key, kind in (("format_version", int), ("method", str), ("config", dict), ("base", dict)):
        if not isinstance(description.get(key), kind):
            raise AdapterError(f"{path}: field {key!r} is {description.get(key)!r}, expected {kind.__name__}")
    optional: dict[str, type] = {
        "parameter_count": int,
        "structure": dict,
        "sha256": str,
        "peft_sha256": str,
        "card": dict,
    }
    for key, wanted in optional.items():
        if key in description and not isinstance(description[key], wanted):
            raise AdapterError(f"{path}: field {key!r} is {description[key]!r}, expected {wanted.__name__}")
    if description["format_version"] != FORMAT_VERSION:
        raise AdapterError(
            f"{path}: field 'format_version' is {description['format_version']}; this version reads {FORMAT_VERSION}"
        )
    for where, known, content in (("", FIELDS, description), ("base.", BASE_FIELDS, description["base"])):
        if unknown := sorted(set(content) - set(known)):
            names = ", ".join(where + name for name in unknown)
            raise AdapterError(f"{path}: unknown field(s) {names}; valid fields are {', '.join(known)}")
    return description


def _parse(path: Path, description: dict[str, Any]) -> MethodConfig:
    try:
        return config_from_dict({**description["config"], "method": description["method"]})
    except ConfigError as error:
        raise AdapterError(f"{path}: {error}") from error


def _check_sizes(path: Path, settings: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """AdapterError for a width that no tensor of the file has room for, before memory for it is asked for."""
    if not isinstance(settings, dict):
        return
    room = max([SMALL, *(tensor.numel() for tensor in tensors.values())])
    for name, value in settings.items():
        _check_sizes(path, value, tensors)
        widths = list(value.values()) if name == "rank_pattern" and isinstance(value, dict) else [value]
        if name in SIZES and any(isinstance(width, int) and width > room for width in widths):
            raise AdapterError(
                f"{path}: field {name!r} is above {room:,}, more than any tensor of the adapter has numbers"
            )


def _restructure(path: Path, config: MethodConfig, model: nn.Module, structure: Any) -> None:
    try:
        config.restructure(model, structure)
    except (AdapterError, KeyError, TypeError, ValueError) as error:
        raise AdapterError(f"{path}: field 'structure' cannot be used: {error}") from error


def _check_base(path: Path, description: dict[str, Any], model: nn.Module) -> None:
    actual = describe_base(model)
    saved = dict(description["base"])
    if None in (saved.get("vocabulary"), actual["vocabulary"]):  # not in files of earlier releases
        saved["vocabulary"] = actual["vocabulary"]
    for key, value in actual.items():
        if saved.get(key) != value:
            resize = f", or call model.resize_token_embeddings({saved[key]})" if key == "vocabulary" else ""
            raise AdapterError(
                f"{path}: field 'base.{key}' is {saved.get(key)!r}, but the model given has "
                f"{value!r}; load the base model that the adapter was trained on{resize}"
            )


def _warn_of_another_base(path: Path, description: Mapping[str, Any], model: nn.Module) -> None:
    """A base of the same shape passes every check: its name on the hub is all that is known of its weights."""
    saved, given = description.get("card", {}).get("base_model"), _hub_name(model)
    if saved and given and saved != given:
        warnings.warn(
            f"{path}: the adapter was trained on {saved}, the model given is {given}: the shapes fit, the weights may "
            "be others",
            ReplicationWarning,
            stacklevel=3,
        )


def read_tensors(path: Path, description: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The file of tensors; AdapterError if it is missing, damaged or not the one described."""
    if not path.is_file():
        raise AdapterError(f"{path}: no such file; the adapter's tensors are missing")
    try:
        with safe_open(path, framework="pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path}: not a complete safetensors file ({error})") from error
    stated = description.get("sha256")
    if stated is not None and (actual := sha256_file(path)) != stated:
        raise AdapterError(
            f"{path}: damaged or exchanged: its sha256 is {actual}, field 'sha256' of the configuration is {stated!r}; "
            "copy the folder again, or save again"
        )
    return tensors


def _check_tensors(
    path: Path, config: MethodConfig, tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
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
        _check_value(str(path), config, name, tensor, expected[name])


def _check_value(where: str, config: MethodConfig, name: str, tensor: Any, of_model: Any) -> None:
    """AdapterError if a tensor of the method has NaN or infinity; a buffer of the base may, such as a mask."""
    if not tensor.is_floating_point() or not (isinstance(of_model, nn.Parameter) or config.adds_modules):
        return
    if number := int((~tensor.isfinite()).sum()):
        raise AdapterError(
            f"{where}: tensor {name!r} has {number} value(s) that are NaN or infinite: the training diverged, "
            "or a file is damaged; use an earlier checkpoint or train again"
        )


def _first(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
