"""Solo Connection: which parts receive a gradient at the first updates, and what a decoder started at zero would do.

Two of the faults are one question. The dense decoder is meant to start at zero, and a later global initialisation
undoes it; and with the decoder drawn at random only the homotopy vector has a gradient at first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from replication.methods import trainable_parameters
from replication.methods.solo_connection import SoloConnectionConfig
from replication.training.callbacks import Callback, Run
from studies.ablations.bench import DEVELOPMENT_CODE, SEEDS, TOY, AblationPlan, Bench, Findings, by_seed, mean

PARTS = {
    "homotopy vector v": "homotopy_vector",
    "homotopy parameter a": "homotopy_parameter",
    "encoder vector e": "encoder_vector",
    "encoder E": "solo_connection.encoder.",
    "decoder D": "solo_connection.decoder.",
}
DRAWN, ZERO = "drawn from N(0, 0.02) (ours)", "zero"


class GradientNorms(Callback):
    """Euclidean norm of the gradient of each part, at the updates named."""

    def __init__(self, updates: list[int]):
        self.updates = updates
        self.norms: dict[int, dict[str, float]] = {}

    def on_update(self, run: Run) -> None:
        """Gradients are still set."""
        if run.step in self.updates:
            named = trainable_parameters(run.model)
            self.norms[run.step] = {
                part: torch.stack(
                    [p.grad.norm() for name, p in named.items() if pattern in name and p.grad is not None]
                    or [torch.zeros(())]
                ).norm().item()
                for part, pattern in PARTS.items()
            }  # fmt: skip


def start_at_zero(model: nn.Module) -> None:
    """The decoder's weight and bias become zero."""
    decoder = model.get_submodule("solo_connection.decoder")
    for parameter in decoder.parameters():
        nn.init.zeros_(parameter)


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Gradient norms at the first updates, and the dev loss in the end, for both starts."""
    assert bench is not None
    updates: list[int] = plan.settings["updates"]
    norms: dict[str, dict[int, dict[int, dict[str, float]]]] = {}
    losses: dict[str, dict[int, float | None]] = {}
    starts: dict[str, Callable[[nn.Module], None] | None] = {DRAWN: None, ZERO: start_at_zero}
    for name, change in starts.items():
        norms[name], losses[name] = {}, {}
        for seed in plan.seeds:
            callback = GradientNorms(updates)
            config = SoloConnectionConfig(**plan.settings["method"], init_seed=seed)
            trial = bench.train(
                config,
                seed=seed,
                learning_rate=plan.settings["learning_rate"],
                change=change,
                callback=callback,
                dev=plan.settings["dev_rows"],
                scored=False,
                **plan.settings["training"],
            )
            norms[name][seed], losses[name][seed] = callback.norms, trial.loss
    rows = [
        (name, part, *(by_seed({seed: norms[name][seed][update][part] for seed in plan.seeds}) for update in updates),
         by_seed(losses[name]) if part == next(iter(PARTS)) else "")
        for name in starts for part in PARTS
    ]  # fmt: skip
    silent = [part for part in PARTS if all(norms[DRAWN][seed][updates[0]][part] == 0 for seed in plan.seeds)]
    dead = all(value == 0 for seed in plan.seeds for update in updates for value in norms[ZERO][seed][update].values())
    steps = plan.settings["training"]["steps"]
    first, second = mean(losses[DRAWN]), mean(losses[ZERO])
    return Findings(
        headers=("Decoder's start", "Part", *(f"Gradient norm, update {update}" for update in updates),
                 f"Dev loss after {steps} steps"),
        rows=rows,
        shows=(
            f"at the first update of the default {len(PARTS) - len(silent)} of {len(PARTS)} parts has a gradient (all "
            f"but {', '.join(silent)}), from the second on every part. With v and the decoder both zero "
            + ("no part ever has a gradient and nothing is learned" if dead else "some part has a gradient")
            + f": dev loss {second:.4f} after {steps} steps, {first:.4f} with the decoder drawn. The initialisation "
            "that undoes the zero start is what lets the method train."
        ),
        notes=("No warm-up here, so that the first update has a rate above zero.",),
    )  # fmt: skip


ABLATION = AblationPlan(
    name="decoder_start",
    paper="solo_connection",
    title="The decoder's zero start, and who learns first",
    fault="The dense decoder's zero start is undone by a later global initialisation; in the dense case only v "
    "receives a gradient at the first step.",
    source=DEVELOPMENT_CODE,
    instead="The decoder is drawn from N(0, 0.02) on purpose; v = 0 alone keeps the start at the base model.",
    data="task microworld-e2e",
    experiment="solo_connection",
    seeds=SEEDS,
    settings={
        "version": 1,
        "method": {"rank": 12, "skip_length": 2},
        "learning_rate": 0.064,
        "updates": [1, 2, 3],
        "dev_rows": 60,
        "training": {"steps": 40, "warmup_steps": 0},
    },
    does_not_show=f"{TOY}. That the zero start is a dead end follows from the equations and holds for every size.",
    measure=measure,
)
