"""10,000 resamples of 630 items for BLEU: all sums scored at once, against one call per resample, in one process.

Items are made up (counts of n-grams as BLEU keeps them): the time does not depend on what they say.

    python benchmarks/bootstrap.py --seeds 3
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer

from analysis.stats.bootstrap import Statistic, bootstrap_replicates
from analysis.stats.items import statistic_of
from replication.metrics.bleu import bleu_from_statistics

WAYS: dict[str, Statistic] = {"vectorised": statistic_of("BLEU", "generation"), "loop": bleu_from_statistics}


def made_up(seeds: int, items: int) -> Any:
    """BLEU statistics, shape (seeds, items, 10): about 25 words an item, fewer matches the longer the n-gram."""
    rng = np.random.default_rng(0)
    length = rng.integers(10, 40, size=(seeds, items))
    tried = np.stack([length - order for order in range(4)], axis=2)
    matched = rng.binomial(tried, [0.9, 0.7, 0.5, 0.4])
    reference = length + rng.integers(-3, 4, size=length.shape)
    return np.concatenate([matched, tried, length[..., None], reference[..., None]], axis=2)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of one call, and what it gave."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def main(
    items: Annotated[int, typer.Option(help="Test items.")] = 630,
    resamples: Annotated[int, typer.Option(help="Resamples.")] = 10_000,
    seeds: Annotated[int, typer.Option(help="Seeds whose mean is resampled.")] = 3,
    rounds: Annotated[int, typer.Option(help="Repetitions; the median is given.")] = 3,
) -> None:
    """Print seconds of both ways, their ratio, and the largest difference of a replicate, as JSON."""
    rows = made_up(seeds, items)
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    replicates = {}
    for _ in range(rounds):
        for name, statistic in WAYS.items():
            spent, replicates[name] = seconds(
                lambda chosen=statistic: bootstrap_replicates(rows, chosen, resamples=resamples)
            )
            taken[name].append(spent)
    median = {name: statistics.median(values) for name, values in taken.items()}
    print(
        json.dumps(
            {
                "items": items,
                "resamples": resamples,
                "seeds": seeds,
                "processor_seconds": {name: round(value, 3) for name, value in median.items()},
                "loop_over_vectorised": round(median["loop"] / median["vectorised"], 1),
                "largest_difference": float(np.abs(replicates["loop"] - replicates["vectorised"]).max()),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    typer.run(main)
