"""10,000 resamples of 630 items for BLEU: all sums scored at once, against one call per resample.

Items are made up (counts of n-grams as BLEU keeps them): the time does not depend on what they say.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Benchmark

ITEMS, RESAMPLES, SEEDS = 630, 10_000, 3


def made_up() -> Any:
    """BLEU statistics, shape (seeds, items, 10): about 25 words an item, fewer matches the longer the n-gram."""
    rng = np.random.default_rng(0)
    length = rng.integers(10, 40, size=(SEEDS, ITEMS))
    tried = np.stack([length - order for order in range(4)], axis=2)
    matched = rng.binomial(tried, [0.9, 0.7, 0.5, 0.4])
    reference = length + rng.integers(-3, 4, size=length.shape)
    return np.concatenate([matched, tried, length[..., None], reference[..., None]], axis=2)


def bootstrap() -> Benchmark:
    """Both ways on the same rows."""
    from analysis.stats.bootstrap import bootstrap_replicates
    from analysis.stats.items import statistic_of
    from replication.metrics.bleu import bleu_from_statistics

    rows = made_up()
    ways = {"one call a resample": bleu_from_statistics, "all at once": statistic_of("BLEU", "generation")}
    return Benchmark(
        "10,000 resamples of 630 items for BLEU, mean of three seeds",
        "one call a resample",
        {
            name: lambda chosen=chosen: lambda: bootstrap_replicates(rows, chosen, resamples=RESAMPLES)  # type: ignore[misc]
            for name, chosen in ways.items()
        },
        rounds=3,
        settings={"items": ITEMS, "resamples": RESAMPLES, "seeds": SEEDS},
    )
