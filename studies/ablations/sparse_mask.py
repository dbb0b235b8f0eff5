"""Solo Connection: the sparse mask that is overwritten by a permutation 0..n-1, against a true binary mask.

The permutation is taken as the mask in every forward pass, as a mask is. Divided by n - 1 it is still no mask, but its
factors lie between 0 and 1: that variant separates "not binary" from "very large".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from analysis.show.ablations import LineFigure
from replication.methods.frozen import FrozenConfig
from replication.methods.shared.base import attachment
from replication.methods.solo_connection import SoloConnectionConfig
from studies.ablations.bench import DEVELOPMENT_CODE, SEEDS, TOY, AblationPlan, Bench, Findings, by_seed, line, mean

BINARY, PERMUTED, SCALED = "binary mask (ours)", "permutation 0 to n-1", "permutation / (n-1)"
Losses = dict[str, dict[float, dict[int, float | None]]]


class PermutedMap(nn.Module):
    """Affine map whose weight (outputs, inputs) is multiplied by a fixed permutation of 0..n-1, times `scale`."""

    factors: torch.Tensor

    def __init__(self, dense: nn.Module, scale: float, generator: torch.Generator):
        super().__init__()
        weight, bias = dense.get_parameter("weight"), dense.get_parameter("bias")
        self.weight, self.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
        order = torch.randperm(weight.numel(), generator=generator).view(weight.shape)
        self.register_buffer("factors", order.to(weight) * scale)

    def dense_weight(self) -> torch.Tensor:
        """W (outputs, inputs) as the forward pass uses it."""
        return self.weight * self.factors


def permute_mask(scaled: bool, seed: int, model: nn.Module) -> None:
    """Replace encoder and decoder of an attached dense Solo Connection by a `PermutedMap`."""
    assert isinstance(attachment(model).config, SoloConnectionConfig)
    solo = model.get_submodule("solo_connection")
    generator = torch.Generator(device="cpu").manual_seed(seed)
    for name in ("encoder", "decoder"):
        dense = solo.get_submodule(name)
        scale = 1.0 / (dense.get_parameter("weight").numel() - 1) if scaled else 1.0
        setattr(solo, name, PermutedMap(dense, scale, generator))


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Dev loss of each variant at each learning rate, and without training."""
    assert bench is not None
    chosen = plan.settings
    losses: Losses = {BINARY: {}, PERMUTED: {}, SCALED: {}}
    counts: dict[str, int] = {}
    for rate in chosen["learning_rates"]:
        for name in losses:
            losses[name][rate] = {}
            for seed in plan.seeds:
                sparse = name == BINARY
                config = SoloConnectionConfig(
                    rank=chosen["rank"],
                    skip_length=chosen["skip_length"],
                    sparsity=chosen["sparsity"] if sparse else 0.0,
                    dropout=chosen["dropout"],
                    init_seed=seed,
                )
                change: Callable[[nn.Module], None] | None = (
                    None if sparse else partial(permute_mask, name == SCALED, seed)
                )
                trial = bench.train(
                    config,
                    seed=seed,
                    learning_rate=rate,
                    change=change,
                    dev=chosen["dev_rows"],
                    scored=False,
                    **chosen["training"],
                )
                losses[name][rate][seed], counts[name] = trial.loss, trial.trainable
    frozen = bench.train(FrozenConfig(), seed=0, learning_rate=1.0, dev=chosen["dev_rows"], scored=False)
    untrained = frozen.loss
    assert untrained is not None
    return Findings(
        headers=("Mask", "Trained parameters", *(f"Dev loss at {rate:g}" for rate in chosen["learning_rates"])),
        rows=[
            (name, counts[name], *(by_seed(losses[name][rate]) for rate in chosen["learning_rates"]))
            for name in losses
        ],
        shows=summarise(losses, untrained, counts),
        notes=(f"Dev loss of the backbone alone: {untrained:.4f}.",
               f"{chosen['training']['steps']} steps; the three variants share data, steps and start values."),
        figure=LineFigure(
            title="Solo Connection, sparse: mask against permutation",
            caption="Mean over seeds, band from the least to the greatest.",
            x_label="learning rate",
            y_label="dev loss",
            log_x=True,
            log_y=True,
            series=tuple(line(name, points) for name, points in losses.items()),
        ),
    )  # fmt: skip


def summarise(losses: Losses, untrained: float, counts: dict[str, int]) -> str:
    """The best mean dev loss of each variant over the rates tried, against the untrained backbone."""
    best: dict[str, tuple[float, float]] = {}
    for name, points in losses.items():
        known: list[tuple[float, Any]] = [(m, rate) for rate, seeds in points.items() if (m := mean(seeds)) is not None]
        if known:
            best[name] = min(known)
    said = "; ".join(
        f"{name}: {best[name][0]:.4f} at rate {best[name][1]:g}" if name in best else f"{name}: diverged at every rate"
        for name in losses
    )
    return (
        f"best mean dev loss over the rates tried (backbone alone {untrained:.4f}): {said}. The permutation hides one "
        f"entry of each map and trains {counts[PERMUTED]:,} parameters where the mask trains {counts[BINARY]:,}."
    )


ABLATION = AblationPlan(
    name="sparse_mask",
    paper="solo_connection",
    title="The sparse mask is a permutation, not a mask",
    fault="The sparse mask is overwritten by a permutation 0..n-1: almost nothing is masked, and weights are scaled by "
    "very large factors.",
    source=DEVELOPMENT_CODE,
    instead="A bool mask with an exact share of hidden entries; the kept entries alone are parameters.",
    data="task microworld-e2e",
    experiment="solo_connection",
    seeds=SEEDS,
    settings={
        "version": 1,
        "rank": 30,
        "skip_length": 2,
        "sparsity": 0.6,
        "dropout": 0.01,
        "learning_rates": [1e-4, 4e-3, 6.4e-2],
        "dev_rows": 60,
        "training": {"steps": 40, "warmup_steps": 4},
    },
    does_not_show=f"{TOY}; nor how the author applied the permutation, which is known from a summary of the code "
    "alone; at d=1024 and r=300 the factors would be a hundred times larger.",
    measure=measure,
)
