"""Solo Connection: the published parameter count ignores the mask and counts unused connections. No training."""

from __future__ import annotations

from analysis.show.ablations import Cell
from replication.methods.solo_connection import SoloConnectionConfig
from studies.ablations.bench import DEVELOPMENT_CODE, AblationPlan, Bench, Findings

SHAPES = {"GPT-2 Medium": (1024, 24), "GPT-2 Large": (1280, 36)}


def as_printed(config: SoloConnectionConfig, width: int, allocated: int) -> int:
    """The count that ignores the mask and takes every allocated connection for a used one."""
    autoencoder = 2 * width * config.rank + config.rank + width
    return autoencoder + allocated * (width + 1 + config.rank)


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """The true and the faulty count of each reading; the true ones equal the models' in the library's tests."""
    rows: list[tuple[Cell, ...]] = []
    ratios = []
    for name, (width, blocks) in SHAPES.items():
        allocated = len(SoloConnectionConfig(skip_length=2).connections(blocks))
        for given in plan.settings["readings"]:
            config = SoloConnectionConfig(**given)
            true = config.closed_form_parameters(width, blocks)
            faulty = as_printed(config, width, allocated)
            ratios.append((faulty / true, name, given))
            label = ", ".join(f"{field}={value}" for field, value in given.items())
            rows.append((name, label, len(config.connections(blocks)), true, allocated, faulty, f"{faulty / true:.2f}"))
    dense = max(ratio for ratio, _, given in ratios if not given.get("sparsity"))
    sparse = max(ratio for ratio, _, given in ratios if given.get("sparsity"))
    return Findings(
        headers=("Backbone", "Reading", "Connections used", "Parameters", "Connections allocated", "As printed",
                 "Printed / true"),
        rows=rows,
        shows=f"ignoring the mask counts up to {sparse:.2f} times what can train, unused connections up to {dense:.2f} "
        "times in a dense reading: the printed 0.26M cannot come from a sparse reading counted that way.",
        notes=("Allocated: one for every second block, whatever the skip length.",),
    )  # fmt: skip


ABLATION = AblationPlan(
    name="printed_count",
    paper="solo_connection",
    title="A printed count that ignores the mask",
    fault="The printed parameter count ignores the mask and counts connections that are allocated but unused.",
    source=DEVELOPMENT_CODE,
    instead="A parameter exists only if it is used; counts are taken from the built model.",
    data="shapes of GPT-2 Medium and Large",
    settings={
        "version": 1,
        "readings": [
            {"rank": 120, "skip_length": 2},
            {"rank": 120, "skip_length": 6},
            {"rank": 300, "skip_length": 2, "sparsity": 0.6},
            {"rank": 300, "skip_length": 6, "sparsity": 0.6},
        ],
    },
    does_not_show="which reading the paper's table used; the development code is a year older than the paper.",
    measure=measure,
    profile="none",
)
