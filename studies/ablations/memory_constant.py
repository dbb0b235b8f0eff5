"""WeightLoRA: the memory figure adds a constant 3.5 GB to the measured values: effect on the saving."""

from __future__ import annotations

from pathlib import Path

from analysis.load.authors import MemoryCurves
from analysis.load.paper_files import validated
from analysis.show.ablations import Cell
from studies.ablations.bench import AUTHORS_CODE, AblationPlan, Bench, Findings

CURVES = Path("paper_results/weightlora_memory.yaml")


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Relative saving from all 36 adapters to 10, 5 and 1, with and without the constant, at each rank."""
    curves = validated(MemoryCurves, plan.files[0])
    added = curves.added_by_their_figure.number
    rows: list[tuple[Cell, ...]] = []
    savings: dict[int, list[float]] = {}
    for series in curves.series:
        most = series.cells[36].number
        cells: list[Cell] = [series.rank, most]
        for keep in plan.settings["keep"]:
            saved = most - series.cells[keep].number
            cells.append(f"{100 * saved / most:.1f} % / {100 * saved / (most + added):.1f} %")
            savings.setdefault(keep, []).append(saved / most)
        rows.append(tuple(cells))
    least, greatest = (f"{100 * choose(savings[plan.settings['keep'][-1]]):.1f} %" for choose in (min, max))
    return Findings(
        headers=("Rank", "GB at 36 adapters, as measured",
                 *(f"Saved at K={keep}: measured / as drawn" for keep in plan.settings["keep"])),
        rows=rows,
        shows=f"in the authors' measured values K=1 saves {least} to {greatest} of the memory of 36 adapters, "
        f"depending on the rank; drawn with {added:g} GB more under every point the share is smaller, so the constant "
        "works against their claim. The slope in GB is untouched.",
        notes=("The measurement inserts adapters from block 0 upwards: its K is not a WeightLoRA selection, and the "
               "backward pass reaches block 0 at every K.",),
    )  # fmt: skip


ABLATION = AblationPlan(
    name="memory_constant",
    paper="weight_lora",
    title="A constant 3.5 GB in the memory figure",
    fault="The memory figure of the second repository adds a constant 3.5 GB to the measured values, and it measures "
    "adapters inserted from block 0 upwards, not a WeightLoRA run.",
    source=f"paper_results/weightlora.yaml, fault 4; {AUTHORS_CODE}",
    instead="The measured values are drawn as they are; our own memory is measured in phase 2 of a real selection.",
    data="the authors' measurements (paper_results/weightlora_memory.yaml)",
    files=(CURVES,),
    settings={"version": 1, "keep": [10, 5, 1]},
    does_not_show="what a WeightLoRA run saves, which depends on where the survivors lie; nor why the constant "
    "was added.",
    measure=measure,
    profile="none",
)
