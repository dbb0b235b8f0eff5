"""WeightLoRA+: the expansion runs before the selection, so that every adapter expands first.

The faulty order grows all pairs at the moment of a round and takes the losers out one update later.
"""

from __future__ import annotations

from collections.abc import Sequence

from replication.methods.selection import pair_parameters, present_updates
from replication.methods.weight_lora import Milestone, WeightLoraCallback
from replication.methods.weight_lora_plus import WeightLoraPlusConfig
from replication.training.callbacks import Run
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

OURS, FAULTY = "selection, then expansion (ours)", "expansion, then selection"


class WatchedSelection(WeightLoraCallback):
    """As ours, and the most parameters that the pairs hold at a time from the first round on."""

    most = 0

    def on_step_end(self, run: Run) -> None:
        """Count after every update from the first round on."""
        super().on_step_end(run)
        self.watch(run)

    def watch(self, run: Run) -> None:
        """Note the number of parameters in the pairs."""
        if self.expansions:
            self.most = max(self.most, pair_parameters(present_updates(self.model).values()))


class ExpandingFirst(WatchedSelection):
    """Every pair there is takes the new rank at a round; the losers leave after the next update."""

    losers: Sequence[int] = ()

    def _pass(self, milestone: Milestone, run: Run) -> None:
        updates = present_updates(self.model)
        rank = updates[self.active[0]].lora_A.shape[0]
        if milestone.rank == rank:  # the selection without a round
            super()._pass(milestone, run)
            return
        before = pair_parameters(updates.values())
        self._expand(milestone, updates, run)
        after = pair_parameters(present_updates(self.model).values())
        self.expansions.append({"step": run.step, "kind": "qr", "kept": list(self.active), "rank_before": rank,
                                "rank_after": milestone.rank, "parameters_before": before,
                                "parameters_after": after})  # fmt: skip
        weights = self._weights(self.active)
        self.losers = [index for index, weight in weights.items() if weight.item() == 0]

    def on_step_end(self, run: Run) -> None:
        """The losers of the last round leave; then what is due at this update."""
        if self.losers:
            losers, self.losers = list(self.losers), ()
            self.active = [index for index in self.active if index not in losers]
            self._dismiss(losers, run)
        super().on_step_end(run)


def measure(plan: AblationPlan, bench: Bench | None) -> Findings:
    """Scores of both orders, and the most parameters that train at a time."""
    assert bench is not None
    scores: dict[str, dict[int, float | None]] = {}
    rows, most = [], {}
    for label, kind in ((OURS, WatchedSelection), (FAULTY, ExpandingFirst)):
        scores[label], ends = {}, {}
        for seed in plan.seeds:
            config = WeightLoraPlusConfig(**plan.settings["method"], init_seed=seed)
            rate, training = plan.settings["learning_rate"], plan.settings["training"]
            callback = kind(config, bench.plan.with_training(learning_rate=rate, **training).training)
            trial = bench.train(config, seed=seed, learning_rate=rate, callback=callback, **training)
            scores[label][seed], most[label] = trial.score, callback.most
            ends[seed] = callback.active
        rank = plan.settings["method"]["rank"] << plan.settings["method"]["expansions"]
        rows.append((label, most[label], len(ends[plan.seeds[0]]) * 2 * 96 * rank, by_seed(scores[label])))  # fmt: skip
    adapters = plan.settings["adapters"]
    start = adapters * 2 * 96 * plan.settings["method"]["rank"]
    effect = mean(differences(scores[FAULTY], scores[OURS]))
    said = "diverged" if effect is None else f"{effect:+.3f}".replace("-", "−")
    return Findings(
        headers=("Order", "Most pair parameters from the first round on", "In the end", "Accuracy"),
        rows=rows,
        shows=f"expanding first lets the pairs grow to {most[FAULTY]:,} parameters, {most[FAULTY] / start:.1f} times "
        f"the {start:,} of all {adapters} pairs at the start; ours never holds more than {most[OURS]:,}. Mean "
        f"accuracy, faulty minus ours: {said}.",
        notes=(f"{plan.settings['method']['expansions']} rounds from all {adapters} adapters, rank "
               f"{plan.settings['method']['rank']} doubling; {plan.settings['training']['steps']} updates.",),
    )  # fmt: skip


ABLATION = AblationPlan(
    name="expansion_order",
    paper="weight_lora",
    title="Expansion before selection",
    fault="In one repository the expansion runs before the selection, so every adapter expands first.",
    source=f"paper_results/weightlora.yaml, fault 7; {AUTHORS_CODE}",
    instead="Losers leave first; only survivors grow, and the parameter budget is recorded before and after.",
    data="task sentiment",
    experiment="sentiment-weight-lora",
    seeds=SEEDS,
    settings={
        "version": 1,
        "adapters": 18,
        "learning_rate": 0.016,
        "method": {"rank": 4, "alpha": 16, "dropout": 0.05, "keep": None, "selection_steps": 10, "expand_every": 10,
                   "expansions": 2},
        "training": {"steps": 60, "warmup_steps": 5},
    },
    does_not_show=f"{TOY}; nor how long the authors' code keeps all pairs expanded: here it is one update.",
    measure=measure,
)  # fmt: skip
