"""Adapters as things that can be numbered, ranked, removed and restored: what the selecting methods share.

An adapter is one low-rank pair on one projection (slice). Its index is its position in module order when all
candidates are attached, and never changes: removing a neighbour does not renumber it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from replication.errors import AdapterError
from replication.methods.lora import LowRankUpdate, lora_layers
from replication.methods.shared.base import IMPORTANCE_NAME, attached_config, fill
from replication.methods.shared.projections import ROLES, WHOLE, OutputSlice, replace_module
from replication.training.callbacks import Callback

RANKINGS = ("signed", "magnitude")
_RECORD = "_replication_adapters"


@dataclass(frozen=True)
class Adapter:
    """One candidate: its index, the wrapped module, the slice of its output (`whole`, or a role in a fused
    projection), the number of its block (None outside blocks; encoder and decoder each count from 0) and its
    role (`query`, `output`, or what follows the block's number in the module's name).
    """

    index: int
    module: str
    label: str
    block: int | None
    role: str


def enumerate_adapters(found: Mapping[str, Sequence[OutputSlice]]) -> tuple[Adapter, ...]:
    """The candidates in module order, from what `find_projections` returned."""
    pairs = [(name, piece) for name, slices in found.items() for piece in slices]
    return tuple(
        Adapter(index, name, piece.label, *_position(name, piece.label)) for index, (name, piece) in enumerate(pairs)
    )


def _position(name: str, label: str) -> tuple[int | None, str]:
    number = re.search(r"\.(\d+)\.", name)
    inside = name[number.end() :] if number else name
    if label == WHOLE:
        ends = ((role, end) for role, names in ROLES.items() for end in names)
        label = next((role for role, end in ends if f".{name}".endswith(f".{end}")), inside)
    return (int(number[1]) if number else None), label


def record_adapters(model: nn.Module, adapters: Sequence[Adapter]) -> None:
    """Keep the numbering on the model, as plain values: a copy of the model has it too."""
    setattr(model, _RECORD, tuple(adapters))


def forget_adapters(model: nn.Module) -> None:
    """Undo `record_adapters`."""
    model.__dict__.pop(_RECORD, None)


def recorded_adapters(model: nn.Module) -> tuple[Adapter, ...]:
    """All candidates, removed ones included; AdapterError if no selecting method is attached."""
    adapters = getattr(model, _RECORD, None)
    if adapters is None:
        raise AdapterError(f"{type(model).__name__} carries no selecting method: attach weight_lora or random_lora")
    return adapters


def describe_adapters(model: nn.Module) -> list[dict[str, Any]]:
    """The numbering as JSON values."""
    return [asdict(adapter) for adapter in recorded_adapters(model)]


def list_names(adapters: Sequence[Adapter]) -> str:
    """The candidates for an error message: module names, with the slice where it is not the whole module."""
    shared = Counter(adapter.module for adapter in adapters)
    return ", ".join(a.module if shared[a.module] == 1 else f"{a.module} [{a.label}]" for a in adapters)


def present_updates(model: nn.Module) -> dict[int, LowRankUpdate]:
    """Index -> pair of every adapter that is still in the model, in index order."""
    layers = lora_layers(model)
    return {
        adapter.index: update
        for adapter in recorded_adapters(model)
        if adapter.module in layers
        for piece, update in layers[adapter.module].updates()
        if piece.label == adapter.label
    }


def remove_adapters(model: nn.Module, indices: Iterable[int]) -> None:
    """Take adapters out: their slice of the wrapper, and the wrapper where no slice is left."""
    gone = set(indices)
    layers = lora_layers(model)
    for adapter in recorded_adapters(model):
        if adapter.index in gone:
            layers[adapter.module].drop(adapter.label)
    for layer in layers.values():
        if not layer.slices:
            replace_module(model, layer, layer.base_layer)


def largest(values: torch.Tensor, keep: int, rank_by: str) -> list[int]:
    """Positions of the `keep` largest of `values` (n), ascending; of equal ones the first stay.

    rank_by: "signed" compares the values, "magnitude" their absolute values.
    """
    order = torch.sort(
        _scores(values, rank_by), descending=True, stable=True
    ).indices  # topk promises no order for ties
    return sorted(order[:keep].tolist())


def kept_by_place(values: torch.Tensor, keep: int, rank_by: str) -> int:
    """How many of the `largest` only their place sets apart from one that is not among them, which equals them."""
    scores = _scores(values, rank_by)
    kept = scores[largest(values, keep, rank_by)]
    tied = int((kept == kept.min()).sum())
    return tied if tied < int((scores == kept.min()).sum()) else 0


def _scores(values: torch.Tensor, rank_by: str) -> torch.Tensor:
    return values.abs() if rank_by == "magnitude" else values


def hard_threshold(values: torch.Tensor, keep: int, rank_by: str) -> torch.Tensor:
    """`values` (n) with all but the `keep` largest set to zero; in "magnitude" the nearest such vector."""
    kept = largest(values, keep, rank_by)
    result = torch.zeros_like(values)
    result[kept] = values[kept]
    return result


def seeded_generator(init_seed: int, *purpose: object) -> torch.Generator:
    """A separate CPU generator for each seed and purpose; the global one is not used."""
    digest = hashlib.sha256("/".join(map(str, (init_seed, *purpose))).encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:7], "big"))


# --- what training changed, as JSON, and back ----------------------------------------


def structure_of(model: nn.Module) -> dict[str, Any]:
    """Survivors, ranks, and which parts no longer train; indices are JSON values, keys are text."""
    updates = present_updates(model)
    weights = {index: getattr(update, IMPORTANCE_NAME, None) for index, update in updates.items()}
    return {
        "survivors": list(updates),
        "ranks": {str(index): len(update.lora_A) for index, update in updates.items()},
        "fixed_weights": [i for i, weight in weights.items() if weight is not None and not weight.requires_grad],
        "frozen_pairs": [i for i, update in updates.items() if not any(p.requires_grad for p in _pair(update))],
    }


def apply_structure(model: nn.Module, structure: Mapping[str, Any]) -> None:
    """Bring a freshly attached model to `structure_of` another: values of pairs that change shape are zeros.

    AdapterError if the two do not fit; the model may then be half changed, and detaches as ever.
    """
    updates = present_updates(model)
    survivors = [int(index) for index in structure["survivors"]]
    if not set(survivors) <= set(updates):
        unknown = sorted(set(survivors) - set(updates))
        raise AdapterError(f"survivors {unknown} are none of the {len(updates)} found")
    remove_adapters(model, set(updates) - set(survivors))
    for index in survivors:
        update, rank = updates[index], int(structure["ranks"][str(index)])
        limit = min(update.lora_A.shape[1], update.lora_B.shape[0])
        if not 1 <= rank <= limit:
            raise AdapterError(f"rank {rank} of adapter {index} is not between 1 and {limit}")
        if rank != len(update.lora_A):
            set_pair(
                update,
                fill((rank, update.lora_A.shape[1]), update.lora_A),
                fill((update.lora_B.shape[0], rank), update.lora_B),
            )
    for index in survivors:
        _set_training(updates[index], index, structure)


def _set_training(update: LowRankUpdate, index: int, structure: Mapping[str, Any]) -> None:
    """Fix and thaw what `structure` says of it; a matrix that somebody froze alone stays so."""
    weight: Any = getattr(update, IMPORTANCE_NAME, None)
    if weight is not None and "fixed_weights" in structure:
        weight.requires_grad_(index not in structure["fixed_weights"])
    if "frozen_pairs" in structure:
        frozen = index in structure["frozen_pairs"]
        if frozen or not any(parameter.requires_grad for parameter in _pair(update)):
            for parameter in _pair(update):
                parameter.requires_grad_(not frozen)


def _pair(update: LowRankUpdate) -> tuple[nn.Parameter, nn.Parameter]:
    return update.lora_A, update.lora_B


def follow_state_dicts(model: nn.Module) -> None:
    """From now on `model.load_state_dict` first brings the model to the structure that the tensors come from: adapters
    that are not among them leave (or come back), pairs take their rank. What trains stays: an optimizer that is built
    next, for a state from before, must list it. `Selection` and `load` fix what no longer trained.
    """
    model.register_load_state_dict_pre_hook(_restructure_for)


def ignore_state_dicts(model: nn.Module) -> None:
    """Undo `follow_state_dicts`."""
    hooks: Any = model._load_state_dict_pre_hooks
    for key in [key for key, hook in hooks.items() if hook.hook is _restructure_for]:
        del hooks[key]


def _restructure_for(model: nn.Module, tensors: Mapping[str, Any], prefix: str, *_: Any) -> None:
    names = {a.index: f"{prefix}{a.module}.{a.label}.lora_A" for a in recorded_adapters(model)}
    ranks = {str(index): len(tensors[name]) for index, name in names.items() if name in tensors}
    present = structure_of(model)
    config = attached_config(model)
    if config is not None and ranks and ranks != present["ranks"]:
        config.restructure(model, {"survivors": list(map(int, ranks)), "ranks": ranks})


def set_pair(update: LowRankUpdate, lora_A: torch.Tensor, lora_B: torch.Tensor) -> None:
    """New parameters for a pair, of any rank, in the old ones' dtype and device; `scaling` stays."""
    for name, value in (("lora_A", lora_A), ("lora_B", lora_B)):
        old = getattr(update, name)
        setattr(update, name, nn.Parameter(value.detach().to(old), requires_grad=old.requires_grad))


def pair_parameters(updates: Iterable[LowRankUpdate]) -> int:
    """Numbers in the pairs, importance weights left out."""
    return sum(update.lora_A.numel() + update.lora_B.numel() for update in updates)


# --- the report ----------------------------------------------------------------


class ReportCallback(Callback):
    """For a selection that was made before training: changes nothing, reports it in the same form."""

    def __init__(self, config: Any):
        self.config = config

    def on_start(self, model: nn.Module) -> None:
        """Remember whose adapters to report."""
        self.model = model

    def summary(self) -> dict[str, Any]:
        """As WeightLoraCallback's, with an empty trace."""
        return report(self.config, self.model, list(present_updates(self.model)))


def report(config: Any, model: nn.Module, survivors: list[int]) -> dict[str, Any]:
    """The form of every summary (JSON values), for a selection that no training made."""
    updates = present_updates(model)
    return {
        "method": config.method,
        "keep": config.keep,
        "selection_steps": None,
        "adapters": describe_adapters(model),
        "trace": {"steps": [], "weights": []},
        "projections": [],
        "removed_at": None,
        "survivors": survivors,
        "final_ranks": {str(index): len(updates[index].lora_A) for index in survivors},
        "expansions": [],
    }
