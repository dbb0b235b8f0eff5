"""Inspecting a model without training: its outputs, their distance from a reference, and its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from replication.errors import AdapterError
from replication.examples import Encoded, collate
from replication.training.losses import token_loss


@torch.no_grad()
def log_probabilities(model: nn.Module, examples: Sequence[Encoded], pad_id: int = 0) -> torch.Tensor:
    """Log-probabilities of a causal model at target tokens: (n_targets, vocabulary), evaluation mode, float32."""
    was_training = model.training
    model.eval()
    batch = collate(examples, pad_id)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    model.train(was_training)
    return F.log_softmax(logits[:, :-1][batch["loss_mask"][:, 1:].bool()].float(), dim=-1)


def drift(reference: torch.Tensor, now: torch.Tensor) -> float:
    """Mean Kullback-Leibler divergence of `now` from `reference`, nats per target token; 0 for equal outputs.

    Both are log probabilities of shape (n_targets, vocabulary), as returned by `log_probabilities`.
    """
    if reference.shape != now.shape:
        raise ValueError(f"reference has shape {tuple(reference.shape)}, now {tuple(now.shape)}; expected equal shapes")
    return float(F.kl_div(now, reference, log_target=True, reduction="batchmean"))


def gradient_norms(model: nn.Module, examples: Sequence[Encoded], pad_id: int = 0) -> dict[str, float]:
    """Euclidean norm of the mean loss's gradient for each parameter that requires one, by name.

    Nothing is changed: no `.grad` is written. AdapterError if no parameter requires a gradient.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not named:
        raise AdapterError(f"{type(model).__name__}: no parameter requires a gradient; attach a method that trains")
    was_training = model.training
    model.eval()
    loss, targets = token_loss(model, collate(examples, pad_id))
    gradients = torch.autograd.grad(loss / targets, list(named.values()), allow_unused=True)
    model.train(was_training)
    pairs = zip(named, gradients, strict=True)
    return {name: 0.0 if value is None else float(torch.linalg.vector_norm(value)) for name, value in pairs}
