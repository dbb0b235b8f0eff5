"""The default training objective, and a loss over a whole set of examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from replication.examples import collate

Batch = dict[str, torch.Tensor]
LossFunction = Callable[[nn.Module, Batch], tuple[torch.Tensor, torch.Tensor]]
CollateFunction = Callable[[Sequence[Any], int], Batch]


def token_loss(model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over a batch's target tokens, and their number, for any causal model whose output has `.logits`.

    Per token (1 - e) * nll + e * mean over the vocabulary of -log p (microsoft/LoRA, examples/NLG). The
    batch's tensors have shape (examples, length); the logits at position i predict the token at i + 1.
    Computed in float32 outside the model, only on the target positions.
    """
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    learned = batch["loss_mask"][:, 1:].bool()
    logits = output.logits[:, :-1][learned].float()
    targets = batch["input_ids"][:, 1:][learned]
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="sum"), learned.sum()


def to_device(batch: Batch, device: torch.device, *, pin: bool = False) -> Batch:
    """The batch on `device`; `pin`: copied to a GPU from page-locked memory, without waiting."""
    if not pin or device.type != "cuda":
        return {name: tensor.to(device) for name, tensor in batch.items()}
    return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()}


@torch.no_grad()
def evaluate_loss(
    model: nn.Module,
    examples: Sequence[Any],
    *,
    batch_size: int,
    pad_id: int,
    loss_function: LossFunction = token_loss,
    collate_function: CollateFunction = collate,
    accelerator: Accelerator | None = None,
) -> float:
    """Mean loss over all examples (per target token by default), in evaluation mode; nan without any.

    Batches are sorted by length to spare padding. With an `accelerator` of several processes each takes its
    share of the batches and all return the same number, after as many forward passes: a sharded model needs them. The
    model's mode is put back afterwards.
    """
    ordered = sorted(examples, key=len)
    batches = [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
    counted = len(batches)
    if accelerator is not None:
        rank, processes = accelerator.process_index, accelerator.num_processes
        batches += batches[:1] * (-counted % processes)
        batches, counted = batches[rank::processes], len(range(rank, counted, processes))
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    loss_sum = weight_sum = 0.0
    for number, chosen in enumerate(batches):
        batch = {name: tensor.to(device) for name, tensor in collate_function(chosen, pad_id).items()}
        loss, weight = loss_function(model, batch)
        if number < counted:
            loss_sum += float(loss)
            weight_sum += float(weight)
    model.train(was_training)
    if accelerator is not None:
        loss_sum, weight_sum = sum_over_processes(accelerator, loss_sum, weight_sum)
    return loss_sum / weight_sum if weight_sum else float("nan")


def sum_over_processes(accelerator: Accelerator, *values: float) -> tuple[float, ...]:
    """Each value summed over all processes; itself when there is one."""
    if accelerator.num_processes == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=accelerator.device)
    return tuple(accelerator.reduce(tensor, reduction="sum").tolist())
