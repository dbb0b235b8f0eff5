"""Forward and backward in float32, in bfloat16 autocast with torch's own products, and with `FloatProducts`.

On a processor with bfloat16 kernels torch's own are the fastest and the pipeline uses them; on one without they are
plain loops.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch

from benchmarks.harness import Benchmark, Work
from benchmarks.steps import bare

BACKBONE, BATCH, LENGTH = "smollm2-135m", 2, 32


def precision() -> Benchmark:
    """All parameters of one model, in three kinds of products."""
    from replication.records import has_bfloat16_kernels
    from replication.training.bfloat16 import FloatProducts

    def way(narrow: bool, own: bool) -> Work:
        model, batch = bare(BACKBONE, BATCH, LENGTH)
        model.train()

        def work() -> None:
            with FloatProducts() if own else nullcontext():
                with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
                    loss = model(**batch).loss
                loss.backward()
            model.zero_grad()

        return work

    return Benchmark(
        "forward and backward of all parameters in float32 and in bfloat16 autocast",
        "float32",
        {
            "float32": lambda: way(False, False),
            "bfloat16, torch's own": lambda: way(True, False),
            "bfloat16, FloatProducts": lambda: way(True, True),
        },
        rounds=5,
        settings={
            "backbone": BACKBONE,
            "batch": BATCH,
            "length": LENGTH,
            "bfloat16_kernels": has_bfloat16_kernels(),
        },
    )
