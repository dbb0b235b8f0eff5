"""Full names of the modules that a PEFT rival wraps."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from replication.adapters.blocks import head_parameters
from replication.adapters.peft_settings import PREFIX
from replication.adapters.projections import find_projections, linear_shape
from replication.errors import AdapterError

# Second projection of the feedforward network, by the names that Hugging Face models give to it.
FEEDFORWARD = ("output.dense", "fc2", "down_proj", "mlp.c_proj", "ffn.lin2", "DenseReluDense.wo", "mlp.Wo")


def whole_projections(model: nn.Module, targets: Sequence[str], rival: str) -> list[str]:
    """Linear modules of roles or ends of names; AdapterError where a role is a slice of a fused projection."""
    found = find_projections(model, targets)
    for name, slices in found.items():
        shape = linear_shape(model.get_submodule(name))
        assert shape is not None
        for piece in slices:
            if (piece.start, piece.stop) != (0, shape[1]):
                raise AdapterError(
                    f"{PREFIX}: {rival} cannot wrap {piece.label} alone: {name} fuses it with other projections, and "
                    f"PEFT wraps whole modules; name {name.rpartition('.')[2]!r} as the target"
                )
    return list(found)


def modules_ending(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """Modules without children whose names end so, outside the task head: for norms, which are no projections."""
    head = {name.rpartition(".")[0] for name in head_parameters(model)}
    leaves = [n for n, m in model.named_modules() if n and n not in head and not any(m.children())]
    for target in targets:
        if not any(("." + name).endswith("." + target) for name in leaves):
            ends = dict.fromkeys(name.rpartition(".")[2] for name in leaves)
            raise AdapterError(
                f"target {target!r} matches no module of {type(model).__name__}; names there end with {', '.join(ends)}"
            )
    return [name for name in leaves if any(("." + name).endswith("." + target) for target in targets)]


def ia3_modules(model: nn.Module) -> list[str]:
    """Key and value projections, whole where they are fused, and the feedforward's second projection."""
    names: set[str] = set()
    for role in ("key", "value"):
        names |= set(find_projections(model, (role,)))
    feedforward = []
    for end in FEEDFORWARD:
        try:
            feedforward += [name for name in find_projections(model, (end,)) if is_feedforward(name)]
        except AdapterError:
            continue  # this model calls it otherwise
    if not feedforward:
        raise AdapterError(
            f"{PREFIX}: ia3: no second projection of a feedforward network found in {type(model).__name__} "
            f"(looked for {', '.join(FEEDFORWARD)}); give `targets`"
        )
    names |= set(feedforward)
    return [name for name, _ in model.named_modules() if name in names]


def is_feedforward(name: str) -> bool:
    """Whether this is the second projection of a feedforward network."""
    attention = name.endswith("attention.output.dense")
    return not attention and any(name == end or name.endswith("." + end) for end in FEEDFORWARD)


def name_pattern(names: Sequence[str]) -> str:
    """A regular expression that PEFT matches against full module names; one that matches nothing if empty."""
    return f"(?:{'|'.join(re.escape(name) for name in names)})" if names else "(?!)"
