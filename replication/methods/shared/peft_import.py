"""Loading a folder that PEFT's `save_pretrained` wrote: an adapter of this project, with the logits that
`PeftModel.from_pretrained` has on the same base.

A plain LoRA on whole projections becomes method `lora`, which merges, exports and saves as any; every other type
becomes `peft_baselines`. PEFT's configuration class reads adapter_config.json, its own functions say which modules are
meant and put the tensors in. `modules_to_save` may name the task head, which is trained here with every method.
P-tuning and a projected prefix are saved by PEFT as the prompts that they computed: they become prompt tuning and a
plain prefix.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from replication.errors import AdapterError, ConfigError, DataError
from replication.fileio import read_json
from replication.methods.shared.base import (
    MethodConfig,
    attach,
    attachment,
    detach,
    method_config,
    owned_ids,
    trainable_parameters,
)
from replication.methods.shared.blocks import head_parameters
from replication.methods.shared.projections import linear_shape
from replication.methods.shared.registry import method_class

Tensors = dict[str, torch.Tensor]

PREFIX = "base_model.model."
ADAPTER = "default"
# Fields of PEFT's configurations that change more than an adapter, with the values at which they change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "alora_invocation_tokens": (None,),
}
_OWN_PAIR = re.compile(r"^(.*)\.[^.]+\.(lora_[AB])$")
_PROMPTS = ("prompt_embeddings", "prefix_task_cols", "prefix_task_rows")
_KINDS_NOT_READ = {
    "XLORA": "its experts are other folders",
    "SHADOW": "its second network is trained beside the model",
    "ADAMSS": "its subspaces are found by clustering",
}


def read_stock(path: Path) -> dict[str, Any] | None:
    """adapter_config.json if PEFT wrote it; None for any other file. AdapterError if its tensors are a pickle."""
    try:
        description = read_json(path)
    except DataError:
        return None
    if not isinstance(description, dict) or "peft_type" not in description:
        return None
    pickled = path.with_name("adapter_model.bin")
    if pickled.is_file() and not path.with_name("adapter_model.safetensors").is_file():
        raise AdapterError(
            f"{pickled}: is a pickle, which is not read here; where you trust it, load it with "
            "PeftModel.from_pretrained, and save_pretrained writes adapter_model.safetensors"
        )
    return description


def load_stock(model: nn.Module, path: Path, description: dict[str, Any], tensors: Tensors) -> nn.Module:
    """Attach the adapter of PEFT's configuration at `path`; AdapterError, with the model unchanged, names the field."""
    stock = _parse(path, description)
    tensors = _without_base(path, model, tensors)
    config, put = _method(path, stock, model)
    head = {name: parameter.detach().clone() for name, parameter in head_parameters(model).items()}
    try:
        attach(model, config)
    except AdapterError as error:
        raise AdapterError(f"{path}: cannot be attached: {error}") from error
    try:
        _check_foreign(model, tensors)
        _check_values(tensors)
        put(model, stock, tensors)
    except (AdapterError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        detach(model)
        _copy(head, dict(model.named_parameters()))
        weights = path.with_name("adapter_model.safetensors")
        raise AdapterError(f"{weights}: does not fit {path.name} and the model given: {error}") from error
    return model


def _without_base(path: Path, model: nn.Module, tensors: Tensors) -> Tensors:
    """`tensors` without copies of the base's own, which PEFT saves beside an adapter of embeddings or output layer."""
    base, head = model.state_dict(), head_parameters(model)
    left = {}
    for name, tensor in tensors.items():
        own = base.get(plain := name.removeprefix(PREFIX).replace(".base_layer.", "."))
        if own is None or plain in head:
            left[name] = tensor
        elif tensor.shape != own.shape or not torch.equal(tensor.to(own), own):
            raise AdapterError(
                f"{path.with_name('adapter_model.safetensors')}: tensor {name!r} is another than the base's: the "
                "adapter was trained beside changed weights of the base; load it with PeftModel.from_pretrained, whose "
                "merge_and_unload() gives a model to go on from"
            )
    return left


def _parse(path: Path, description: dict[str, Any]) -> Any:
    from peft import PeftConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind = description["peft_type"]
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        known = ", ".join(sorted(known.value for known in PEFT_TYPE_TO_CONFIG_MAPPING))
        raise AdapterError(f"{path}: field 'peft_type' is {kind!r}; the installed PEFT knows {known}")
    if kind in _KINDS_NOT_READ:
        raise AdapterError(
            f"{path}: field 'peft_type' is {kind!r}: {_KINDS_NOT_READ[kind]}; use PeftModel.from_pretrained, or "
            f"train it here with peft_baselines (name: {kind.lower()})"
        )
    try:
        stock: Any = PeftConfig.from_pretrained(str(path.parent))
    except (TypeError, ValueError, KeyError, OSError, ImportError) as error:
        raise AdapterError(f"{path}: PEFT cannot read it: {error}") from error
    for field, neutral in _NEUTRAL.items():
        value = getattr(stock, field, None)
        if value not in neutral:
            raise AdapterError(
                f"{path}: field {field!r} is {value!r}: it changes more than an adapter; load it with "
                "PeftModel.from_pretrained, whose merge_and_unload() gives a model to go on from"
            )
    return stock


def _method(path: Path, stock: Any, model: nn.Module) -> tuple[MethodConfig, Callable[..., None]]:
    """Our configuration for PEFT's, and how its tensors are put in."""
    try:
        name, settings = method_class("peft_baselines").named(stock)
        if stock.is_prompt_learning:
            return method_config("peft_baselines", name=name, settings=settings), _put_prompts
        _check_saved_modules(path, stock, model)
        targets = None if stock.is_adaption_prompt or name == "trainable_tokens" else _targets(path, stock, model)
        if name == "ia3":
            _check_feedforward(path, stock, targets or ())
        plain = {"r", "lora_alpha", "lora_dropout"} >= settings.keys() and name == "lora"
        if plain and all(linear_shape(model.get_submodule(target)) for target in targets or ()):
            fields = {"rank": stock.r, "alpha": stock.lora_alpha, "dropout": stock.lora_dropout}
            return method_config("lora", **fields, targets=targets), _put_pairs
        return method_config("peft_baselines", name=name, settings=settings, targets=targets), _put_by_peft
    except ConfigError as error:
        raise AdapterError(f"{path}: {error}") from error


def _targets(path: Path, stock: Any, model: nn.Module) -> tuple[str, ...]:
    """Full names of the modules that PEFT would wrap."""
    from peft.tuners.tuners_utils import check_target_module_exists

    if stock.target_modules is None:
        raise AdapterError(f"{path}: field 'target_modules' is null: name the modules that the adapter is for")
    names = tuple(name for name, _ in model.named_modules() if name and check_target_module_exists(stock, name))
    if not names:
        raise AdapterError(
            f"{path}: field 'target_modules' is {stock.target_modules!r}, which matches no module of "
            f"{type(model).__name__}; load the base model that the adapter was trained on"
        )
    if in_head := set(names) & {name.rpartition(".")[0] for name in head_parameters(model)}:
        raise AdapterError(
            f"{path}: field 'target_modules' reaches {min(in_head)} of the task head, which trains as a whole here; "
            "load it with PeftModel.from_pretrained, whose merge_and_unload() gives a model to go on from"
        )
    return names


def _check_feedforward(path: Path, stock: Any, targets: tuple[str, ...]) -> None:
    from peft.tuners.ia3 import IA3Model

    theirs = {name for name in targets if IA3Model._check_target_module_feedforward(stock, name)}
    if theirs != set(method_class("peft_baselines").feedforward(targets)):
        raise AdapterError(
            f"{path}: field 'feedforward_modules' is {stock.feedforward_modules!r}: here they are the second "
            "projections of the feedforward networks among the targets; use PeftModel.from_pretrained"
        )


def _check_saved_modules(path: Path, stock: Any, model: nn.Module) -> None:
    head = head_parameters(model)
    for end in getattr(stock, "modules_to_save", None) or ():
        for name, module in model.named_modules():
            inside = [f"{name}.{parameter}" for parameter, _ in module.named_parameters()]
            if ("." + name).endswith("." + end) and not head.keys() >= set(inside):
                raise AdapterError(
                    f"{path}: field 'modules_to_save' has {end!r}: only a task head trains beside an adapter here; "
                    "load it with PeftModel.from_pretrained, whose merge_and_unload() gives a model to go on from"
                )


# --- tensors ------------------------------------------------------------


def _put_by_peft(model: nn.Module, stock: Any, tensors: Tensors) -> None:
    from peft import set_peft_model_state_dict

    # what PEFT keeps once beside the model stands in its layers here: VeRA's matrices, vector banks
    shared = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    rest = {name: tensor for name, tensor in tensors.items() if name not in shared}
    positions = {name: _positions(model, name) for name in shared}
    own = dataclasses.replace(stock, save_projection=False) if shared and hasattr(stock, "save_projection") else stock
    model.peft_config = {ADAPTER: own}  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if own is not stock else "default")
            result: Any = set_peft_model_state_dict(model, rest, adapter_name=ADAPTER)
    finally:
        model.__dict__.pop("peft_config", None)
    _copy({p: shared[name] for name, found in positions.items() for p in found}, model.state_dict())
    known = {*attachment(model).head, *(position for found in positions.values() for position in found)}
    missing = [name for name in trainable_parameters(model) if name in result.missing_keys and name not in known]
    _complain(missing, [*result.unexpected_keys, *(name for name, found in positions.items() if not found)])


def _positions(model: nn.Module, name: str) -> list[str]:
    """Where a tensor that PEFT's tuner keeps is in our layers: `base_model.vera_A` is any `<module>.vera_A.default`."""
    first, *tail = (part for part in name.removeprefix("base_model.").split(".") if part != ADAPTER)
    end = ".".join(["", first, ADAPTER, *tail])
    return [own for own in model.state_dict() if own.endswith(end)]


def _put_pairs(model: nn.Module, stock: Any, tensors: Tensors) -> None:
    heads, parameters = attachment(model).head, dict(model.named_parameters())
    given = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    places = {_OWN_PAIR.sub(r"\1.\2.weight", name): name for name in trainable_parameters(model) if name not in heads}
    places |= {name: name for name in heads if name in given}
    _complain(places.keys() - given.keys(), given.keys() - places.keys())
    _copy({places[name]: tensor for name, tensor in given.items()}, parameters)


def _put_prompts(model: nn.Module, stock: Any, tensors: Tensors) -> None:
    encoder: Any = next(module for name, module in model.named_modules() if name.endswith(f"prompt_encoder.{ADAPTER}"))
    heads, parameters = attachment(model).head, dict(model.named_parameters())
    given = {name.removeprefix("base_model."): tensor for name, tensor in tensors.items()}
    prompts = {name: given.pop(name) for name in _PROMPTS if name in given}
    _complain({"prompt_embeddings"} - prompts.keys(), given.keys() - set(heads))
    rows = stock.num_virtual_tokens  # of an encoder-decoder PEFT keeps the decoder's too, which it does not read
    prompts["prompt_embeddings"] = prompts["prompt_embeddings"][:rows]
    encoder._load_adapter_state_dict(prompts)
    _copy(given, parameters)


def _copy(values: Tensors, parameters: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            if value.shape != parameters[name].shape:
                expected = tuple(parameters[name].shape)
                raise AdapterError(f"tensor {name!r} has shape {tuple(value.shape)}, expected {expected}")
            parameters[name].copy_(value)


def _complain(missing: Iterable[str], unexpected: Iterable[str]) -> None:
    parts = [
        f"{label} {', '.join(sorted(n)[:5])}" for label, n in (("missing", missing), ("unexpected", unexpected)) if n
    ]
    if parts:
        raise AdapterError("; ".join(parts))


def _check_values(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise AdapterError(f"tensor {name!r} has values that are not finite")


def _check_foreign(model: nn.Module, tensors: Tensors) -> None:
    """No tensor may replace one of the base model."""
    given = {name.removeprefix(PREFIX) for name in tensors} & model.state_dict().keys()
    own = {name for name, parameter in model.named_parameters() if id(parameter) in owned_ids(model)}
    _complain((), given - own - set(attachment(model).head))
