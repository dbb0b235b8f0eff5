"""WeightLoRA: the two sides of the comparison do not get equal settings. Their effect on a method's score.

The authors' scripts for XSum give LoRA 7,000 documents and 20 epochs where WeightLoRA has 5,000 and 15, source and
target lengths of 128 and 64 against 256 and 160, and learning rates of 1e-3 against 5e-5. The same ratios here: each
method is compared with itself under one inequality after the other, then the two methods under equal settings and
under both allotments.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from analysis.show.ablations import Cell
from pipelines.shared.paths import Rows
from replication.methods import MethodConfig
from replication.methods.lora import LoraConfig
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

Scores = dict[int, float | None]
BASE, MORE = "few documents and epochs", "7/5 documents, 4/3 epochs"
RATE = "a twentieth of the rate"
LORA, WEIGHT_LORA = "LoRA", "WeightLoRA"


def method_of(name: str, settings: Mapping[str, Any], seed: int) -> MethodConfig:
    """One of the two methods, from the settings of the quick profile."""
    if name == LORA:
        return LoraConfig(**settings[LORA], init_seed=seed)
    return WeightLoraConfig(**settings[WEIGHT_LORA], init_seed=seed)


def share_of(rows: Rows, share: float) -> Rows:
    """The same random share of the rows for every method and seed."""
    order = list(rows)
    random.Random(0).shuffle(order)
    return order[: round(share * len(order))]


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Scores of both methods at each allotment, and differences that a reader would take for a method's effect."""
    assert bench is not None
    chosen, few = plan.settings, share_of(bench.train_rows, 5 / 7)
    steps = chosen["steps"]
    more = round(steps * 7 / 5 * 4 / 3)
    scores: dict[str, dict[str, Scores]] = {}
    for name, rate in chosen["learning_rates"].items():
        allotments: dict[str, dict[str, Any]] = {
            BASE: {"rows": few, "steps": steps, "learning_rate": rate},
            MORE: {"steps": more, "learning_rate": rate},
            RATE: {"rows": few, "steps": steps, "learning_rate": rate / 20},
        }
        scores[name] = {
            label: {
                seed: bench.train(method_of(name, chosen["methods"], seed), seed=seed,
                                  warmup_steps=chosen["warmup_steps"],
                                  batch_size=chosen["batch_size"], **given).score
                for seed in plan.seeds
            }
            for label, given in allotments.items()
            if label in chosen["arms"][name]
        }  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for name, found in scores.items():
        for label in chosen["arms"][name][1:]:
            rows.append((f"{name}: {label}", f"{name}: {BASE}", by_seed(found[label]), by_seed(found[BASE]),
                         by_seed(differences(found[label], found[BASE]))))  # fmt: skip
    for label in (BASE, MORE):
        rows.append(_between(scores, label, label))
    rows += [_between(scores, BASE, MORE), _between(scores, MORE, BASE)]
    return Findings(
        headers=("First", "Second", "Accuracy of the first", "Accuracy of the second", "First minus second"),
        rows=rows,
        shows=summarise(scores),
        notes=(f"Few: 5/7 of the training rows, {steps} updates; many: all rows, {more} updates, each of "
               f"{chosen['batch_size']} rows. Rates are the quick "
               f"profile's own: {', '.join(f'{name} {rate:g}' for name, rate in chosen['learning_rates'].items())}. "
               "Lengths are not varied: the embedded sentences have about 20 tokens.",),
    )  # fmt: skip


def _between(scores: Mapping[str, Mapping[str, Scores]], of_weight_lora: str, of_lora: str) -> tuple[Cell, ...]:
    first, second = scores[WEIGHT_LORA][of_weight_lora], scores[LORA][of_lora]
    return (f"{WEIGHT_LORA}: {of_weight_lora}", f"{LORA}: {of_lora}", by_seed(first), by_seed(second),
            by_seed(differences(first, second)))  # fmt: skip


def summarise(scores: Mapping[str, Mapping[str, Scores]]) -> str:
    """Effects of each inequality on a method against itself, and on the comparison of the two."""

    def effect(first: Scores, second: Scores) -> str:
        value = mean(differences(first, second))
        return "diverged" if value is None else f"{value:+.3f}".replace("-", "−")

    own = "; ".join(
        f"{name}: {', '.join(f'{label} {effect(found[label], found[BASE])}' for label in found if label != BASE)}"
        for name, found in scores.items()
    )
    first, second = scores[WEIGHT_LORA], scores[LORA]
    return (
        f"a method against itself, where only the settings differ, mean accuracy: {own}. WeightLoRA minus LoRA is "
        f"{effect(first[BASE], second[BASE])} with few and {effect(first[MORE], second[MORE])} with many for both, but "
        f"{effect(first[BASE], second[MORE])} where LoRA gets more and {effect(first[MORE], second[BASE])} where "
        "WeightLoRA gets more."
    )


ABLATION = AblationPlan(
    name="unequal_settings",
    paper="weight_lora",
    title="Unequal settings of the two sides",
    fault="WeightLoRA and LoRA are given different training documents, epochs, lengths and learning rates.",
    source=f"scripts for XSum, as listed in paper_results/weightlora.yaml (settings, fault 11); {AUTHORS_CODE}",
    instead="Equal rows, updates, lengths and search effort within a task: steps cannot be given to a method.",
    data="task sentiment",
    experiment="sentiment-weight-lora",
    seeds=SEEDS,
    settings={
        "version": 1,
        "arms": {LORA: [BASE, MORE, RATE], WEIGHT_LORA: [BASE, MORE]},
        "steps": 40,
        "batch_size": 8,
        "warmup_steps": 5,
        "learning_rates": {LORA: 0.004, WEIGHT_LORA: 0.016},
        "methods": {
            LORA: {"rank": 4, "alpha": 16, "dropout": 0.05, "targets": ["query", "key", "value"]},
            WEIGHT_LORA: {"rank": 4, "alpha": 16, "dropout": 0.05, "keep": 3, "selection_steps": 20},
        },
    },
    does_not_show=f"{TOY}; nor which side the authors' inequality favours on XSum: a lower rate and fewer documents "
    "pull one way, longer sources the other.",
    measure=measure,
)
