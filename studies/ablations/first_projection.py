"""WeightLoRA: does it matter when the first projection comes? Scores of the choices that early selection makes."""

from __future__ import annotations

from typing import Any

from replication.methods.random_lora import RandomLoraConfig
from replication.methods.weight_lora import WeightLoraConfig
from studies.ablations.bench import AUTHORS_CODE, TOY, AblationPlan, Bench, Findings, by_seed, differences, mean
from studies.ablations.early_selection import NEVER

# label: T, and whether every update of phase 1 projects
CASES: dict[str, tuple[int, bool]] = {
    "T=3, at once": (3, True),
    "T=20, projection every update (ours)": (20, True),
    "T=20, one projection at update 20": (20, False),
    "T=40, one projection at update 40": (40, False),
}
REFERENCE = "T=20, projection every update (ours)"
RANDOM = "K drawn at random"


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Test score of each way to choose K, and of K drawn at random."""
    assert bench is not None
    common: dict[str, Any] = plan.settings["method"]
    run = {"learning_rate": plan.settings["learning_rate"], **plan.settings["training"]}
    trials = {
        label: {
            seed: bench.train(
                WeightLoraConfig(**common, selection_steps=steps, project_every=1 if often else NEVER, init_seed=seed),
                seed=seed,
                **run,
            )
            for seed in plan.seeds
        }
        for label, (steps, often) in CASES.items()
    }
    trials[RANDOM] = {
        seed: bench.train(RandomLoraConfig(**common, init_seed=seed), seed=seed, **run) for seed in plan.seeds
    }
    scores = {label: {seed: trial.score for seed, trial in runs.items()} for label, runs in trials.items()}
    rows = [
        (label, by_seed(scores[label]),
         "" if label == REFERENCE else by_seed(differences(scores[label], scores[REFERENCE])))
        for label in trials
    ]  # fmt: skip
    means = {label: mean(values) or 0.0 for label, values in scores.items()}
    said = "; ".join(f"{label}: {value:.3f}" for label, value in means.items())
    return Findings(
        headers=("Choice of the K adapters", "Accuracy", "Accuracy minus that of ours"),
        rows=rows,
        shows=f"mean accuracy after {plan.settings['training']['steps']} updates, K={common['keep']}: {said}. The "
        "differences are to be read against their spread over three seeds.",
        notes=("All train for the same updates at the same rate; a pair that stays keeps what it has learned.",),
    )


ABLATION = AblationPlan(
    name="first_projection",
    paper="weight_lora",
    title="When the first projection comes",
    fault="A selection that is decided at the first projection makes T a setting without effect.",
    source=f"follows from early selection; {AUTHORS_CODE}",
    instead="project_every is a setting; the quick profile projects at every update of phase 1, as the paper says.",
    data="task sentiment",
    experiment="sentiment-weight-lora",
    seeds=(18, 52, 1917),
    settings={
        "version": 1,
        "learning_rate": 0.016,
        "method": {"rank": 4, "alpha": 16, "dropout": 0.05, "keep": 3},
        "training": {"steps": 60, "warmup_steps": 5},
    },
    does_not_show=f"{TOY}; the rate was searched for the default, not for each T.",
    measure=measure,
)
