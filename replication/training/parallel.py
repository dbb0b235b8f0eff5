"""Training in several processes: DDP, or FSDP2 where Accelerate's launcher asks for it (`Parallel`).

FSDP2 shards what the model brings: its frozen weights are gathered block by block when they are needed. What trains
beside frozen weights (adapters, a task head, the top blocks) is a small part and stays whole in every process, so that
a method may remove or replace it on the way; its gradients are averaged here. Where nothing is frozen, everything is
sharded, optimizer states too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import distributed, nn

from replication.errors import ConfigError
from replication.training.checks import asks_for_sharding


def shards(accelerator: Accelerator) -> bool:
    """Whether FSDP2 shards the model: it was asked for, and there are several processes."""
    return asks_for_sharding() and accelerator.num_processes > 1


class Parallel:
    """The model as the processes train it together: call `forward` for a forward pass. With one process, the model.

    `trained`: names of parameters that stay whole like those that train now; a callback may have frozen them.
    `backend`: of torch.compile; None does not compile.
    """

    def __init__(
        self, accelerator: Accelerator, whole: nn.Module, trained: Collection[str] = (), backend: str | None = None
    ) -> None:
        self.accelerator, self.whole, self.backend = accelerator, whole, backend
        self.sharded = shards(accelerator)
        self.model = whole
        if self.sharded:
            shard(whole, accelerator.device, trained)
            self._compile()
        else:
            self._wrap()

    def micro_batch(self, *, last: bool) -> AbstractContextManager[Any]:
        """A block for forward and backward; processes exchange gradients in the `last` one of an update."""
        if self.sharded:
            self.model.set_requires_gradient_sync(last)  # type: ignore[operator]
            return nullcontext()
        return nullcontext() if last else self.accelerator.no_sync(self.model)

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """After the last backward pass: the mean over processes of the gradients that neither DDP nor FSDP2 sees. One
        that no process has stays None.
        """
        whole = [p for p in parameters if not is_sharded(p)] if self.sharded else []
        if not whole:
            return
        used = torch.tensor([p.grad is not None for p in whole], dtype=torch.int32, device=whole[0].device)
        distributed.all_reduce(used)
        shared = [p for p, count in zip(whole, used.tolist(), strict=True) if count]
        for dtype in dict.fromkeys(p.dtype for p in shared):
            some = [p for p in shared if p.dtype == dtype]
            flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in some])
            distributed.all_reduce(flat)
            flat /= self.accelerator.num_processes
            for p, gradient in zip(some, flat.split([p.numel() for p in some]), strict=True):
                p.grad = gradient.view_as(p)

    def follow(self) -> None:
        """After a callback: DDP averages the gradients of the parameters it was built over, so build it anew where
        these have changed.
        """
        if self.model is not self.whole and self._trained() != self._wrapped:
            self.model._remove_autograd_hooks()  # type: ignore[operator]
            self.model = self.whole
            self.accelerator.free_memory()  # which holds the old one
            self._wrap()

    def _wrap(self) -> None:
        if self.accelerator.num_processes > 1:
            self.model = self.accelerator.prepare_model(self.whole)
        self._wrapped = self._trained()
        self._compile()

    def _compile(self) -> None:
        self.forward: Any = torch.compile(self.model, backend=self.backend) if self.backend else self.model

    def _trained(self) -> list[tuple[str, int]]:
        return [(name, id(p)) for name, p in self.whole.named_parameters() if p.requires_grad]


def shard(model: nn.Module, device: torch.device, trained: Collection[str] = ()) -> None:
    """FSDP2 over all processes, in place: each block of the model by itself, the rest together. What trains, and what
    `trained` names, is left out unless that is everything. ConfigError where the processes hold different values.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    _check_equal(model, device)
    kept = {parameter for name, parameter in model.named_parameters() if parameter.requires_grad or name in trained}
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for parameter in kept:  # the others follow block by block: the whole model need not fit the device
        parameter.data = parameter.to(device)
    ignored = set() if len(kept) == len(list(model.parameters())) else kept
    for block in _blocks(getattr(model, "base_model", model)):
        fully_shard(block, mesh=mesh, ignored_params=ignored)
    fully_shard(model, mesh=mesh, ignored_params=ignored, reshard_after_forward=True)


def _check_equal(model: nn.Module, device: torch.device) -> None:
    low = torch.stack([parameter.detach().sum(dtype=torch.float64).to(device) for parameter in model.parameters()])
    high = low.clone()
    distributed.all_reduce(low, distributed.ReduceOp.MIN)
    distributed.all_reduce(high, distributed.ReduceOp.MAX)
    for (name, _), differs in zip(model.named_parameters(), (low != high).tolist(), strict=True):
        if differs:
            raise ConfigError(
                f"the processes hold different values of {name}: load and attach alike in all of them, with "
                "FSDP_CPU_RAM_EFFICIENT_LOADING=false (else transformers gives weights to the first alone)"
            )


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Elements of the outermost nn.ModuleLists: a transformer's blocks."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _blocks(child)


def is_sharded(tensor: Any) -> bool:
    """Whether FSDP2 has split it over the processes."""
    return hasattr(tensor, "full_tensor")


def gathered(tensor: Any) -> torch.Tensor:
    """The whole of a tensor: all processes that share it call this together."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def split_as(value: torch.Tensor, like: Any) -> torch.Tensor:
    """This process's part of a whole `value`, if `like` is sharded and has its shape; else `value`."""
    if not is_sharded(like) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
