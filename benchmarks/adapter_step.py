"""Time and memory of one training step, method against method, in turn and in one run; figures are ratios to LoRA.

Memory is measured in a fresh process for each method (a process's peak never falls); time in turn within one process,
so that a machine whose speed drifts does not favour one side.

    python benchmarks/adapter_step.py --backbone gpt2 --rounds 5
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Annotated, Any

import typer

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "rank": 4},
    "solo_k2": {"method": "solo_connection", "skip_length": 2},
    "solo_k6": {"method": "solo_connection", "skip_length": 6},
    "full": {"method": "full"},
}


def prepared(backbone: str, settings: dict[str, Any]) -> tuple[Any, Any]:
    """A randomly initialised model with the method attached, and an optimizer over what it trains."""
    import torch

    from replication.backbones import build_fresh
    from replication.methods import attach, method_config, trainable_parameters

    torch.manual_seed(0)
    values = dict(settings)
    name = values.pop("method")
    if name == "solo_connection":
        values["rank"] = 120
    model = attach(build_fresh(backbone), method_config(name, **values)).train()
    return model, torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-4)


def step(model: Any, optimizer: Any, batch: int, length: int) -> float:
    """Seconds of one forward, backward and update on random tokens."""
    import torch

    tokens = torch.randint(0, model.config.vocab_size, (batch, length))
    started = time.perf_counter()
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def peak_memory(backbone: str, name: str, batch: int, length: int) -> int:
    """Peak resident bytes of a fresh process that does two steps."""
    arguments = ["--backbone", backbone, "--batch", str(batch), "--length", str(length), "--memory-of", name]
    output = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True).stdout
    return int(json.loads(output)["peak_memory_bytes"])


def main(
    backbone: Annotated[str, typer.Option(help="A backbone known to `replicate count`.")] = "gpt2",
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    length: Annotated[int, typer.Option(min=2)] = 64,
    memory_of: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Print a table of medians and ratios."""
    if memory_of:
        model, optimizer = prepared(backbone, METHODS[memory_of])
        for _ in range(2):
            step(model, optimizer, batch, length)
        scale = 1 if sys.platform == "darwin" else 1024
        print(json.dumps({"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale}))
        return
    memory = {name: peak_memory(backbone, name, batch, length) for name in METHODS}
    pairs = {name: prepared(backbone, settings) for name, settings in METHODS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for round_number in range(rounds + 1):
        for name, (model, optimizer) in pairs.items():
            taken = step(model, optimizer, batch, length)
            if round_number:  # the first round warms up
                seconds[name].append(taken)
    print(f"{backbone}, {batch} x {length} tokens, {rounds} rounds in turn")
    print(f"{'method':<10}{'median s':>10}{'x LoRA':>9}{'peak MB':>10}{'x LoRA':>9}")
    for name in METHODS:
        ratios = [own / lora for own, lora in zip(seconds[name], seconds["lora"], strict=True)]
        print(
            f"{name:<10}{statistics.median(seconds[name]):>10.2f}{statistics.median(ratios):>9.2f}"
            f"{memory[name] / 2**20:>10.0f}{memory[name] / memory['lora']:>9.2f}"
        )


if __name__ == "__main__":
    typer.run(main)
