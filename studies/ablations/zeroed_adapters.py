"""WeightLoRA: adapters with w = 0 are still computed and kept, and a dense d x d update is built in every forward pass.

Counted, not timed: bytes of the tensors that autograd keeps for the backward pass (weights that are there anyway left
out), and numbers in the optimizer's reach, at several K, with the losers removed, zeroed, and zeroed with the product
formed densely. The survivors are the K adapters of the last blocks, where the authors' logs put them.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from analysis.show.ablations import Cell
from replication.methods import attach
from replication.methods.selection import present_updates, recorded_adapters, remove_adapters
from replication.methods.weight_lora import WeightLoraConfig
from studies.ablations.bench import AUTHORS_CODE, TOY, AblationPlan, Bench, Findings

REMOVED, ZEROED, DENSE = "removed (ours)", "zeroed", "zeroed, dense product"


def dense_forward(update: Any, x: torch.Tensor) -> torch.Tensor:
    """(..., in) -> (..., out) through the (out, in) matrix w s B A, as the authors' layer does."""
    return F.linear(x, (update.lora_B @ update.lora_A) * (update.importance_weight * update.scaling))


def prepared_model(bench: Bench, config: WeightLoraConfig, variant: str, keep: int) -> nn.Module:
    """The bench's backbone with the removed adapters treated according to `variant`."""
    from pipelines.shared.fitting import load_base

    model = attach(load_base(bench.plan, 0), config)
    adapters = recorded_adapters(model)
    losers = [adapter.index for adapter in adapters[: len(adapters) - keep]]
    if variant == REMOVED:
        remove_adapters(model, losers)
    for index, update in present_updates(model).items():
        weight = update.get_parameter("importance_weight")
        weight.requires_grad_(False)
        if index in losers:
            nn.init.zeros_(weight)
        if variant == DENSE:
            update.forward = MethodType(dense_forward, update)  # type: ignore[method-assign]
    return model.train()


def saved_bytes(bench: Bench, model: nn.Module, rows: int) -> int:
    """Bytes that one forward pass over `rows` training rows keeps for the backward pass, parameters left out."""
    from replication.backbones import load_tokenizer

    plan, form = bench.plan, bench.plan.form
    tokenizer = load_tokenizer(plan.backbone.name, plan.weights)
    form.prepare_model(model, tokenizer)
    examples = form.encode(tokenizer, bench.train_rows[:rows], plan.options)
    batch = form.collate(examples, form.pad_id(tokenizer, plan.options))
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # a storage that is freed could lend its address to another

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known and storage.data_ptr() not in seen:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = form.training_loss(plan.training.label_smoothing)(model, batch)
    assert loss.requires_grad
    return sum(seen.values())


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Saved bytes and trained pair parameters of each variant at each K."""
    assert bench is not None
    keeps: list[int] = plan.settings["keep"]
    config = WeightLoraConfig(**plan.settings["method"], keep=max(keeps))
    saved: dict[str, dict[int, int]] = {}
    held: dict[str, dict[int, int]] = {}
    for variant in (REMOVED, ZEROED, DENSE):
        saved[variant], held[variant] = {}, {}
        for keep in keeps:
            model = prepared_model(bench, config, variant, keep)
            saved[variant][keep] = saved_bytes(bench, model, plan.settings["rows"])
            held[variant][keep] = sum(
                p.numel() for update in present_updates(model).values() for p in update.parameters() if p.requires_grad
            )
    rows: list[tuple[Cell, ...]] = [
        (variant, *(round(saved[variant][keep] / 1e6, 3) for keep in keeps), *(held[variant][keep] for keep in keeps))
        for variant in saved
    ]
    low, high = min(keeps), max(keeps)
    flat = len(set(saved[ZEROED].values())) == 1
    return Findings(
        headers=("Losers are", *(f"MB kept for backward, K={keep}" for keep in keeps),
                 *(f"Pair parameters held, K={keep}" for keep in keeps)),
        rows=rows,
        shows=f"with losers zeroed the bytes kept for the backward pass "
        f"{'are the same at every K' if flat else 'hardly depend on K'} "
        f"({saved[ZEROED][low] / 1e6:.2f} MB at K={low}, {saved[ZEROED][high] / 1e6:.2f} at K={high}); removed, they "
        f"fall from {saved[REMOVED][high] / 1e6:.2f} to {saved[REMOVED][low] / 1e6:.2f} MB. The dense product adds "
        f"{(saved[DENSE][high] - saved[ZEROED][high]) / 1e6:.2f} MB to the zeroed ones.",
        notes=(f"One batch of {plan.settings['rows']} rows, rank {plan.settings['method']['rank']}; counted, so it is "
               "the same on every machine.",),
    )  # fmt: skip


ABLATION = AblationPlan(
    name="zeroed_adapters",
    paper="weight_lora",
    title="Losers that stay in the model",
    fault="Adapters with w = 0 are still computed, kept in the optimizer and in memory, and a dense d x d update is "
    "built in every forward pass.",
    source=f"paper_results/weightlora.yaml, fault 1; {AUTHORS_CODE}",
    instead="Losers are taken out with their optimizer state; two thin products, never a d x d matrix.",
    data="task sentiment",
    experiment="sentiment-weight-lora",
    settings={
        "version": 1,
        "rows": 16,
        "keep": [1, 3, 6, 18],
        "method": {"rank": 4, "alpha": 16, "dropout": 0.05},
    },
    does_not_show=f"{TOY}; nor peak memory or time, which depend on the allocator and the machine. How much removal "
    "saves depends on which adapters survive: the backward pass ends at the first of them.",
    measure=measure,
)
