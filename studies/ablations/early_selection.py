"""WeightLoRA: the top K is decided at the first projection that moves anything, and hardly changes afterwards.

Measured from the importance weights after every update, for several learning rates of w and several seeds, once with a
projection at every update (as the authors' code and the paper's first phase have it) and once with none, so that all
weights keep changing and the set after T updates can be read at any T.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from analysis.show.ablations import LineFigure
from replication.errors import DataError
from replication.methods.selection import largest
from replication.methods.weight_lora import WeightLoraConfig
from studies.ablations.bench import AUTHORS_CODE, SEEDS, TOY, AblationPlan, Bench, Findings, by_seed, line, mean

NEVER = 10**6  # project_every beyond every training: the weights move and nothing is thresholded


@dataclass(frozen=True)
class Stickiness:
    """Trace of one run: the first update after which a set is chosen, its set and the last, and every change."""

    first: int
    reached: int
    changes: int
    chosen: frozenset[int]
    final: frozenset[int]
    kept_of_final: tuple[float, ...]


def sets_of(weights: Sequence[Sequence[float]], keep: int) -> list[frozenset[int] | None]:
    """After each update, the adapters whose weight is not zero; None while more than `keep` are."""
    active = [frozenset(index for index, weight in enumerate(row) if weight != 0) for row in weights]
    return [chosen if len(chosen) <= keep else None for chosen in active]


def largest_sets(weights: Sequence[Sequence[float]], keep: int) -> list[frozenset[int]]:
    """After each update, the set that a projection there would choose."""
    import torch

    return [frozenset(largest(torch.tensor(row), keep, "signed")) for row in weights]


def stickiness(steps: Sequence[int], sets: Sequence[frozenset[int] | None]) -> Stickiness:
    """How early the final set is reached; `reached` is the update from which on nothing changes any more."""
    known = [(step, chosen) for step, chosen in zip(steps, sets, strict=True) if chosen is not None]
    if not known:
        raise DataError("no projection took place: the trace has no set")
    final = known[-1][1]
    changes = [step for (_, before), (step, after) in pairwise(known) if before != after]
    return Stickiness(
        first=known[0][0],
        reached=changes[-1] if changes else known[0][0],
        changes=len(changes),
        chosen=known[0][1],
        final=final,
        kept_of_final=tuple(len(chosen & final) / max(1, len(final)) for _, chosen in known),
    )


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Both kinds of run at every rate of w; then scores for several T."""
    assert bench is not None
    chosen, keep = plan.settings, plan.settings["method"]["keep"]
    rows, adapters = [], 0
    points: dict[float, dict[float, dict[int, float | None]]] = {}
    sticky: dict[float, dict[int, Stickiness]] = {}
    for rate in chosen["weight_learning_rates"]:
        sticky[rate], free = {}, {}
        for seed in plan.seeds:
            shared = {**chosen["method"], "weight_learning_rate": rate, "init_seed": seed, "selection_steps": None,
                      "remove_losers": False}  # fmt: skip
            traces = {}
            for every in (1, NEVER):
                trial = bench.train(WeightLoraConfig(**shared, project_every=every), seed=seed, scored=False,
                                    learning_rate=chosen["learning_rate"], **chosen["training"])  # fmt: skip
                traces[every], adapters = trial.choices["trace"], len(trial.choices["adapters"])
            sticky[rate][seed] = stickiness(traces[1]["steps"], sets_of(traces[1]["weights"], keep))
            free[seed] = largest_sets(traces[NEVER]["weights"], keep)
        rows.append(_row(rate, sticky[rate], free, keep))
        steps = range(1, chosen["training"]["steps"] + 1)
        points[rate] = {
            step: {seed: len(free[seed][step - 1] & free[seed][-1]) / keep for seed in plan.seeds}
            for step in steps if step >= min(found.first for found in sticky[rate].values())
        }  # fmt: skip
    return Findings(
        headers=("Rate of w", "First set at update", "Final set from update", "Changes after the first",
                 "First set in final set", "Without projections: first set in final set",
                 "Final sets with and without in common"),
        rows=rows,
        shows=summarise(sticky, rows, adapters, keep, chosen["training"]["steps"]),
        notes=(f"{chosen['training']['steps']} updates, {chosen['training']['warmup_steps']} of warm-up, K={keep} of "
               f"{adapters} adapters; a random set of K shares {keep / adapters:.2f} with another. With a warm-up the "
               "first update has rate 0, so no B and no w moves before the second and no w has a gradient before the "
               "third.",
               "Columns 5 to 7 are shares of K. Without projections: the K largest w at the same update as the first "
               "set, against those at the end of the run."),
        figure=LineFigure(
            title="How soon the K largest weights are the final ones",
            caption=f"Importance weights of runs without projections: share of the K={keep} largest that are among the "
            "K largest in the end. Mean over seeds, band from the least to the greatest.",
            x_label="update",
            y_label="share of the final set",
            series=tuple(line(f"rate of w {rate:g}", found) for rate, found in points.items()),
        ),
    )  # fmt: skip


def _row(
    rate: float, sticky: Mapping[int, Stickiness], free: Mapping[int, Sequence[frozenset[int]]], keep: int
) -> tuple[float | dict[str, float | None], ...]:
    at_first = {seed: free[seed][found.first - 1] for seed, found in sticky.items()}
    return (
        float(rate),
        by_seed({seed: found.first for seed, found in sticky.items()}),
        by_seed({seed: found.reached for seed, found in sticky.items()}),
        by_seed({seed: found.changes for seed, found in sticky.items()}),
        by_seed({seed: found.kept_of_final[0] for seed, found in sticky.items()}),
        by_seed({seed: len(at_first[seed] & free[seed][-1]) / keep for seed in sticky}),
        by_seed({seed: len(found.final & free[seed][-1]) / keep for seed, found in sticky.items()}),
    )


def summarise(
    sticky: Mapping[float, Mapping[int, Stickiness]], rows: Sequence[tuple], adapters: int, keep: int, steps: int
) -> str:
    """Runs whose first set is their last, and what the weights would have chosen later."""
    runs = [(rate, found) for rate, seeds in sticky.items() for found in seeds.values()]
    decided = [found for _, found in runs if found.changes == 0]
    changing = sorted({rate for rate, found in runs if found.changes})
    free = mean([mean(row[5]) for row in rows])
    common = mean([mean(row[6]) for row in rows])
    where = f"; the others have w rates {', '.join(f'{rate:g}' for rate in changing)}" if changing else ""
    firsts = sorted({found.first for _, found in runs})
    assert free is not None
    assert common is not None
    conclusion = (
        ": the projection, not the weights, makes the choice stick, so T matters only if the first projection comes "
        "late"
    )
    return (
        f"in {len(decided)} of {len(runs)} runs the set of the first projection (update "
        f"{' or '.join(map(str, firsts))}) is the set after {steps} updates{where}. Left to move without projections, "
        f"on average {free:.2f} of the first K largest are still among the K largest in the end, and the set that "
        f"projections fix shares {common:.2f} with that one ({keep / adapters:.2f} by chance)"
        f"{conclusion if free < 0.5 and 2 * len(decided) > len(runs) else ''}."
    )


ABLATION = AblationPlan(
    name="early_selection",
    paper="weight_lora",
    title="The selection is decided at the first projection",
    fault="The top K is decided at the second or third step and hardly changes afterwards, whatever the learning rate "
    "of w.",
    source=f"dossier's toy run with the authors' optimizer; {AUTHORS_CODE}",
    instead="T and project_every are explicit settings: project_every = T lets all weights move for T updates first.",
    data="task sentiment",
    experiment="sentiment-weight-lora",
    seeds=SEEDS,
    settings={
        "version": 1,
        "weight_learning_rates": [0.05, 5.0, 50.0],
        "learning_rate": 0.016,
        "method": {"rank": 4, "alpha": 16, "dropout": 0.05, "keep": 3},
        "training": {"steps": 25, "warmup_steps": 5},
    },
    does_not_show=f"{TOY}; nor that a later choice would be a better one (first_projection measures that).",
    measure=measure,
)
