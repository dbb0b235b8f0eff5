"""Writing a trained LoRA, WeightLoRA or WeightLoRA+ as a plain PEFT LoRA folder that stock PEFT loads.

PEFT computes h = W x + (alpha / r) B A x with r and alpha of each module. So the importance weight is merged into
lora_B; `rank_pattern` has the module's rank, and `alpha_pattern` alpha = s r, with s the scale that was trained
with: that of an expanded pair keeps the initial rank. Pairs on slices of a fused projection become one pair on
the whole of it: A stacked, each B in its own rows and columns, zeros elsewhere; the rank is the sum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from replication.errors import AdapterError, DataError
from replication.fileio import read_json, write_bytes, write_json
from replication.methods.lora import LoraConfig, LoraLinear, lora_layers
from replication.methods.shared.base import attachment, uncompiled
from replication.methods.shared.watching import state_names

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."


def export_peft_lora(model: nn.Module, directory: str | Path, *, base: str | None = None) -> Path:
    """Write the attached pairs and the task head to `directory` (made if missing); returns the folder.

    `PeftModel.from_pretrained(base_model, directory)` then has the same logits up to float rounding. `base` is the
    name under which others find the base model. The model is unchanged, merged or not. AdapterError where
    nothing is attached, the method is no LoRA, no pair is left, the model is on the meta device, or the folder
    holds an adapter of this project's own format.
    """
    model = uncompiled(model)
    record = attachment(model)
    config, layers = _lora_of(model)
    directory = Path(directory)
    _refuse_own_format(directory)
    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for name, layer in layers.items():
        lora_A, lora_B, scale = one_pair(layer)
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = lora_A
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = lora_B
        ranks[name] = len(lora_A)
        alphas[name] = scale * len(lora_A)
    parameters = dict(model.named_parameters())
    tensors.update((_PREFIX + name, parameters[name].detach()) for name in record.head)
    heads = _head_modules(model, record.head)
    tensors.update(_head_buffers(model, heads))
    description = _description(model, layers, ranks, alphas, heads, config, base)
    (directory / CONFIG_NAME).unlink(missing_ok=True)
    plain = {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    write_bytes(directory / WEIGHTS_NAME, safetensors.torch.save(plain, metadata={"format": "pt"}))
    write_json(directory / CONFIG_NAME, description)
    return directory


def one_pair(layer: LoraLinear) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A (R, in), B (out, R) and scale of a wrapped projection: its update is scale B A, with R the sum of the
    slices' ranks. In float32 or better, importance weights folded in.
    """
    updates = layer.updates()
    scale = updates[0][1].scaling
    wide = torch.promote_types(updates[0][1].lora_A.dtype, torch.float32)
    with torch.no_grad():
        lora_A = torch.cat([update.lora_A.detach().to(wide) for _, update in updates])
        lora_B = lora_A.new_zeros(layer.out_features, len(lora_A))
        column = 0
        for piece, update in updates:
            rank = len(update.lora_A)
            weight = getattr(update, "importance_weight", None)
            folded = update.lora_B.to(wide) * (update.scaling / scale)
            folded = folded if weight is None else folded * weight.reshape(()).to(wide)
            piece.rows(lora_B)[..., column : column + rank] = folded.unflatten(0, (piece.groups, -1))
            column += rank
    return lora_A, lora_B, float(scale)


def _lora_of(model: nn.Module) -> tuple[LoraConfig, dict[str, LoraLinear]]:
    config = attachment(model).config
    if not isinstance(config, LoraConfig):
        raise AdapterError(
            f"method {config.method} cannot be exported as a PEFT LoRA: only lora, random_lora, weight_lora and "
            "weight_lora_plus are low-rank updates of single projections made here"
        )
    layers = lora_layers(model)
    if not layers:
        raise AdapterError(f"{type(model).__name__} has no adapter left: there is nothing to export")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise AdapterError(f"{type(model).__name__} is on the meta device and has no weights to export")
    positions = [m for _, m in model.named_modules(remove_duplicate=False) if isinstance(m, LoraLinear)]
    if len(positions) != len(layers):
        raise AdapterError(
            f"{type(model).__name__} uses one projection in several positions, which PEFT does not support"
        )
    return config, layers


def _refuse_own_format(directory: Path) -> None:
    try:
        present = read_json(directory / CONFIG_NAME)
    except DataError:
        return
    if isinstance(present, dict) and "format_version" in present:
        raise AdapterError(
            f"{directory}: holds an adapter saved by replication.methods.save, which the export would overwrite; "
            "choose another folder"
        )


def _head_modules(model: nn.Module, head: tuple[str, ...]) -> list[str]:
    """Names of the modules of the head: outside the base model, or its direct children (BERT's pooler)."""
    for name in head:
        if "." not in name:
            raise AdapterError(f"parameter {name!r} of the task head is not in a submodule: PEFT cannot save it")
    base = getattr(model, "base_model_prefix", "")
    parts = [name.split(".") for name in head]
    return list(dict.fromkeys(".".join(part[:2]) if part[0] == base else part[0] for part in parts))


def _head_buffers(model: nn.Module, heads: list[str]) -> dict[str, torch.Tensor]:
    persistent = state_names(model)
    return {
        _PREFIX + name: buffer
        for name, buffer in model.named_buffers()
        if name.startswith(tuple(f"{head}." for head in heads)) and name in persistent
    }


def _description(
    model: nn.Module,
    layers: dict[str, LoraLinear],
    ranks: dict[str, int],
    alphas: dict[str, float],
    heads: list[str],
    config: LoraConfig,
    base: str | None,
) -> dict[str, Any]:
    """PEFT's adapter_config.json: the fields that every version of PEFT with `alpha_pattern` knows."""
    first = next(iter(layers))
    return {
        "peft_type": "LORA",
        "task_type": None,
        "auto_mapping": {"base_model_class": type(model).__name__, "parent_library": type(model).__module__},
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": ranks[first],
        "lora_alpha": alphas[first],
        "lora_dropout": config.input_dropout(),
        "bias": "none",
        "fan_in_fan_out": any(isinstance(layer.base_layer, Conv1D) for layer in layers.values()),
        "target_modules": list(layers),
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != ranks[first]},
        "alpha_pattern": {name: alpha for name, alpha in alphas.items() if alpha != alphas[first]},
        "modules_to_save": heads or None,
    }
