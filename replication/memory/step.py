"""One training step on fake tensors: shapes, dtypes and lifetimes are real, numbers and memory are not.

How a peak is predicted:
1. Model, batch and optimizer are made under `FakeTensorMode`: every operator computes only shapes.
2. A dispatch mode sees every operator below autograd, forward and backward, and notes each new storage when it
   appears and, by a weak reference, when it is released. Views and in-place results have no new storage.
3. `saved_tensors_hooks` marks the storages that autograd keeps for the backward pass, each once; parameters,
   buffers and the batch are not among them.
4. The loss is computed outside the model, the optimizer's state exists before the step (a first update on zero
   gradients makes it), the update itself is replayed too.

What it cannot see: scratch memory inside one operator's kernel, the allocator's rounding and fragmentation, and
the memory of the process itself (importing torch takes over 200 MB), so resident size is a different quantity.
`fused_dropout` keeps dropout's mask as booleans, as a GPU does; a CPU keeps it as floats.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from replication.memory.ledger import Event, MemoryPrediction, peak_of, shares

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TrainingStep:
    """A model in training mode, a batch, the loss that is computed outside the model, and an optimizer."""

    model: nn.Module
    batch: Batch
    loss: Callable[[nn.Module, Batch], torch.Tensor]
    optimizer: torch.optim.Optimizer

    def prepare(self) -> None:
        """Bring the optimizer's state into being: one update on zero gradients."""
        for parameter in self.trained():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def run(self, enter: Callable[[str], None] = lambda phase: None) -> None:
        """Forward, backward, update; `enter` is called with each phase that begins."""
        enter("forward")
        loss = self.loss(self.model, self.batch)
        enter("backward")
        loss.backward()
        enter("update")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def trained(self) -> list[nn.Parameter]:
        """Parameters that get a gradient."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]


def predict_step(build: Callable[[], TrainingStep], *, fused_dropout: bool = False) -> MemoryPrediction:
    """Peak memory of the step that `build` makes; it is called under `FakeTensorMode` and must allocate everything."""
    with FakeTensorMode(), _dropout(fused_dropout):
        step = build()
        step.prepare()
        resident = _resident(step)
        ledger = _Ledger(known=set().union(*resident.values()))
        for parameter in step.trained():
            parameter.register_post_accumulate_grad_hook(ledger.mark_gradient)
        with ledger, ledger.saving():
            step.run(ledger.enter)
        sizes = {name: sum(storages.values()) for name, storages in resident.items()}
        peak = peak_of(ledger.events)
        return MemoryPrediction(
            **sizes,
            **shares(peak, ledger.sizes, ledger.gradients, ledger.saved),
            phase=peak.phase,
            saved_after_forward=ledger.saved_after_forward,
            all_gradients=sum(parameter.numel() * parameter.element_size() for parameter in step.trained()),
        )


def _resident(step: TrainingStep) -> dict[str, dict[int, int]]:
    """Component -> storage -> bytes of what is there before the step; a storage counts under its first component."""
    state = (value for values in step.optimizer.state.values() for value in values.values())
    groups: Mapping[str, Iterable[Any]] = {
        "parameters": step.model.parameters(),
        "buffers": step.model.buffers(),
        "batch": step.batch.values(),
        "optimizer_state": state,
    }
    seen: set[int] = set()
    found: dict[str, dict[int, int]] = {}
    for name, tensors in groups.items():
        storages = (tensor.untyped_storage() for tensor in tensors if isinstance(tensor, torch.Tensor))
        found[name] = {s._cdata: s.nbytes() for s in storages if s._cdata not in seen}
        seen |= set(found[name])
    return found


class _Ledger(TorchDispatchMode):
    """Notes every new storage of a step, its release, and what it was for."""

    def __init__(self, known: set[int]):
        super().__init__()
        self.known = known  # addresses of storages that stay: not part of the step
        self.events: list[Event] = []
        self.sizes: dict[int, int] = {}
        self.saved: set[int] = set()
        self.gradients: set[int] = set()
        self.saved_after_forward = 0
        self._phase = ""
        self._live: dict[int, int] = {}  # address of a live storage -> its number; addresses are reused
        self._next = 0

    def enter(self, phase: str) -> None:
        """The phase that later events belong to."""
        if phase == "backward":
            self.saved_after_forward = sum(self.sizes[n] for n in self._live.values() if n in self.saved)
        self._phase = phase

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, then note storages it made."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor)
        return result

    def _note(self, tensor: torch.Tensor) -> int | None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self.known:
            return None
        if address not in self._live:
            number, size = self._next, storage.nbytes()
            self._next += 1
            self._live[address] = number
            self.sizes[number] = size
            self.events.append(Event(number, size, self._phase))
            weakref.finalize(storage, self._release, address, number).atexit = False
        return self._live[address]

    def _release(self, address: int, number: int) -> None:
        del self._live[address]
        self.events.append(Event(number, -self.sizes[number], self._phase))

    def mark_gradient(self, parameter: torch.Tensor) -> None:
        """To be called when a parameter has its gradient."""
        assert parameter.grad is not None
        number = self._note(parameter.grad)
        if number is not None:
            self.gradients.add(number)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Marks what autograd keeps."""

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            number = self._note(tensor)
            if number is not None:
                self.saved.add(number)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield


class _FusedDropout(TorchFunctionMode):
    """Dropout as a GPU computes it: the mask is boolean, one byte per element."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.dropout:
            return _native_dropout(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _native_dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


@contextmanager
def _dropout(fused: bool) -> Iterator[None]:
    if fused:
        with _FusedDropout():
            yield
    else:
        yield
