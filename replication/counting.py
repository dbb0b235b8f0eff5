"""Counting parameters of a model with a method attached; on the meta device it needs no memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from replication.methods.shared.base import IMPORTANCE_NAME, adapter_parameters, attachment


@dataclass(frozen=True)
class Counts:
    """Numbers of scalar parameters; a parameter under several names counts once.

    adapter: trained, without importance weights and task head (for `full`: the base). importance: importance
    weights of WeightLoRA. head: trained task head. trainable: adapter + importance + head. total: base and
    adapter, fixed ones too.
    """

    adapter: int
    importance: int
    head: int
    trainable: int
    total: int

    def to_dict(self) -> dict[str, int]:
        """The five numbers by name, in this order."""
        return dataclasses.asdict(self)


def parameter_counts(model: nn.Module) -> Counts:
    """Counts of a model that carries a method; AdapterError otherwise."""
    heads = set(attachment(model).head)
    owned = adapter_parameters(model)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    importance = {name for name in owned if name.endswith(IMPORTANCE_NAME)}
    return Counts(
        adapter=_size(p for name, p in trained.items() if name in owned and name not in importance),
        importance=_size(p for name, p in trained.items() if name in importance),
        head=_size(p for name, p in trained.items() if name in heads),
        trainable=_size(trained.values()),
        total=_size(model.parameters()),
    )


def print_trainable_parameters(model: nn.Module) -> None:
    """Print the trained and all parameters and their ratio, in the form that PEFT prints; AdapterError if nothing is
    attached.
    """
    counts = parameter_counts(model)
    print(
        f"trainable params: {counts.trainable:,d} || all params: {counts.total:,d} || "
        f"trainable%: {100 * counts.trainable / counts.total:.4f}"
    )


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
