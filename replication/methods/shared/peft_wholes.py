"""PEFT types that are more than layers around projections, inside a model: prompts, mixtures, a second network.

PEFT runs them from a wrapper around the model. Here the parts live in the model, which keeps its class; `WHOLES` has,
by PEFT's type, how each goes in and out, and which tensors are its own. Implementation details:

1. Virtual tokens: see virtual_tokens.
2. `adaption_prompt` (LLaMA-Adapter, Zhang et al. 2023, arXiv 2303.16199) replaces the attention of the topmost
   `adapter_layers` blocks, by default of all. PEFT knows Llama, Mistral and GPT-2.
3. `xlora` (Buehler and Buehler 2024, arXiv 2402.07148) mixes LoRA adapters that were trained before:
   `settings.adapters` names their folders, in PEFT's format, which `export_peft_lora` writes too. Its scalings need the
   whole text: it runs without a cache, twice through the base, and for one thread at a time.
4. `shadow` runs a small copy of the backbone beside the blocks of a decoder. Where a call has labels, PEFT's auxiliary
   loss is added to the model's; a loss that is taken from the logits has none. What PEFT makes but never reads, an
   embedding table in GPT-2's copy and the update behind the last block, is left out or does not train. PEFT keeps the
   state of a call in one object: one thread at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from replication.errors import AdapterError
from replication.methods.shared.base import cast_inputs
from replication.methods.shared.blocks import find_decoder
from replication.methods.shared.projections import replace_module
from replication.methods.shared.virtual_tokens import (
    CACHED,
    EMBEDDED,
    ENCODER,
    cache_argument,
    given_cache,
    prompt_fields,
    put_tokens_before,
    take_tokens_off,
    task_type,
)

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Whole:
    """`fields(name, settings, model)`: what the model decides of PEFT's configuration. `install(model, name,
    peft_config, adapter)` and `uninstall(model)`: into the model and out. `tensors(model)`: the method's own, but for
    those in PEFT's layers.
    """

    fields: Callable[[str, Any, nn.Module], dict[str, Any]]
    install: Callable[[nn.Module, str, Any, str], None]
    uninstall: Callable[[nn.Module], None]
    tensors: Callable[[nn.Module], list[torch.Tensor]]


_NO_START = "random virtual tokens stand before the input from the start"
_NO_CHECKPOINTS = "AdapterError: checkpointing drops the cache that the prefix lives in"
EXEMPT: dict[str, dict[str, str]] = {
    **{name: {"starts as the base": _NO_START} for name in EMBEDDED},
    "cpt": {
        "starts as the base": "the tokens of cpt_token_ids stand before the input from the start",
        **dict.fromkeys(
            ("merges into a plain model", "copies independently", "keeps threads apart"),
            "every call bounds the deltas anew, which moves their last bits",
        ),
    },
    **{name: {"starts as the base": _NO_START, "checkpoints the same gradients": _NO_CHECKPOINTS} for name in CACHED},
    "adaption_prompt": {
        **dict.fromkeys(
            ("keeps bfloat16", "trains in float32"),
            "PEFT multiplies its prompts with the model's projections, so they have the model's dtype",
        )
    },
    "adamss": {"attaches without memory": "AdapterError: it clusters the columns of the weights"},
    "frod": {"attaches without memory": "AdapterError: it decomposes the weights"},
    "shira": {"attaches without memory": "AdapterError: it chooses entries of the weights"},
    "shadow": {"keeps threads apart": "one thread at a time: its modules hold the states of the call"},
    "xlora": {
        "starts as the base": "it mixes adapters that were trained",
        "decodes with a cache": "the mixture depends on the whole text: generate runs without a cache",
        "checkpoints the same gradients": "AdapterError: the second pass would not have the mixture",
        "keeps threads apart": "one thread at a time: its first pass switches the experts of the model off",
        "attaches without memory": "AdapterError: it reads adapters from disk",
    },
}
"""Laws of `replication.testing.laws` that cannot hold, with the reason."""


# --- LLaMA-Adapter ------------------------------------------------------------


def _adaption_fields(name: str, settings: Settings, model: nn.Module) -> dict[str, Any]:
    return {} if settings.get("adapter_layers") else {"adapter_layers": len(find_decoder(model).blocks)}


def _put_prompts_in_attention(model: nn.Module, name: str, peft_config: Any, adapter: str) -> None:
    from peft import AdaptionPromptModel

    AdaptionPromptModel(model, {adapter: peft_config}, adapter)


def adapted_attentions(model: nn.Module) -> list[nn.Module]:
    """PEFT's wrappers around attention modules."""
    from peft.tuners.adaption_prompt.layer import _BaseAdaptedAttention

    return [module for module in model.modules() if isinstance(module, _BaseAdaptedAttention)]


def _take_prompts_out_of_attention(model: nn.Module) -> None:
    for wrapper in adapted_attentions(model):
        replace_module(model, wrapper, wrapper.model)  # type: ignore[arg-type]


# --- X-LoRA ------------------------------------------------------------

_CLASSIFIER = "xlora_classifier"


class _Mixed:
    """The forward of one model, with X-LoRA's hooks around it."""

    def __init__(self, model: Any, tuner: Any, used_cache: bool | None):
        self.model, self.tuner, self.used_cache = model, tuner, used_cache
        self.inside: set[int] = set()  # threads that are in a call: PEFT's first pass calls this forward again

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        thread, kind = threading.get_ident(), type(self.model)
        if thread in self.inside:
            return kind.forward(self.model, *args, **kwargs)
        if (cache := given_cache(kwargs)) is not None and cache.get_seq_length():
            raise AdapterError(
                f"{kind.__name__}: xlora mixes by the whole text: call it without {cache_argument(self.model)}"
            )
        if self.model.training and getattr(self.model.base_model, "gradient_checkpointing", False):
            raise AdapterError(
                f"{kind.__name__}: gradient checkpointing computes again without X-LoRA's scalings; switch it off "
                "(gradient_checkpointing: false)"
            )
        self.inside.add(thread)
        try:
            with self.tuner._enable_peft_forward_hooks():
                return self.model(*args, **{**kwargs, "use_cache": False})
        finally:
            self.tuner.internal_xlora_scalings = None  # part of a graph: a copy of the model would fail
            self.inside.discard(thread)


class _Uncached:
    """The `generate` of one model, without a cache."""

    def __init__(self, model: nn.Module):
        self.model: Any = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return type(self.model).generate(self.model, *args, **{**kwargs, "use_cache": False})


def _mixture_fields(name: str, settings: Settings, model: nn.Module) -> dict[str, Any]:
    config: Any = model.config
    fields: dict[str, Any] = {"adapters": {str(i): folder for i, folder in enumerate(settings["adapters"].values())}}
    return fields if settings.get("hidden_size") else {**fields, "hidden_size": config.get_text_config().hidden_size}


def _mix(model: nn.Module, name: str, peft_config: Any, adapter: str) -> None:
    from peft.tuners.xlora import XLoraModel

    config: Any = model.config
    if config.is_encoder_decoder or getattr(model, "base_model_prefix", "") != "model":
        raise AdapterError(
            f"xlora: PEFT finds the experts' layers only in decoders whose body is called `model`, as Llama's and "
            f"Mistral's; {type(model).__name__} is none"
        )
    if next(model.parameters()).is_meta:
        raise AdapterError(f"xlora: {type(model).__name__} is on the meta device: load the base model's weights first")
    for folder in peft_config.adapters.values():
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            if not (Path(folder) / file).is_file():
                raise AdapterError(
                    f"{Path(folder) / file}: no such file; settings.adapters must name folders of LoRA adapters in "
                    "PEFT's format, with safetensors"
                )
    used_cache, config.use_cache = config.use_cache, False
    forward = _Mixed(model, None, used_cache)
    model.forward = forward
    device = next(model.parameters()).device
    forward.tuner = XLoraModel(model, peft_config, adapter, torch_device=str(device))
    model.generate = _Uncached(model)  # type: ignore[assignment]
    classifier = forward.tuner.internal_xlora_classifier
    for layer in classifier.layers:
        layer.register_forward_pre_hook(cast_inputs, with_kwargs=True)
    setattr(find_decoder(model).owner, _CLASSIFIER, classifier)
    for parameter in classifier.parameters():
        parameter.requires_grad_(True)


def _unmix(model: nn.Module) -> None:
    forward = model.__dict__.pop("forward", None)
    model.__dict__.pop("generate", None)
    if isinstance(forward, _Mixed):
        config: Any = model.config
        config.use_cache = forward.used_cache
    for module in list(model.modules()):
        module._modules.pop(_CLASSIFIER, None)


# --- Shadow ------------------------------------------------------------

_SHADOW_PARTS = ("shadow_backbone", "shadow_projection", "shadow_head")
_SHADOW = "_replication_shadow"


class _InDtypeOf:
    """A hook behind a module: its output has the dtype of the model's own weights."""

    def __init__(self, model: nn.Module):
        self.model = model

    def __call__(self, module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        embedding: Any = self.model.get_input_embeddings()  # type: ignore[operator]
        return output.to(embedding.weight.dtype)


class _AfterShadow:
    """Adds PEFT's auxiliary loss, and drops the state of the call: a copy of the model would fail."""

    def __init__(self, tuner: Any):
        self.tuner = tuner

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        labels = kwargs.get("labels")
        if labels is not None and getattr(output, "loss", None) is not None:
            loss = self.tuner.shadow_auxiliary_loss(labels, attention_mask=kwargs.get("attention_mask"))
            if loss is not None:
                config = self.tuner.peft_config[self.tuner.active_adapters[0]]
                output.loss = output.loss + config.auxiliary_loss_weight * loss
        self.tuner._seed_shadow_state = None
        return output


def _shadow_fields(name: str, settings: Settings, model: nn.Module) -> dict[str, Any]:
    return {"task_type": task_type(model)}


def _run_beside(model: nn.Module, name: str, peft_config: Any, adapter: str) -> None:
    from peft.tuners.shadow import ShadowModel

    if task_type(model) == "SEQ_2_SEQ_LM":
        raise AdapterError(f"shadow is for decoders without an encoder; {type(model).__name__} has one")
    tuner = ShadowModel(model, peft_config, adapter)
    backbone: Any = tuner.shadow_backbone[adapter]
    last = tuner._boundary_layers[-1]
    if tuner._shadow_share_embeddings[adapter] and "wte" in backbone._modules:
        table = backbone.wte.weight
        backbone.wte = nn.Embedding(1, table.shape[1], device=table.device, dtype=table.dtype).requires_grad_(False)
    for unread in (last.shadow_update_transform, last.shadow_update_gate):
        unread.requires_grad_(False)
    after = _AfterShadow(tuner)
    tuner._boundary_hook_handles.append(model.register_forward_hook(after, with_kwargs=True))
    backbone.register_forward_pre_hook(cast_inputs, with_kwargs=True)
    tuner.shadow_projection[adapter].register_forward_hook(_InDtypeOf(model))
    owner = find_decoder(model).owner
    for part in _SHADOW_PARTS:
        setattr(owner, part, getattr(tuner, part))
    setattr(model, _SHADOW, after)
    if (device := next(model.parameters()).device).type == "meta":
        model.to(device)


def _stop_beside(model: nn.Module) -> None:
    after = model.__dict__.pop(_SHADOW, None)
    for handle in after.tuner._boundary_hook_handles if after else ():
        handle.remove()
    for module in list(model.modules()):
        for part in _SHADOW_PARTS:
            module._modules.pop(part, None)


# --- all of them ------------------------------------------------------------


def _of_children(*names: str) -> Callable[[nn.Module], list[torch.Tensor]]:
    def tensors(model: nn.Module) -> list[torch.Tensor]:
        children = [child for module in model.modules() for name, child in module._modules.items() if name in names]
        return [tensor for child in children if child is not None for tensor in (*child.parameters(), *child.buffers())]

    return tensors


def _of_attentions(model: nn.Module) -> list[torch.Tensor]:
    return [tensor for wrapper in adapted_attentions(model) for tensor in wrapper.parameters(recurse=False)]


_TOKENS = Whole(prompt_fields, put_tokens_before, take_tokens_off, _of_children(ENCODER))
WHOLES: dict[str, Whole] = {
    **dict.fromkeys((*EMBEDDED, *CACHED), _TOKENS),
    "adaption_prompt": Whole(
        _adaption_fields, _put_prompts_in_attention, _take_prompts_out_of_attention, _of_attentions
    ),
    "xlora": Whole(_mixture_fields, _mix, _unmix, _of_children(_CLASSIFIER)),
    "shadow": Whole(_shadow_fields, _run_beside, _stop_beside, _of_children(*_SHADOW_PARTS)),
}


def first_task(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """A hook before Poly's layers: every row is of task 0, the only one that is trained here."""
    rows = args[0]
    return args, {"task_ids": torch.zeros(len(rows), dtype=torch.long, device=rows.device), **kwargs}
