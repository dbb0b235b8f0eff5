"""selection.json: which adapters WeightLoRA, WeightLoRA+ and the random control kept, and how sets compare.

Sets are compared as sets. The authors' figure compares sorted lists position by position, which understates agreement:
`position_agreement` recomputes it, so that the two can be shown side by side."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from analysis.load.paper_files import first_fault
from replication.errors import DataError
from replication.fileio import read_json

ROLE_LETTERS = {"query": "q", "key": "k", "value": "v", "output": "o"}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Adapter(_Part):
    """One position that a method could adapt; `label` is `whole`, or the slice of a fused projection."""

    index: int
    module: str
    label: str
    block: int | None
    role: str

    @property
    def key(self) -> str:
        """The module, with its slice where several adapters share it."""
        return self.module if self.label == "whole" else f"{self.module}[{self.label}]"


class Trace(_Part):
    """Importance weights after each step of phase 1: one row per step, one column per adapter."""

    steps: tuple[int, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()


class Expansion(_Part):
    """One round of WeightLoRA+: which adapters stay, and their rank and parameters before and after."""

    step: int
    kind: str
    kept: tuple[int, ...]
    rank_before: int
    rank_after: int
    parameters_before: int
    parameters_after: int


class Selection(_Part):
    """selection.json of one seed. `survivors` are indices into `adapters`.

    `keep` None: all adapters that were found, until the first expansion; `selection_steps` None: no end.
    """

    method: str
    keep: int | None
    selection_steps: int | None = None
    adapters: tuple[Adapter, ...]
    trace: Trace = Trace()
    projections: tuple[int, ...] = ()
    removed_at: int | None = None
    survivors: tuple[int, ...]
    final_ranks: dict[int, int] = {}
    expansions: tuple[Expansion, ...] = ()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Selection:
        count = len(self.adapters)
        if [adapter.index for adapter in self.adapters] != list(range(count)):
            raise ValueError(f"adapters: the indices are not 0 to {count - 1} in order")
        if len(self.trace.steps) != len(self.trace.weights):
            raise ValueError(f"trace: {len(self.trace.steps)} steps but {len(self.trace.weights)} rows of weights")
        if wrong := [len(row) for row in self.trace.weights if len(row) != count]:
            raise ValueError(f"trace: a row has {wrong[0]} weights for {count} adapters")
        kept = [index for expansion in self.expansions for index in expansion.kept]
        if wrong := [index for index in (*self.survivors, *kept, *self.final_ranks) if not 0 <= index < count]:
            raise ValueError(f"survivors: adapter {wrong[0]} is none of the {count}")
        if len(set(self.survivors)) != len(self.survivors):
            raise ValueError("survivors: duplicate adapter")
        return self

    @property
    def kept(self) -> frozenset[str]:
        """Keys of the survivors."""
        return frozenset(self.adapters[index].key for index in self.survivors)

    @property
    def blocks(self) -> tuple[tuple[str, int], ...]:
        """(column group, block) of every adapter, in index order: see `positions`."""
        return positions(self.adapters)


def read_selection(path: str | Path) -> Selection:
    """selection.json, checked; DataError names file and field."""
    try:
        return Selection.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}, {first_fault(error)}") from error


def positions(adapters: Sequence[Adapter]) -> tuple[tuple[str, int], ...]:
    """(group, block) per adapter. A group is the role, with the stack if a role is in several stacks: `enc q`.

    A block missing in the file is the first number in the module's name, else the adapter's index.
    """
    stems = [re.sub(r"\d+", "*", adapter.module) for adapter in adapters]
    several = {
        adapter.role
        for adapter, stem in zip(adapters, stems, strict=True)
        if any(other != stem and a.role == adapter.role for a, other in zip(adapters, stems, strict=True))
    }
    found = []
    for adapter, stem in zip(adapters, stems, strict=True):
        group = ROLE_LETTERS.get(adapter.role, adapter.role)
        if adapter.role in several:
            group = f"{_stack(stem)} {group}".strip()
        number = re.search(r"\d+", adapter.module)
        block = adapter.block if adapter.block is not None else int(number[0]) if number else adapter.index
        found.append((group, block))
    return tuple(found)


def short_names(adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """`v11` for the value projection of block 11; `dec v3` if a role is in several stacks."""
    return tuple(f"{group}{block}" for group, block in positions(adapters))


def shared_fraction(first: Collection[str], second: Collection[str]) -> float:
    """Shared members over the larger set's size: shared / K for two sets of K. ValueError for an empty set."""
    if not first or not second:
        raise ValueError("an empty set of adapters shares nothing")
    return len(set(first) & set(second)) / max(len(set(first)), len(set(second)))


def position_agreement(first: Sequence[str], second: Sequence[str]) -> float:
    """Share of positions at which two lists, each sorted by layer, name the same adapter: the authors' figure."""
    if len(first) != len(second) or not first:
        raise ValueError(f"lists of {len(first)} and {len(second)} adapters; by position they need equal lengths")
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)


def agreement_of_seeds(sets: Sequence[Collection[str]]) -> float | None:
    """Mean shared / K over all pairs of seeds; None with fewer than two."""
    pairs = list(combinations(sets, 2))
    return sum(shared_fraction(a, b) for a, b in pairs) / len(pairs) if pairs else None


def _stack(stem: str) -> str:
    """`enc`, `dec` or `cross` for a stack of an encoder-decoder; empty for any other."""
    if "encoder_attn" in stem or "crossattention" in stem or "EncDecAttention" in stem:
        return "cross"
    return "dec" if "decoder." in stem else "enc" if "encoder." in stem else ""
