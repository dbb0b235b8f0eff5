"""What goes wrong without a word in a loop that is not this project's: noticed by hooks, and said.

`watch_training` looks once, early in a training, at which parameters get gradients. `guard_merged` refuses what would
count a merged update twice, or train nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from replication.errors import AdapterError

PATIENCE = 10  # backward passes: profiles and checks of gradients make fewer


def watch_training(
    model: nn.Module, watched: Mapping[str, nn.Parameter], report: Callable[[nn.Module, list[str], int], None]
) -> None:
    """Call `report(model, silent, passes)` once, when one of the `watched` parameters has its gradient for the
    `PATIENCE`th time: `silent` are those that train and had none until then. A copy of the model is not watched.
    """
    there = weakref.ref(model)
    parameters = {name: weakref.ref(parameter) for name, parameter in watched.items()}  # which may leave the model
    passes = dict.fromkeys(watched, 0)

    def count(name: str) -> None:
        passes[name] += 1
        carrier = there()
        if passes[name] < PATIENCE or carrier is None:
            return
        stop_watching(carrier)
        present = {id(parameter) for parameter in carrier.parameters() if parameter.requires_grad}
        silent = [n for n, parameter in parameters.items() if not passes[n] and id(parameter()) in present]
        report(carrier, silent, PATIENCE)

    _watches[model] = [
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: count(name))
        for name, parameter in watched.items()
    ]


_watches: weakref.WeakKeyDictionary[nn.Module, list[RemovableHandle]] = weakref.WeakKeyDictionary()


def stop_watching(model: nn.Module) -> None:
    """Undo `watch_training`."""
    for handle in _watches.pop(model, ()):
        handle.remove()


# --- a merged model ------------------------------------------------------------


def guard_merged(model: nn.Module) -> None:
    """From now on the model, and its body, refuse to train and to give or take a state dict."""
    unguard_merged(model)
    for part in _parts(model):
        part.register_forward_pre_hook(_refuse_training)
        part.register_state_dict_pre_hook(_refuse_state)
        handle = part.register_load_state_dict_pre_hook(_refuse_loading)
        hooks: Any = part._load_state_dict_pre_hooks
        hooks.move_to_end(handle.id, last=False)  # before a hook that changes the model


def unguard_merged(model: nn.Module) -> None:
    """Undo `guard_merged`, on a copy of the model too: the hooks are found by what they are."""
    for part in _parts(model):
        hooks: Any
        for hooks in (part._forward_pre_hooks, part._state_dict_pre_hooks, part._load_state_dict_pre_hooks):
            for key in [key for key, hook in hooks.items() if getattr(hook, "hook", hook) in _GUARDS]:
                del hooks[key]


def _parts(model: nn.Module) -> set[nn.Module]:
    body = getattr(model, "base_model", model)
    return {model, body} if isinstance(body, nn.Module) else {model}


def _refuse_training(model: nn.Module, _: Any) -> None:
    if model.training and torch.is_grad_enabled():
        raise AdapterError(
            f"{type(model).__name__} is merged, and its adapter takes no part in a forward pass: call unmerge(model) "
            "before training, or model.eval() where nothing is trained"
        )


def _refuse_state(model: nn.Module, *_: Any) -> None:
    raise AdapterError(
        f"{type(model).__name__} is merged: its state_dict would hold the update in the weights and the adapter beside "
        "them. Call unmerge(model) first, merge_and_unload(model) for the plain merged model, or save(model, folder)"
    )


def _refuse_loading(model: nn.Module, *_: Any) -> None:
    raise AdapterError(
        f"{type(model).__name__} is merged: load_state_dict would leave the merged update in its weights. Call "
        "unmerge(model) first"
    )


def state_names(model: nn.Module) -> set[str]:
    """The names in `model.state_dict()`, which a merged model refuses to give."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules(remove_duplicate=False)
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None and name not in module._non_persistent_buffers_set
    }


_GUARDS = (_refuse_training, _refuse_state, _refuse_loading)
