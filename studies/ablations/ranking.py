"""WeightLoRA: "largest w" is signed, so that a weight that training drives far below zero is dropped."""

from __future__ import annotations

from typing import Any

from replication.methods.weight_lora import WeightLoraConfig
from studies.ablations.bench import (
    AUTHORS_CODE,
    SEEDS,
    TOY,
    AblationPlan,
    Bench,
    Findings,
    by_seed,
    differences,
    mean,
)
from studies.ablations.early_selection import NEVER


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Sets and scores of both rankings, where the weights are ranked once after T free updates."""
    assert bench is not None
    rows, differing, negative = [], 0, 0
    effects: dict[float, float | None] = {}
    for rate in plan.settings["weight_learning_rates"]:
        common: dict[str, Any] = {**plan.settings["method"], "weight_learning_rate": rate, "project_every": NEVER}
        scores, sets, below = {}, {}, {}
        for ranking in ("signed", "magnitude"):
            trials = {
                seed: bench.train(
                    WeightLoraConfig(**common, rank_by=ranking, init_seed=seed),
                    seed=seed,
                    learning_rate=plan.settings["learning_rate"],
                    **plan.settings["training"],
                )
                for seed in plan.seeds
            }
            scores[ranking] = {seed: trial.score for seed, trial in trials.items()}
            sets[ranking] = {seed: frozenset(trial.choices.get("survivors", ())) for seed, trial in trials.items()}
            weights = {seed: trial.choices["trace"]["weights"] for seed, trial in trials.items() if trial.choices}
            below = {seed: float(sum(weight < 0 for weight in rows_[-2])) for seed, rows_ in weights.items()}
        keep = plan.settings["method"]["keep"]
        shared = {seed: len(sets["signed"][seed] & sets["magnitude"][seed]) / keep for seed in plan.seeds}
        differing += sum(value < 1 for value in shared.values())
        negative += sum(value > 0 for value in below.values())
        difference = differences(scores["signed"], scores["magnitude"])
        effects[rate] = mean(difference)
        rows.append((float(rate), by_seed(below), by_seed(shared), by_seed(scores["signed"]),
                     by_seed(scores["magnitude"]), by_seed(difference)))  # fmt: skip
    runs = len(rows) * len(plan.seeds)
    said = ", ".join(
        f"{'diverged' if value is None else f'{value:+.3f}'.replace('-', '−')} at w rate {rate:g}"
        for rate, value in effects.items()
    )
    return Findings(
        headers=("Rate of w", "Weights below zero before the ranking", "Share of K in common", "Accuracy, signed",
                 "Accuracy, magnitude", "Signed minus magnitude"),
        rows=rows,
        shows=f"some weight was negative in {negative} of {runs} runs, and the two rankings chose different sets in "
        f"{differing}; accuracy, signed minus magnitude: {said}. Where no weight falls below zero by as much as the "
        "others lie above it, the two rankings are one.",
        notes=(f"One projection after {plan.settings['method']['selection_steps']} updates in which all weights move; "
               f"{plan.settings['training']['steps']} updates in all.",),
    )  # fmt: skip


ABLATION = AblationPlan(
    name="ranking",
    paper="weight_lora",
    title="Signed ranking against ranking by magnitude",
    fault="'Largest w' is signed: a large negative w is dropped.",
    source=f"paper_results/weightlora.yaml, fault 6; {AUTHORS_CODE}",
    instead="rank_by is a setting; the default is signed, as the text says 'largest'.",
    data="task sentiment",
    experiment="sentiment-weight-lora",
    seeds=SEEDS,
    settings={
        "version": 1,
        "weight_learning_rates": [5.0, 50.0],
        "learning_rate": 0.016,
        "method": {"rank": 4, "alpha": 16, "dropout": 0.05, "keep": 3, "selection_steps": 20},
        "training": {"steps": 60, "warmup_steps": 5},
    },
    does_not_show=f"{TOY}; the rate of w was not searched, and 50 lies above the authors' 5 to 10.",
    measure=measure,
)
