"""What `model.save_pretrained` writes while a method is attached: Trainer's checkpoints, its final folder, and uploads.

`attach` puts `save_pretrained` on the model in place of Hugging Face's, which would write names that `from_pretrained`
does not know, and so give random weights without an error; `type(model).save_pretrained(model, folder)` is that of
Hugging Face. `load(base, folder)` reads each of these folders. From `model.safetensors` Trainer, too, reads when it
resumes or takes the best checkpoint.

    lora, random_lora, weight_lora, weight_lora_plus
        model.safetensors, replication_config.json: the trained part, by its names in the model, and its description
        adapter_model.safetensors, adapter_config.json: the same as a LoRA in PEFT's own format
    full, frozen, ft_top2
        model.safetensors, config.json: the whole model, as Hugging Face writes it; `from_pretrained` loads it
        replication_config.json: the description
    any other method
        model.safetensors, adapter_config.json: the trained part and its description, at which `from_pretrained` stops:
        no weight of the base is there
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from replication.errors import AdapterError
from replication.fileio import sha256_bytes, sha256_file, write_bytes, write_json
from replication.methods.lora import LoraConfig
from replication.methods.shared.base import attachment, warn_of_foreign
from replication.methods.shared.hub import push_to_hub as push
from replication.methods.shared.saving import (
    CONFIG_NAME,
    PRETRAINED_CONFIG_NAME,
    PRETRAINED_WEIGHTS_NAME,
    WEIGHTS_NAME,
    describe,
    saved_state,
    tensor_bytes,
)
from replication.peft_export import export_peft_lora


def save_pretrained(
    model: nn.Module,
    save_directory: str | Path,
    is_main_process: bool = True,
    state_dict: Mapping[str, torch.Tensor] | None = None,
    push_to_hub: bool = False,
    **options: Any,
) -> None:
    """Write the attached method to a folder, in place of Hugging Face's method of that name.

    `state_dict`: the model's tensors where its own are sharded. Other options are passed on for methods without
    modules and to `push_to_hub`'s repo_id, token and commit_message; else they have no meaning here.
    """
    folder = Path(save_directory)
    warn_of_foreign(model, stacklevel=4)
    for name in (CONFIG_NAME, WEIGHTS_NAME, PRETRAINED_CONFIG_NAME):  # another adapter's, which `load` would find
        if is_main_process:
            (folder / name).unlink(missing_ok=True)
    if attachment(model).config.adds_modules:
        if is_main_process:
            _write_adapter(model, folder, state_dict)
    else:
        kind: Any = type(model)
        kind.save_pretrained(model, folder, is_main_process=is_main_process, state_dict=state_dict, **options)
        if is_main_process:
            weights = folder / PRETRAINED_WEIGHTS_NAME
            whole = {"sha256": sha256_file(weights)} if weights.is_file() else {}
            write_json(folder / PRETRAINED_CONFIG_NAME, {**describe(model), **whole})
    if push_to_hub and is_main_process:
        chosen = {name: options[name] for name in ("token", "private", "revision", "commit_message") if name in options}
        push(folder, options.get("repo_id", folder.name), **chosen)


def _write_adapter(model: nn.Module, folder: Path, state_dict: Mapping[str, torch.Tensor] | None) -> None:
    state = saved_state(model)
    if state_dict is not None and (missing := sorted(state.keys() - state_dict.keys())):  # DeepSpeed gives {} at first
        warnings.warn(f"{folder}: no adapter written: state_dict has no {missing[0]}", stacklevel=4)
        return
    tensors = state if state_dict is None else {name: state_dict[name] for name in state}
    whole = all(tensors[name].shape == tensor.shape for name, tensor in state.items())
    data = tensor_bytes(tensors)
    write_bytes(folder / PRETRAINED_WEIGHTS_NAME, data)
    description = {**describe(model), "sha256": sha256_bytes(data)}
    if _export(model, folder, whole):
        exported = {"peft_sha256": sha256_file(folder / WEIGHTS_NAME)}  # where PEFT trains on, it is another
        write_json(folder / PRETRAINED_CONFIG_NAME, {**description, **exported})
    else:
        write_json(folder / CONFIG_NAME, description)


def _export(model: nn.Module, folder: Path, whole: bool) -> bool:
    """Whether PEFT's files were written; a warning where a LoRA has no such form."""
    if not isinstance(attachment(model).config, LoraConfig):
        return False
    try:
        if not whole:
            raise AdapterError("its tensors are sharded over several processes")
        export_peft_lora(model, folder, base=getattr(model, "name_or_path", None) or None)
    except AdapterError as error:
        warnings.warn(f"{folder}: not written in PEFT's format: {error}", stacklevel=4)
        return False
    return True
