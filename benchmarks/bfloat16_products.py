"""Time of one training step: float32, bfloat16 autocast with torch's own products, and with `FloatProducts`.

In turn and in one run; figures are ratios to float32. On a processor with AVX-512 torch's own are the fastest and the
pipeline uses them; on one with only AVX2 they are plain loops.

    python benchmarks/bfloat16_products.py --backbone smollm2-135m --rounds 2
"""

from __future__ import annotations

import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import typer


def main(
    backbone: Annotated[str, typer.Option(help="A backbone known to `replicate count`.")] = "gpt2",
    method: Annotated[str, typer.Option(help="`full` or an adapter without settings.")] = "full",
    rounds: Annotated[int, typer.Option(min=1)] = 2,
    batch: Annotated[int, typer.Option(min=1)] = 2,
    length: Annotated[int, typer.Option(min=2)] = 32,
) -> None:
    """Print a table of medians and ratios."""
    import torch

    from replication.backbones import build_fresh
    from replication.methods import attach, method_config
    from replication.records import has_bfloat16_kernels
    from replication.training.bfloat16 import FloatProducts

    torch.manual_seed(0)
    model = attach(build_fresh(backbone), method_config(method)).train()
    tokens = torch.randint(0, model.config.vocab_size, (batch, length))
    ways: dict[str, tuple[bool, AbstractContextManager[Any]]] = {
        "float32": (False, nullcontext()),
        "bfloat16, torch's own": (True, nullcontext()),
        "bfloat16, FloatProducts": (True, FloatProducts()),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(rounds + 1):
        for name, (narrow, way) in ways.items():
            started = time.perf_counter()
            with way:
                with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
                    loss = model(input_ids=tokens, labels=tokens).loss
                loss.backward()
            model.zero_grad(set_to_none=True)
            if round_number:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    print(f"{backbone}, {method}, {batch} x {length} tokens, {rounds} rounds in turn")
    print(f"bfloat16 kernels on this processor: {'yes' if has_bfloat16_kernels() else 'no'}")
    print(f"{'products':<26}{'median s':>10}{'x float32':>11}")
    for name, taken in seconds.items():
        ratios = [own / wide for own, wide in zip(taken, seconds["float32"], strict=True)]
        print(f"{name:<26}{statistics.median(taken):>10.2f}{statistics.median(ratios):>11.2f}")


if __name__ == "__main__":
    typer.run(main)
