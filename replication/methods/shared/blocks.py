"""Locating the decoder blocks, the width and the task head of a Hugging Face model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from torch import nn

from replication.errors import AdapterError


@dataclass(frozen=True)
class DecoderStack:
    """The transformer blocks of a decoder; `owner` is the module whose forward runs all of them, in order."""

    owner: nn.Module
    blocks: tuple[nn.Module, ...]
    width: int


def find_decoder(model: nn.Module) -> DecoderStack:
    """Blocks of a causal model, or of the decoder of an encoder-decoder model (BART); AdapterError if there
    are none.

    The blocks are the outermost nn.ModuleList with the most parameters below the decoder: `transformer.h`,
    `model.layers`, `model.decoder.layers`. The width is `config.hidden_size` (an alias of BART's d_model).
    """
    config: Any = getattr(model, "config", None)
    body: Any = getattr(model, "base_model", model)
    if getattr(config, "is_encoder_decoder", False) and hasattr(body, "get_decoder"):
        body = body.get_decoder()
    lists = _outermost_lists(body)
    if not lists:
        raise AdapterError(f"{type(model).__name__}: no list of transformer blocks found; pass a Hugging Face model")
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()
    width = getattr(config, "hidden_size", None)
    if not isinstance(width, int):
        raise AdapterError(f"{type(model).__name__}: its configuration has no hidden_size")
    owner, blocks = max(lists, key=lambda pair: sum(parameter.numel() for parameter in pair[1].parameters()))
    return DecoderStack(owner, tuple(blocks), width)


def _outermost_lists(module: nn.Module) -> list[tuple[nn.Module, nn.ModuleList]]:
    found: list[tuple[nn.Module, nn.ModuleList]] = []
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            found.append((module, child))
        else:
            found.extend(_outermost_lists(child))
    return found


def describe_base(model: nn.Module) -> dict[str, Any]:
    """{"class", "width", "blocks", "vocabulary"} of a model, to check that saved weights fit it; None if not to be
    found.
    """
    kind = type(model).__mro__[2 if is_sharded(model) else 0].__name__
    base = {"class": kind, "width": None, "blocks": None, "vocabulary": _vocabulary(model)}
    try:
        stack = find_decoder(model)
    except AdapterError:
        return base
    return {**base, "width": stack.width, "blocks": len(stack.blocks)}


def _vocabulary(model: nn.Module) -> int | None:
    """Rows of the input embeddings, after any resizing."""
    root: Any = model
    try:
        embeddings = root.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    weight = getattr(getattr(embeddings, "base_layer", embeddings), "weight", None)  # inside a wrapper of PEFT's
    return len(weight) if isinstance(weight, nn.Parameter) else None


def is_sharded(module: nn.Module) -> bool:
    """Whether FSDP2 manages it: `fully_shard` makes its class FSDPX(FSDPModule, X)."""
    return type(module).__mro__[1].__name__ == "FSDPModule"


_LANGUAGE_MODELS = ("MaskedLM", "CausalLM", "LMHeadModel", "ConditionalGeneration")
_CLASSIFIERS = ("QuestionAnswering", "Classification", "MultipleChoice")


def head_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of a task head, by name: those outside the pretrained body, without a language-model head.

    The body is `model.base_model`; where the class has none (T5ForQuestionAnswering), the children that hold blocks or
    embeddings; in a module of one's own, the Hugging Face models in it. Sequence classification: pooler
    and classifier (DeBERTa-v2, BERT, MPNet), Llama's `score`. BERT keeps its pooler in the base, and sentence-embedding
    weights such as MiniLM's never trained it: it counts as head there, as in DeBERTa. Language models, causal, masked
    and sequence-to-sequence, have none. Every method trains the head.
    """
    root: Any = model
    kind = type(model).__name__
    bodies = _bodies(model)
    if not bodies or kind.endswith(_LANGUAGE_MODELS):
        return {}
    shared = {id(parameter) for body in bodies for parameter in body.parameters()}
    language_head = root.get_output_embeddings() if hasattr(root, "get_output_embeddings") else None
    head: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        child = getattr(model, name.partition(".")[0])
        of_language = language_head is not None and isinstance(child, nn.Module) and language_head in child.modules()
        if id(parameter) not in shared and not of_language:
            head[name] = parameter
    pooler = getattr(bodies[0], "pooler", None) if bodies[0] is getattr(model, "base_model", None) else None
    if head and isinstance(pooler, nn.Module):
        prefix = next(name for name, child in model.named_children() if child is bodies[0])
        head.update(pooler.named_parameters(prefix=f"{prefix}.pooler"))
    return head


def _bodies(model: nn.Module) -> list[nn.Module]:
    """The modules that are the pretrained body; none where the model is one itself."""
    body = getattr(model, "base_model", None)
    if body is None:
        return _outermost_models(model)
    if body is not model:
        return [body]
    if not type(model).__name__.endswith(_CLASSIFIERS):
        return []
    return [c for c in model.children() if any(isinstance(m, nn.ModuleList | nn.Embedding) for m in c.modules())]


def _outermost_models(module: nn.Module) -> list[nn.Module]:
    """Hugging Face models in a module that is none."""
    found = []
    for child in module.children():
        found += [child] if hasattr(child, "base_model") else _outermost_models(child)
    return found


def refuse_peft(model: nn.Module) -> None:
    """AdapterError, with the fix, for a PeftModel and for a model that PEFT has put layers into."""
    if "peft" not in sys.modules:
        return
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    kind = type(model).__name__
    if isinstance(model, PeftModel):
        undo = "get_base_model()" if model.active_peft_config.is_prompt_learning else "unload()"
        merged = "" if "get" in undo else ", or `model.merge_and_unload()` with its adapter in the weights"
        raise AdapterError(
            f"{kind} is PEFT's wrapper, with {', '.join(map(repr, model.peft_config))} in it: attach to the base "
            f"model, which `model.{undo}` gives back without{merged}; `load(base, folder)` reads the folder that its "
            "save_pretrained writes"
        )
    base: Any = BaseTunerLayer
    layer = next((name for name, module in model.named_modules() if isinstance(module, base)), None)
    if layer is not None:
        raise AdapterError(
            f"{kind} has layers of PEFT in it ({layer}): take them out with `unload()` or `merge_and_unload()` of the "
            "PEFT model that put them in, or load the base model again"
        )
