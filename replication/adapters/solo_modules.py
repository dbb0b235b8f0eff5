"""The modules and hooks of Solo Connection; equations, sources and start values stand in
`solo_connection.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from replication.adapters.base import AdapterModule, fill
from replication.adapters.blocks import DecoderStack

if TYPE_CHECKING:
    from replication.adapters.solo_connection import SoloConnectionConfig

INITIAL_DEVIATION = 0.02


class DenseMap(nn.Module):
    """Affine map x W^T + b, W (outputs, inputs) drawn from N(0, 0.02), b zero."""

    def __init__(self, outputs: int, inputs: int, like: torch.Tensor, generator: torch.Generator):
        super().__init__()
        self.weight = fill((outputs, inputs), like, _normal(generator))
        self.bias = fill((outputs,), like)

    def dense_weight(self) -> torch.Tensor:
        """W (outputs, inputs)."""
        return self.weight


class MaskedMap(nn.Module):
    """Affine map of which `mask` (outputs, inputs; True is kept) hides fixed entries; `values` are the kept,
    row by row.

    Hidden entries are no parameters: they cannot train, and every count, optimizer and file holds what there
    is.
    """

    mask: torch.Tensor

    def __init__(self, outputs: int, inputs: int, hidden: int, like: torch.Tensor, generator: torch.Generator):
        super().__init__()
        entries = outputs * inputs
        mask = torch.ones(entries, dtype=torch.bool, device="meta" if like.is_meta else "cpu")
        if not like.is_meta:
            mask[torch.randperm(entries, generator=generator, device="cpu")[:hidden]] = False
        self.register_buffer("mask", mask.view(outputs, inputs).to(like.device))
        self.values = fill((entries - hidden,), like, _normal(generator))
        self.bias = fill((outputs,), like)

    def dense_weight(self) -> torch.Tensor:
        """W (outputs, inputs) with zeros where it is masked."""
        return self.values.new_zeros(self.mask.shape).masked_scatter(self.mask, self.values)


def _normal(generator: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda value: value.normal_(0.0, INITIAL_DEVIATION, generator=generator)


class Autoencoder(AdapterModule):
    """Holder of `encoder` (d -> r), `decoder` (r -> d) and perhaps `layer_norm` (d); or of none of them."""

    encoder: DenseMap | MaskedMap
    decoder: DenseMap | MaskedMap
    layer_norm: nn.LayerNorm | None

    def add_autoencoder(
        self, config: SoloConnectionConfig, width: int, like: torch.Tensor, generator: torch.Generator
    ) -> None:
        """Create the maps; with train_autoencoder=False they stay as drawn."""
        for name, outputs, inputs in (("encoder", config.rank, width), ("decoder", width, config.rank)):
            if config.sparsity:
                hidden = config.masked_entries(width)
                self.add_module(name, MaskedMap(outputs, inputs, hidden, like, generator))
            else:
                self.add_module(name, DenseMap(outputs, inputs, like, generator))
        norm = nn.LayerNorm(width, device=like.device, dtype=self.encoder.bias.dtype) if config.layer_norm else None
        self.layer_norm = norm
        for part in (self.encoder, self.decoder, norm):
            if part is not None:
                part.requires_grad_(config.train_autoencoder)


class Connection(Autoencoder):
    """One connection: encoder_vector e (r), homotopy_vector v (d), homotopy_parameter a (scalar, or None)."""

    def __init__(self, start: int, end: int, config: SoloConnectionConfig, width: int, like: torch.Tensor):
        super().__init__()
        self.start, self.end, self.label = start, end, f"{start}->{end}"
        self.encoder_vector = fill((config.rank,), like, lambda value: value.fill_(1.0))
        self.homotopy_vector = fill((width,), like)
        self.homotopy_parameter: nn.Parameter | None = None
        a = config.homotopy_parameter
        if a is not None:
            self.homotopy_parameter = fill((), like, lambda value: value.fill_(a))

    def gate(self, y: torch.Tensor) -> torch.Tensor:
        """a * (v * y) for y (..., d); where v is 0 a y that is not finite counts as 0, and nowhere else."""
        v = self.homotopy_vector
        term = v * torch.where((v != 0) | torch.isfinite(y), y, 0.0)
        return term if self.homotopy_parameter is None else self.homotopy_parameter * term


@dataclass
class ForwardState:
    """What one forward of the decoder keeps: outputs of start blocks by block number, and W by map."""

    saved: dict[int, torch.Tensor] = field(default_factory=dict)
    weights: dict[int, torch.Tensor] = field(default_factory=dict)

    def apply(self, affine: DenseMap | MaskedMap, x: torch.Tensor) -> torch.Tensor:
        """x W^T + b; a masked W is built once a forward, not once a connection."""
        if id(affine) not in self.weights:
            self.weights[id(affine)] = affine.dense_weight()
        return F.linear(x, self.weights[id(affine)], affine.bias)


class SoloConnection(Autoencoder):
    """All connections of a model, registered once at its root, and the hooks that apply them.

    Hooks are bound methods of this module: `copy.deepcopy` of the model binds the copy's hooks to the copy's
    module.
    """

    def __init__(self, config: SoloConnectionConfig, stack: DecoderStack, like: torch.Tensor):
        super().__init__()
        generator = torch.Generator(device="cpu").manual_seed(config.init_seed)
        assert config.dropout is not None
        self.dropout = nn.Dropout(config.dropout)
        self.shared_autoencoder = config.shared_autoencoder
        if config.shared_autoencoder:
            self.add_autoencoder(config, stack.width, like, generator)
        self.connections = nn.ModuleList()
        for start, end in config.connections(len(stack.blocks)):
            connection = Connection(start, end, config, stack.width, like)
            if not config.shared_autoencoder:
                connection.add_autoencoder(config, stack.width, like, generator)
            self.connections.append(connection)
        self._state: ForwardState | None = None
        self._handles: list[RemovableHandle] = []

    def all_connections(self) -> list[Connection]:
        """The connections, in the order of the configuration."""
        return list(self.connections)  # type: ignore[arg-type]

    def add_hooks(self, stack: DecoderStack) -> None:
        """Hook the decoder (begin and end of a forward) and every block that starts or ends a connection.

        Block hooks go first, so that others, such as Hugging Face's recording of hidden states, see the sum.
        """
        self._handles.append(stack.owner.register_forward_pre_hook(self._begin))
        self._handles.append(stack.owner.register_forward_hook(self._finish, always_call=True))
        used = {block for connection in self.all_connections() for block in (connection.start, connection.end)}
        for number in sorted(used):
            hook = partial(self._after_block, number)
            self._handles.append(stack.blocks[number - 1].register_forward_hook(hook, prepend=True))

    def remove_hooks(self) -> None:
        """Undo `add_hooks`."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def branch(self, connection: Connection, start: torch.Tensor, state: ForwardState) -> torch.Tensor:
        """a * v * D(e * E(dropout(start))), start (..., d) -> (..., d)."""
        owner: Autoencoder = self if self.shared_autoencoder else connection
        x = start.to(connection.encoder_vector)
        if owner.layer_norm is not None:
            x = owner.layer_norm(x)
        code = connection.encoder_vector * state.apply(owner.encoder, self.dropout(x))
        return connection.gate(state.apply(owner.decoder, code.to(x.dtype)))

    def _begin(self, decoder: nn.Module, args: tuple[Any, ...]) -> None:
        self._state = ForwardState()

    def _finish(self, decoder: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._state = None

    def _after_block(self, number: int, block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Add the connections that end at block `number` to its output (..., d), then save it if one starts
        there.
        """
        state = self._state
        if state is None:  # the block was called by itself, outside a forward of its decoder
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        for connection in self.all_connections():
            if connection.end == number and connection.start in state.saved:
                change = self.branch(connection, state.saved[connection.start], state)
                hidden = hidden + change.to(hidden)
        if any(connection.start == number for connection in self.all_connections()):
            state.saved[number] = hidden
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden
