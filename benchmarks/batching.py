"""Batches of similar length against random ones: one epoch of LoRA on examples whose lengths are drawn log-normally."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.harness import Benchmark, Work
from benchmarks.steps import bare, ready

EXAMPLES, BATCH, LONGEST = 256, 8, 64


def lengths() -> list[int]:
    """About 20 tokens an example, few long ones, as in GLUE."""
    drawn = np.random.default_rng(0).lognormal(3.0, 0.6, EXAMPLES)
    return [int(value) for value in np.clip(drawn, 4, LONGEST)]


def batches(batching: str) -> list[tuple[int, int]]:
    """(examples, length with padding) of each step of the first epoch."""
    from replication.examples import indices_of_step, steps_per_epoch

    own = lengths()
    steps = range(1, 1 + steps_per_epoch(EXAMPLES, BATCH, batching))
    chosen = [indices_of_step(step, own, BATCH, 1, batching) for step in steps]
    return [(len(indices), max(own[index] for index in indices)) for indices in chosen]


def epoch(batching: str) -> Work:
    """The steps of one epoch on the quick profile's GPT-2."""
    from replication.methods import attach, method_config

    model, _ = bare("microworld-gpt2")
    step = ready(attach(model, method_config("lora")), {})
    shapes = batches(batching)

    def work() -> None:
        for shape in shapes:
            tokens = torch.full(shape, 5)
            step.batch = {"input_ids": tokens, "labels": tokens}
            step()

    return work


def batching() -> Benchmark:
    """Both values of the setting."""
    from replication.training.config import BATCHINGS

    return Benchmark(
        "one epoch of 256 examples of 4 to 64 tokens on the quick profile's GPT-2",
        "random",
        {name: lambda name=name: epoch(name) for name in BATCHINGS},  # type: ignore[misc]
        settings={
            "examples": EXAMPLES,
            "batch": BATCH,
            "tokens_with_padding": {name: sum(a * b for a, b in batches(name)) for name in BATCHINGS},
        },
    )
