"""WeightLoRA: the inner-product figure uses the raw file; do the selected adapters rank first in both? No training."""

from __future__ import annotations

from pathlib import Path

from analysis.load.authors import InnerProducts, Logs
from analysis.load.paper_files import validated
from analysis.show.ablations import Cell
from analysis.stats.seeds import summarise_seeds
from studies.ablations.bench import AUTHORS_CODE, AblationPlan, Bench, Findings

PRODUCTS, LOGS = Path("paper_results/weightlora_inner_products.yaml"), Path("paper_results/weightlora_logs.yaml")


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Ranks of MNLI's selected adapters among all 36, by each file in absolute value."""
    products, logs = validated(InnerProducts, plan.files[0]), validated(Logs, plan.files[1])
    rows: list[tuple[Cell, ...]] = []
    among: dict[tuple[str, int], int] = {}
    for kind, cells in products.cells.items():
        order = sorted(cells, key=lambda name: -abs(cells[name].number))
        for keep in logs.keeps:
            row = logs.row("mnli", keep)
            assert row is not None
            ranks = sorted(order.index(name) + 1 for name in row.selected.value)
            among[kind, keep] = sum(rank <= keep for rank in ranks)
            rows.append((kind, keep, among[kind, keep], f"{keep * keep / len(order):.1f}",
                         f"{summarise_seeds(ranks).mean:.1f}", ", ".join(map(str, ranks))))  # fmt: skip
    said = "; ".join(
        f"K={keep}: {among['raw', keep]} by the raw values, {among['normalised', keep]} by the normalised ones"
        for keep in logs.keeps
    )
    return Findings(
        headers=("Inner products", "K", "Selected among the K largest", "Expected by chance", "Mean rank",
                 "Ranks of 36"),
        rows=rows,
        shows=f"selected adapters among the K largest inner products: {said}. The agreement that the figure shows is "
        "one of scale: it goes when the products are normalised.",
        notes=("MNLI alone; the selected adapters are those of the authors' logged runs.",),
    )  # fmt: skip


ABLATION = AblationPlan(
    name="inner_products",
    paper="weight_lora",
    title="Raw against normalised inner products",
    fault="The inner-product figure uses the raw file; with the normalised one the selected adapters no longer rank "
    "first.",
    source=f"paper_results/weightlora.yaml, fault 5; {AUTHORS_CODE}",
    instead="Both files are kept as data and shown side by side.",
    data="the authors' files (paper_results/weightlora_inner_products.yaml, weightlora_logs.yaml)",
    files=(PRODUCTS, LOGS),
    settings={"version": 1},
    does_not_show="which of the two is the right measure of an adapter's worth; one task, one run, and the raw product "
    "may be what a selection by gradient sees.",
    measure=measure,
    profile="none",
)
