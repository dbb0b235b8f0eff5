"""WeightLoRA: lora_dropout is stored and never applied, and A starts from a wider range than LoRA's."""

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

OURS = "dropout applied, LoRA's range (ours)"
CASES: dict[str, dict[str, Any]] = {
    OURS: {"apply_dropout": True, "initial_range": "inputs"},
    "dropout ignored": {"apply_dropout": False, "initial_range": "inputs"},
    "wide range": {"apply_dropout": True, "initial_range": "rank"},
    "both, as in the code": {"apply_dropout": False, "initial_range": "rank"},
}


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Scores of the four combinations."""
    assert bench is not None
    trials = {
        label: {
            seed: bench.train(
                WeightLoraConfig(**plan.settings["method"], **case, init_seed=seed),
                seed=seed,
                learning_rate=plan.settings["learning_rate"],
                **plan.settings["training"],
            )
            for seed in plan.seeds
        }
        for label, case in CASES.items()
    }
    scores = {label: {seed: trial.score for seed, trial in runs.items()} for label, runs in trials.items()}
    effects = {label: differences(found, scores[OURS]) for label, found in scores.items() if label != OURS}
    rows = [
        (label, by_seed(scores[label]), by_seed(effects[label]) if label in effects else "")
        for label in trials
    ]  # fmt: skip
    said = "; ".join(
        f"{label} {'diverged' if (value := mean(found)) is None else f'{value:+.3f}'.replace('-', '−')}"
        for label, found in effects.items()
    )
    signs = {label: {v > 0 for v in found.values() if v} for label, found in effects.items()}
    steady = [label for label, found in signs.items() if len(found) == 1]
    return Findings(
        headers=("WeightLoRA with", "Accuracy", "Accuracy minus that of ours"),
        rows=rows,
        shows=f"mean accuracy against ours: {said}; the sign is the same in every seed for "
        f"{', '.join(steady) or 'none of them'}.",
        notes=(f"{plan.settings['training']['steps']} updates; the wide range is 1/sqrt(r) instead of 1/sqrt(in): "
               f"{(96 / plan.settings['method']['rank']) ** 0.5:.1f} times wider here.",),
    )  # fmt: skip


ABLATION = AblationPlan(
    name="dropout_and_range",
    paper="weight_lora",
    title="Dropout ignored, and a wider start",
    fault="lora_dropout is ignored by the WeightLoRA layer and used by the LoRA baseline; A starts from a wider range "
    "than LoRA's.",
    source=f"paper_results/weightlora.yaml, fault 8; {AUTHORS_CODE}",
    instead="Dropout acts on both sides and A starts as LoRA's; apply_dropout and initial_range are settings.",
    data="task sentiment",
    experiment="sentiment-weight-lora",
    seeds=SEEDS,
    settings={
        "version": 1,
        "learning_rate": 0.016,
        "method": {"rank": 4, "alpha": 16, "dropout": 0.05, "keep": 3, "selection_steps": 20},
        "training": {"steps": 60, "warmup_steps": 5},
    },
    does_not_show=f"{TOY}; sixty updates do not overfit, so dropout has little to do here, and a wider A asks for "
    "another rate.",
    measure=measure,
)
