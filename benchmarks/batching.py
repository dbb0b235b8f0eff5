"""Batches of similar length against random ones: how much is padding, and examples a second, side by side.

    python benchmarks/batching.py --params pipelines/cpu/params.yaml sst2-1000-lora mnli-1000-lora

Needs the prepared tasks and the weights of the experiments named (`dvc repro prepare@... pretrain@...`).
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

from pipelines.shared.experiment import Experiment, resolve
from pipelines.shared.fitting import load_base
from pipelines.shared.paths import read_rows
from pipelines.shared.settings import load_settings
from replication.backbones import load_tokenizer
from replication.examples import indices_of_step, steps_per_epoch
from replication.methods import attach
from replication.records import machine_conditions
from replication.training.bfloat16 import fast_bfloat16_products
from replication.training.config import BATCHINGS
from replication.training.loop import train


def padding(lengths: list[int], window: int, batching: str) -> float:
    """Tokens that a model sees in one epoch, padding included, over the tokens that are there."""
    seen = real = 0
    for step in range(1, 1 + steps_per_epoch(len(lengths), window, batching)):
        chosen = indices_of_step(step, lengths, window, 1, batching)
        seen += len(chosen) * max(lengths[i] for i in chosen)
        real += sum(lengths[i] for i in chosen)
    return seen / real


def examples_per_second(plan: Experiment, examples: list, pad_id: int, batching: str, steps: int) -> float:
    """Of forward, backward and update in a short run from a fresh model."""
    training = replace(plan.training, batching=batching, steps=steps, warmup_steps=0, eval_every=None)
    model = attach(load_base(plan, 1), plan.methods[plan.seeds[0]])
    with fast_bfloat16_products(enabled=training.mixed_precision == "bf16"):
        loss, collate = plan.form.training_loss(training.label_smoothing), plan.form.collate
        result = train(
            model, examples, [], training, seed=1, pad_id=pad_id, loss_function=loss, collate_function=collate
        )
    return steps * training.batch_size / result.update_seconds


def main() -> None:
    """Measure the experiments named, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+")
    parser.add_argument("--params", default="pipelines/cpu/params.yaml")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    settings = load_settings(options.params)
    print(f"machine: {machine_conditions(settings.threads)}")
    for key in options.experiments:
        plan = resolve(settings, key)
        tokenizer = load_tokenizer(plan.backbone.name, plan.weights)
        examples = plan.form.encode(tokenizer, read_rows(plan.prepared, "train"), plan.options)
        lengths, pad_id = [len(example) for example in examples], plan.form.pad_id(tokenizer, plan.options)
        waste = {name: padding(lengths, plan.training.batch_size, name) for name in BATCHINGS}
        speeds: dict[str, list[float]] = {name: [] for name in BATCHINGS}
        for turn in range(options.rounds + 1):
            for name in BATCHINGS:
                speed = examples_per_second(plan, examples, pad_id, name, options.steps)
                if turn:  # the first turn warms up
                    speeds[name].append(speed)
        ratio = statistics.median(b / a for a, b in zip(speeds["random"], speeds["bucketed"], strict=True))
        for name in BATCHINGS:
            print(f"{key}: {name}: {waste[name]:.2f} tokens processed a token, "
                  f"{statistics.median(speeds[name]):.1f} examples/s", flush=True)  # fmt: skip
        print(f"{key}: bucketed over random: {ratio:.2f}")


if __name__ == "__main__":
    main()
