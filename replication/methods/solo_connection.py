"""Solo Connection, Pathak and Paffenroth 2025 (arXiv 2507.14353): trained skip connections between decoder
blocks.

With h_c the output of block c (counted from 1), for every connection start -> end:

    y    = D( e * E( dropout(h_saved[start]) ) )          * is elementwise
    h_end <- h_end + a * (v * y)
    h_saved[end] <- h_end

Standing: read in the first author's development code (harsh306/CLoRA, branch dev-clora, 2024), a year before
the paper.

Implementation details:
1. Connections for skip length k end at every block c that is a multiple of k and larger than k, and start at
   c - k.
2. Blocks save their output after the addition, so connections chain. Several that end at one block add up,
   each from its own start.
3. E (d -> r) and D (r -> d) have biases and are shared by all connections; start values N(0, 0.02), biases
   zero.
4. The encoder vector e (r) starts at ones; the homotopy vector v (d) at zeros: v leaves the model's
   output unchanged at the start. The code's further term (1 - a) * 0 is zero and left out.
5. The homotopy parameter a is a free scalar, one a connection: no clamp, no tanh. `homotopy_parameter=None`:
   no scalar. In memory it has shape (1,), because FSDP2 refuses scalar parameters; files hold a scalar.
6. Dropout on E's input is 0.1 dense, 0.01 sparse. No nonlinearity. `layer_norm=True` normalises E's input
   (before the dropout), with one affine layer norm an autoencoder: where the author put it is not known.
7. Sparse: a fixed binary mask hides exactly round(s * d * r) entries of E and as many of D. Only the others
   exist as a parameter, and they keep their N(0, 0.02) start; there is no rescaling.
8. Where v is zero, a y that is not finite counts as 0, so that the start is the base model even if E or D
   overflow; where v is not zero nothing is hidden.
9. E, D, e, v and a are float32 in a model of half precision too (`adapter_dtype`): in bfloat16 the distance between
   two numbers near 0.1 is 5e-4, so steps of 1e-4 would never move a. The branch is computed in their dtype and cast
   where it is added.
10. The branch acts on each position separately, so caching and padding need no special handling. It is a forward
   hook on the block; checkpointing wraps `forward`, so the hook runs once. A start block that LayerDrop skips adds
   nothing.
11. The state of a forward belongs to the call: it lies in a list of the thread (`threading.local`, which torch.compile
   traces; it breaks the graph at ContextVar.set), and is dropped when the call ends, also by an exception. Replicas
   of nn.DataParallel share the hooks of the original and use their own parameters.

Faults of that code, not copied:
1. Its sparse mask is overwritten by a permutation 0..n-1, so it is not binary: almost nothing is hidden, and
   weights are scaled by huge factors. Here it is a bool tensor with an exact share.
2. Its dense decoder starts at zero, which a later global initialisation undoes. Here N(0, 0.02) is meant, is
   set once, and nothing runs after it.
3. Its published parameter count ignores the mask and counts connections that are allocated but unused. Here a
   parameter exists only if it is used.
That only v has a gradient at the first step of the dense default follows from v = 0; it is kept, and tested.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from replication.errors import AdapterError, ConfigError
from replication.methods.lora import LoraConfig
from replication.methods.shared.base import (
    FLOAT32,
    AdapterModule,
    MethodConfig,
    build_config,
    check_adapter_dtype,
    check_boolean,
    check_integer,
    check_number,
    check_seed,
    fill,
)
from replication.methods.shared.blocks import DecoderStack, find_decoder
from replication.methods.shared.registry import register_method

ALL_TO_LAST = "all_to_last"
_ATTRIBUTE = "solo_connection"


@register_method
@dataclass(frozen=True)
class SoloConnectionConfig(MethodConfig):
    """Settings; the defaults are the reading that fits the paper's counts (rank 120, dense, k = 2, a = 0.1).

    links: None for the rule of `skip_length`, pairs (start, end), or "all_to_last". dropout: None for 0.1,
    or 0.01 when sparse. train_autoencoder=False: E and D stay as drawn, only e, v and a train. lora: LoRA
    in addition to the connections, with its own adapter_dtype.
    """

    rank: int = 120
    skip_length: int = 2
    dropout: float | None = None
    homotopy_parameter: float | None = 0.1
    sparsity: float = 0.0
    train_autoencoder: bool = True
    links: tuple[tuple[int, int], ...] | str | None = None
    shared_autoencoder: bool = True
    layer_norm: bool = False
    lora: LoraConfig | None = None
    init_seed: int = 0
    adapter_dtype: str = field(default=FLOAT32, kw_only=True)

    method: ClassVar[str] = "solo_connection"

    def __post_init__(self) -> None:
        """Check every field; lists of links become tuples, and a dict of LoRA settings a LoraConfig."""
        check_integer(self, "rank", minimum=1)
        check_integer(self, "skip_length", minimum=1)
        check_seed(self)
        check_adapter_dtype(self)
        check_number(self, "sparsity", "at least 0 and below 1", low=0, high=1)
        if self.dropout is None:
            object.__setattr__(self, "dropout", 0.01 if self.sparsity else 0.1)
        check_number(self, "dropout", "at least 0 and below 1", low=0, high=1)
        if self.homotopy_parameter is not None:
            check_number(self, "homotopy_parameter", "a finite number, or null for no scalar")
        for name in ("train_autoencoder", "shared_autoencoder", "layer_norm"):
            check_boolean(self, name)
        object.__setattr__(self, "links", _checked_links(self.links))
        if isinstance(self.lora, Mapping):
            object.__setattr__(self, "lora", build_config(LoraConfig, self.lora))
        if self.lora is not None and not isinstance(self.lora, LoraConfig):
            raise ConfigError(f"solo_connection: lora={self.lora!r}: must be LoRA settings or null")

    def connections(self, blocks: int) -> tuple[tuple[int, int], ...]:
        """(start, end) of every connection on `blocks` blocks; AdapterError if there is none or one lies
        outside.
        """
        if self.links == ALL_TO_LAST:
            pairs = tuple((start, blocks) for start in range(1, blocks))
            reason = "links='all_to_last' needs at least 2 blocks"
        elif self.links is None:
            ends = range(2 * self.skip_length, blocks + 1, self.skip_length)
            pairs = tuple((end - self.skip_length, end) for end in ends)
            reason = f"skip_length={self.skip_length} needs at least {2 * self.skip_length} blocks"
        else:
            assert not isinstance(self.links, str)
            pairs, reason = self.links, ""
            for start, end in pairs:
                if end > blocks:
                    raise AdapterError(
                        f"solo_connection: link {start}->{end} lies outside the model's blocks 1 to {blocks}"
                    )
        if not pairs:
            raise AdapterError(f"solo_connection: no possible connection: {reason}, the model has {blocks}")
        return pairs

    def masked_entries(self, width: int) -> int:
        """How many of the d * r entries of E (and as many of D) the mask hides."""
        return round(self.sparsity * width * self.rank)

    def closed_form_parameters(self, width: int, blocks: int) -> int:
        """P = 2 d r (1 - s) + r + d + n (d + 1 + r) for the default and the sparse variant, adapted to the
        others.
        """
        count = len(self.connections(blocks))
        autoencoder = 2 * (width * self.rank - self.masked_entries(width)) + self.rank + width
        autoencoder += 2 * width if self.layer_norm else 0
        autoencoders = (1 if self.shared_autoencoder else count) if self.train_autoencoder else 0
        each = width + self.rank + (self.homotopy_parameter is not None)
        lora = self.lora.closed_form_parameters(width, blocks) if self.lora else 0
        return autoencoders * autoencoder + count * each + lora

    def install(self, model: nn.Module) -> None:
        """Register `solo_connection` at the root of the model and its hooks on the decoder's blocks."""
        stack = find_decoder(model)
        if self.rank > stack.width:
            raise AdapterError(
                f"solo_connection: rank={self.rank} exceeds the model's width {stack.width}; use a rank "
                f"of at most {stack.width}"
            )
        like = self.like(next(p for p in stack.blocks[0].parameters() if p.is_floating_point()))
        if abs(self.homotopy_parameter or 0.0) > torch.finfo(like.dtype).max:
            raise AdapterError(
                f"solo_connection: homotopy_parameter={self.homotopy_parameter} is not finite in "
                f"{like.dtype}; use a value within +-{torch.finfo(like.dtype).max:.3g}"
            )
        module = SoloConnection(self, stack, like)
        if self.lora is not None:
            self.lora.install(model)
        module.train(model.training)
        model.add_module(_ATTRIBUTE, module)
        module.add_hooks(model, stack)

    def uninstall(self, model: nn.Module) -> None:
        """Remove the hooks and the module."""
        _installed(model).remove_hooks()
        delattr(model, _ATTRIBUTE)
        if self.lora is not None:
            self.lora.uninstall(model)

    def merge(self, model: nn.Module) -> None:
        """Not supported: raises AdapterError."""
        raise AdapterError(
            "solo_connection cannot be merged: each connection adds a function of an earlier block's output "
            "to a later block's output, past all that lies between; no weight of the model sees that input "
            "and adds to that output, so none can hold the update. Keep the adapter attached for inference"
        )

    def report_state(self, model: nn.Module) -> dict[str, float]:
        """homotopy_parameter[start->end] and homotopy_vector_norm[start->end] (Euclidean) of every
        connection.
        """
        state: dict[str, float] = {}
        for connection in _installed(model).all_connections():
            if connection.homotopy_parameter is not None:
                state[f"homotopy_parameter[{connection.label}]"] = float(connection.homotopy_parameter.detach())
            norm = torch.linalg.vector_norm(connection.homotopy_vector.detach().float())
            state[f"homotopy_vector_norm[{connection.label}]"] = float(norm)
        return state


def _checked_links(links: Any) -> tuple[tuple[int, int], ...] | str | None:
    if links is None or links == ALL_TO_LAST:
        return links
    valid = f"must be null, {ALL_TO_LAST!r}, or a list of different pairs (start, end) with 1 <= start < end"
    pairs: list[tuple[int, int]] = []
    for pair in links if isinstance(links, list | tuple) else ():
        if not isinstance(pair, list | tuple) or len(pair) != 2 or any(type(block) is not int for block in pair):
            raise ConfigError(f"solo_connection: links={links!r}: {valid}; {pair!r} is not a pair of integers")
        start, end = pair
        if not 1 <= start < end:
            raise ConfigError(f"solo_connection: links={links!r}: {valid}; {start}->{end} does not lead forward")
        pairs.append((start, end))
    if not pairs or len(set(pairs)) < len(pairs):
        raise ConfigError(f"solo_connection: links={links!r}: {valid}")
    return tuple(pairs)


def _installed(model: nn.Module) -> SoloConnection:
    module = model.get_submodule(_ATTRIBUTE)
    assert isinstance(module, SoloConnection)
    return module


# --- the modules and hooks ------------------------------------------------------------


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
    """One connection: encoder_vector e (r), homotopy_vector v (d), homotopy_parameter a (1, or None)."""

    def __init__(self, start: int, end: int, config: SoloConnectionConfig, width: int, like: torch.Tensor):
        super().__init__()
        self.start, self.end, self.label = start, end, f"{start}->{end}"
        self.encoder_vector = fill((config.rank,), like, lambda value: value.fill_(1.0))
        self.homotopy_vector = fill((width,), like)
        self.homotopy_parameter: nn.Parameter | None = None
        a = config.homotopy_parameter
        if a is not None:
            self.homotopy_parameter = fill((1,), like, lambda value: value.fill_(a))

    def gate(self, y: torch.Tensor) -> torch.Tensor:
        """a * (v * y) for y (..., d); where v is 0, and only there, a y that is not finite counts as 0."""
        v = self.homotopy_vector
        term = v * torch.where((v != 0) | torch.isfinite(y), y, 0.0)
        return term if self.homotopy_parameter is None else self.homotopy_parameter.reshape(()) * term


@dataclass
class ForwardState:
    """State of one call of `module` (the model or its decoder): outputs of start blocks by block number, and W by map.

    hooked: the SoloConnection whose hooks run; solo: the one whose parameters they use, a replica's own in a replica.
    frame: what calls `module`, None under torch.compile.
    """

    module: nn.Module
    hooked: SoloConnection
    solo: SoloConnection
    frame: FrameType | None
    saved: dict[int, torch.Tensor] = field(default_factory=dict)
    weights: dict[int, torch.Tensor] = field(default_factory=dict)

    def apply(self, affine: DenseMap | MaskedMap, x: torch.Tensor) -> torch.Tensor:
        """x W^T + b; a masked W is built once a forward, not once a connection."""
        if id(affine) not in self.weights:
            self.weights[id(affine)] = affine.dense_weight()
        return F.linear(x, self.weights[id(affine)], affine.bias)


class _Running(threading.local):
    """The calls that a thread is in, innermost last."""

    def __init__(self) -> None:
        self.states: list[ForwardState] = []


_RUNNING = _Running()


def _drop_interrupted(states: list[ForwardState]) -> None:
    """Forget calls that are no longer on this thread's stack: torch runs no hook after a KeyboardInterrupt."""
    frame: FrameType | None = sys._getframe(1)
    present = set()  # of numbers: a frame that refers to itself would keep its variables until a garbage collection
    while frame is not None:
        present.add(id(frame))
        frame = frame.f_back
    states[:] = [state for state in states if state.frame is None or id(state.frame) in present]


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
        self._handles: list[RemovableHandle] = []

    def all_connections(self) -> list[Connection]:
        """The connections, in the order of the configuration."""
        return list(self.connections)  # type: ignore[arg-type]

    def add_hooks(self, model: nn.Module, stack: DecoderStack) -> None:
        """Hook the model and its decoder (begin and end of a call) and every block that starts or ends a connection.

        Block hooks run first, so that others, such as Hugging Face's recording of hidden states, see the sum.
        """
        for module in dict.fromkeys((model, stack.owner)):
            self._handles.append(module.register_forward_pre_hook(self._begin, prepend=True))
            self._handles.append(module.register_forward_hook(self._finish, always_call=True))
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

    def _state(self) -> ForwardState | None:
        """The innermost call that this thread is in of the model, or of a replica of it."""
        for state in reversed(_RUNNING.states):
            if state.hooked is self:
                return state
        return None

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Open the state of a call. Only the model itself knows its SoloConnection; its decoder takes what it chose."""
        frame = None
        if not torch.compiler.is_compiling():
            frame = sys._getframe(1)
            if _RUNNING.states:
                _drop_interrupted(_RUNNING.states)
        outer = self._state()
        solo = getattr(module, _ATTRIBUTE, outer.solo if outer else self)
        _RUNNING.states.append(ForwardState(module, self, solo, frame))

    def _finish(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Drop the state of the call, and of calls inside it that were interrupted."""
        states = _RUNNING.states
        for position in reversed(range(len(states))):
            if states[position].module is module:
                del states[position:]
                return

    def _after_block(self, number: int, block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Add the connections that end at block `number` to its output (..., d), then save it if one starts
        there.
        """
        state = self._state()
        if state is None:  # the block was called by itself, outside a forward of its decoder
            if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:  # in a backward pass
                raise AdapterError(
                    f"solo_connection: block {number} runs again in the backward pass, hooks included, when outputs "
                    "of earlier blocks are gone: the block as a whole is checkpointed. Use "
                    "model.activation_checkpointing_enable(), which checkpoints its `forward` alone"
                )
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        for connection in state.solo.all_connections():
            if connection.end == number and connection.start in state.saved:
                change = state.solo.branch(connection, state.saved[connection.start], state)
                hidden = hidden + change.to(hidden)
        if any(connection.start == number for connection in self.all_connections()):
            state.saved[number] = hidden
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden
