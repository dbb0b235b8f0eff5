"""WeightLoRA: overlap between tasks compared position by position in sorted lists, instead of as sets. No training."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from analysis.load.authors import Logs
from analysis.load.paper_files import validated
from analysis.load.selection import position_agreement, read_selection, shared_fraction
from analysis.show.ablations import Cell
from studies.ablations.bench import AUTHORS_CODE, AblationPlan, Bench, Findings

LOGS = Path("paper_results/weightlora_logs.yaml")
RUNS = tuple(
    Path(f"runs/quick/{task}-weight-lora/training/seed-{seed}/selection.json")
    for task in ("sentiment", "qa")
    for seed in (18, 52, 1917)
)


def compared(lists: list[list[str]]) -> tuple[float, float, int]:
    """Mean overlap of all pairs as sets and by position, and in how many pairs the two differ."""
    pairs = [(shared_fraction(a, b), position_agreement(a, b)) for a, b in combinations(lists, 2)]
    return (
        sum(shared for shared, _ in pairs) / len(pairs),
        sum(by_position for _, by_position in pairs) / len(pairs),
        sum(shared != by_position for shared, by_position in pairs),
    )


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Both ways of comparing, on the authors' logs and on the small DeBERTa's runs."""
    logs = validated(Logs, plan.files[0])
    rows: list[tuple[Cell, ...]] = []
    means = {}
    for keep in logs.keeps:
        lists = [list(row.selected.value) for row in logs.rows if row.keep == keep and row.comparable]
        shared, by_position, differ = means[keep] = compared(lists)
        pairs = len(lists) * (len(lists) - 1) // 2
        rows.append((f"authors' logs, K={keep}, 7 tasks that trained", pairs, shared, by_position, differ,
                     f"{keep / 36:.2f}"))  # fmt: skip
    found = [read_selection(path) for path in plan.files[1:]]
    kept = [[selection.adapters[index].key for index in sorted(selection.survivors)] for selection in found]
    chance = len(found[0].survivors) / len(found[0].adapters)
    shared, by_position, differ = compared(kept)
    rows.append(("quick profile, small DeBERTa, K=3, 2 tasks x 3 seeds", len(kept) * (len(kept) - 1) // 2, shared,
                 by_position, differ, f"{chance:.2f}"))  # fmt: skip
    cola, mnli = logs.row("cola", 5), logs.row("mnli", 5)
    assert cola is not None
    assert mnli is not None
    example = (shared_fraction(cola.selected.value, mnli.selected.value),
               position_agreement(cola.selected.value, mnli.selected.value))  # fmt: skip
    said = "; ".join(f"K={keep}: {a:.2f} as sets, {b:.2f} by position" for keep, (a, b, _) in means.items())
    return Findings(
        headers=("Selections", "Pairs", "Mean overlap as sets", "Mean overlap by position", "Pairs that differ",
                 "By chance, as sets"),
        rows=rows,
        shows=f"in the authors' own logs, mean overlap between tasks: {said}. Comparing by position understates it; "
        f"CoLA and MNLI at K=5 share {example[0]:.1f} as sets, {example[1]:.1f} by position.",
        notes=("By position: share of places at which two lists, each sorted by layer, name the same adapter.",
               "RTE is left out: its logged runs did not train."),
    )  # fmt: skip


ABLATION = AblationPlan(
    name="overlap",
    paper="weight_lora",
    title="Overlap by position instead of as sets",
    fault="The figure of overlap between tasks compares the sorted lists position by position, so it understates "
    "agreement.",
    source=f"paper_results/weightlora.yaml, fault 3; {AUTHORS_CODE}",
    instead="Sets are compared as sets; the position-wise number is shown beside it in the report's figure.",
    data="the authors' logs (paper_results/weightlora_logs.yaml) and committed selections of the quick profile",
    files=(LOGS, *RUNS),
    settings={"version": 1},
    does_not_show="whether the choices are good ones; each logged cell is one run, so agreement between tasks cannot "
    "be told from agreement between seeds in their logs.",
    measure=measure,
)
