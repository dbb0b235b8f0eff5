"""Prompt learning of PEFT inside a model: virtual tokens before the input, taken off again behind the blocks.

PEFT puts them in front in a wrapper around the model. Here the module that runs the blocks gets them, so that the model
keeps its class, its task head sees the real positions only, and labels, pooling and `generate` need nothing special.
Implementation details:

1. `PeftModel` makes the prompt encoder and calls it (`get_prompt`); it is kept beside the model, not in it. The encoder
   is a child of that module, `prompt_encoder`, as in PEFT.
2. Prompt tuning, P-tuning, multitask prompt tuning and CPT put embeddings before those of the input; prefix tuning and
   cartridges put keys and values into an empty cache. Given a cache that is not empty, the virtual tokens are in it.
3. Causal models have PEFT's logits at the real positions. So does an encoder with a classifier, which in PEFT reads the
   first virtual token instead of [CLS]: nothing is taken off there. A head that classifies at the last token finds it
   also where rows are padded, which PEFT's does not. `position_ids` and `token_type_ids` may be given.
4. Encoder-decoders get embeddings before the encoder's input, prefixes in the decoder's cache, as in PEFT.
5. There is one task: multitask prompt tuning trains task 0. The loss is that of every method, on real positions: PEFT's
   also scores the first token of a text, which the last virtual one predicts, and has a weighting of labels for CPT.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from replication.errors import AdapterError
from replication.training.checks import VIRTUAL_TOKENS

CACHED = ("prefix_tuning", "cartridge")
EMBEDDED = ("prompt_tuning", "p_tuning", "multitask_prompt_tuning", "cpt")
CACHE_NAMES = ("cache", "past_key_values")
"""Arguments that hold the cache of keys and values: since transformers 5.24, and before."""
ENCODER = "prompt_encoder"


def task_type(model: nn.Module) -> str:
    """PEFT's name of the model's task, by its class."""
    if getattr(model.config, "is_encoder_decoder", False):
        return "SEQ_2_SEQ_LM"
    ends = {
        "ForSequenceClassification": "SEQ_CLS",
        "ForMultipleChoice": "SEQ_CLS",
        "ForQuestionAnswering": "QUESTION_ANS",
        "ForTokenClassification": "TOKEN_CLS",
        "ForCausalLM": "CAUSAL_LM",
        "LMHeadModel": "CAUSAL_LM",
    }
    kind = type(model).__name__
    return next((task for end, task in ends.items() if kind.endswith(end)), "FEATURE_EXTRACTION")


def prompt_fields(name: str, settings: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Fields of PEFT's configuration that the model decides."""
    config: Any = model.config
    fields: dict[str, Any] = {"task_type": task_type(model)}
    if name in ("p_tuning", "prefix_tuning"):
        fields["encoder_hidden_size"] = config.get_text_config().hidden_size
    if name in EMBEDDED:  # OPT and ALBERT embed in fewer dimensions than they compute in
        fields["token_dim"] = model.get_input_embeddings().embedding_dim  # type: ignore[operator]
    if config.is_encoder_decoder and name in EMBEDDED:
        fields["num_transformer_submodules"] = 1
    if config.is_encoder_decoder and name in CACHED:
        fields |= {"num_layers": config.decoder_layers, "num_attention_heads": config.decoder_attention_heads}
    return {key: value for key, value in fields.items() if settings.get(key) is None}


def put_tokens_before(model: nn.Module, name: str, peft_config: Any, adapter: str) -> None:
    """Give the model virtual tokens of PEFT's configuration; AdapterError or PEFT's own error if they do not fit."""
    from peft import PeftModel

    target = _running_module(model, name)
    if name in CACHED and cache_argument(target) is None:
        raise AdapterError(
            f"{name} needs a cache of keys and values, which {type(target).__name__} does not have; "
            f"{', '.join(EMBEDDED[:3])} need none"
        )
    host = PeftModel(model, peft_config, adapter_name=adapter)
    setattr(target, ENCODER, host.prompt_encoder)
    target.forward = WithVirtualTokens(target, host, cached=name in CACHED, cut=_is_cut(model))
    if task_type(model) == "SEQ_2_SEQ_LM" and name in EMBEDDED:
        body: Any = model.base_model
        body.forward = WithLongerMask(body, peft_config.num_virtual_tokens)
    setattr(model, VIRTUAL_TOKENS, peft_config.num_virtual_tokens)


def cache_argument(module: nn.Module) -> str | None:
    """What the forward of the module's class calls its cache of keys and values; None if it takes none."""
    accepted = inspect.signature(type(module).forward).parameters
    return next((name for name in CACHE_NAMES if name in accepted), None)


def given_cache(call: Mapping[str, Any]) -> Any:
    """The cache of keys and values among named arguments; None if there is none."""
    return next((call[name] for name in CACHE_NAMES if call.get(name) is not None), None)


def take_tokens_off(model: nn.Module) -> None:
    """Undo `put_tokens_before`."""
    for module in list(model.modules()):
        if isinstance(module.__dict__.get("forward"), _Rerouted):
            del module.__dict__["forward"]
            module._modules.pop(ENCODER, None)
    model.__dict__.pop(VIRTUAL_TOKENS, None)


def _running_module(model: nn.Module, name: str) -> nn.Module:
    body: Any = model.base_model
    task = task_type(model)
    if task == "CAUSAL_LM":  # OPT, and the decoders of BART and Marian, are called past the modules around them
        return [body, *filter(_takes_tokens, body.modules())][-1]
    if task != "SEQ_2_SEQ_LM":
        return body
    return body.get_encoder() if name in EMBEDDED else body.get_decoder()


def _takes_tokens(module: nn.Module) -> bool:
    """Whether it runs blocks on tokens."""
    blocks = any(isinstance(child, nn.ModuleList) for child in module.modules())
    return blocks and {"input_ids", "inputs_embeds"} <= inspect.signature(type(module).forward).parameters.keys()


def _is_cut(model: nn.Module) -> bool:
    """Whether outputs at virtual tokens are taken off: not before a head that pools the first position."""
    task = task_type(model)
    return task not in ("SEQ_CLS", "SEQ_2_SEQ_LM") or isinstance(getattr(model, "score", None), nn.Module)


class _Rerouted:
    """A callable in place of the `forward` of one instance; a deep copy of the model has its own."""

    def __init__(self, module: nn.Module):
        self.module: Any = module

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(type(self.module).forward)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a call by name."""
        given = self.__signature__.bind_partial(*args).arguments
        return {**given, **kwargs}

    def original(self, call: dict[str, Any]) -> Any:
        """The forward of the module's class."""
        return type(self.module).forward(self.module, **call)


class WithVirtualTokens(_Rerouted):
    """Runs the blocks with virtual tokens before the input; see the module's text."""

    def __init__(self, module: nn.Module, host: Any, *, cached: bool, cut: bool):
        super().__init__(module)
        self.host, self.cached, self.cut = host, cached, cut

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The class's forward, with virtual tokens first."""
        call = self.named(args, kwargs)
        given: Any = call.get("input_ids") if call.get("inputs_embeds") is None else call["inputs_embeds"]
        rows, length = given.shape[:2]
        count, cache = self.host.active_peft_config.num_virtual_tokens, given_cache(call)
        past = cache.get_seq_length() if cache is not None else 0
        self._check_room(length, past or count)
        mask = call.get("attention_mask")
        if mask is not None and mask.shape[1] == length + max(past - count, 0):
            call["attention_mask"] = torch.cat([mask.new_ones(rows, count), mask], dim=1)
        if call.get("position_ids") is not None:
            call["position_ids"] = call["position_ids"] + count
        if past:
            return self.original(call)
        if self.cached:
            name = cache_argument(self.module) or CACHE_NAMES[0]
            rest = {key: value for key, value in call.items() if key not in CACHE_NAMES}  # an empty cache, if any
            output = self.original({**rest, name: self._prefix(rows)})
            if call.get("use_cache") is False and not isinstance(output, tuple):
                setattr(output, name, None)  # else `generate` goes on from it
            return output
        return self._shortened(self.original(self._lengthened(call, given, rows, count)), count)

    def __deepcopy__(self, memo: dict[int, Any]) -> WithVirtualTokens:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        for encoder in twin.host.prompt_encoder.values():
            if hasattr(encoder, "set_updated_tokens"):  # CPT's hook on a parameter, which a copy of it does not have
                encoder.set_updated_tokens()
        return twin

    def _lengthened(self, call: dict[str, Any], given: torch.Tensor, rows: int, count: int) -> dict[str, Any]:
        embed = self.module.get_input_embeddings()
        embeds = call["inputs_embeds"] if call.get("inputs_embeds") is not None else embed(given)
        task = torch.zeros(1, dtype=torch.long, device=embeds.device)
        prompts = self.host.get_prompt(1, task_ids=task)[:, :count].to(embeds.dtype).expand(rows, -1, -1)
        call = {**call, "input_ids": None, "inputs_embeds": torch.cat([prompts, embeds], dim=1)}
        if (types := call.get("token_type_ids")) is not None:
            call["token_type_ids"] = torch.cat([types.new_zeros(rows, count), types], dim=1)
        if (positions := call.get("position_ids")) is not None:
            first = torch.arange(count, device=positions.device).expand(len(positions), -1)
            call["position_ids"] = torch.cat([first, positions], dim=1)
        return call

    def _shortened(self, output: Any, count: int) -> Any:
        if not self.cut:
            return output
        if isinstance(output, tuple):
            return (output[0][:, count:], *output[1:])
        output.last_hidden_state = output.last_hidden_state[:, count:]
        if getattr(output, "hidden_states", None) is not None:
            output.hidden_states = tuple(states[:, count:] for states in output.hidden_states)
        return output

    def _prefix(self, rows: int) -> Any:
        if self.module.training and getattr(self.module, "gradient_checkpointing", False):
            raise AdapterError(
                f"{type(self.module).__name__}: gradient checkpointing drops the cache that {' and '.join(CACHED)} "
                "live in; switch it off (gradient_checkpointing: false)"
            )
        return self.host.get_prompt(rows)

    def _check_room(self, length: int, before: int) -> None:
        positions = getattr(self.module.config, "max_position_embeddings", None)
        if positions is not None and before + length > positions:
            raise AdapterError(
                f"{type(self.module).__name__} has {positions} positions, fewer than {before} before the input, "
                f"virtual tokens included, and {length} of it: shorten the texts or lower settings.num_virtual_tokens"
            )


class WithLongerMask(_Rerouted):
    """The body of an encoder-decoder whose encoder has virtual tokens: cross-attention sees them."""

    def __init__(self, module: nn.Module, count: int):
        super().__init__(module)
        self.count = count

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The class's forward, with a mask for the encoder's output."""
        call = self.named(args, kwargs)
        if (mask := call.get("attention_mask")) is not None:
            call["attention_mask"] = torch.cat([mask.new_ones(len(mask), self.count), mask], dim=1)
        return self.original(call)
