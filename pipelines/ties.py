"""Ties among the importance weights where WeightLoRA first chooses: recorded runs again, up to that update.

A run's trace has six decimals; there the weights differ from 1 by less. Here they are read as float32 has them, beside
the choice that their gradients would make in exact arithmetic. `make ties PARAMS=pipelines/cpu/params.yaml` writes
measurements/<profile>/ties.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from analysis.load.judgement import load_judgement
from pipelines.shared.experiment import Experiment, resolve
from pipelines.shared.fitting import fit
from pipelines.shared.paths import Rows, read_rows
from pipelines.shared.settings import load_settings
from pipelines.shared.stage import Params, run_stage, say
from replication.errors import ConfigError, TrainingError
from replication.fileio import read_json, write_json
from replication.methods.selection import kept_by_place, largest, present_updates
from replication.methods.shared.base import IMPORTANCE_NAME
from replication.records import machine_conditions
from replication.training.callbacks import Callback, Run
from replication.training.config import TrainingConfig

METHOD = "weight_lora"


class ChosenError(Exception):
    """The first projection has taken place: the run may end."""


class Watch(Callback):
    """A selection that ends the run at its first projection, and notes the weights as the projection found them.

    `exact`: the weights in double precision, from those before the update, the gradient and the rate.
    """

    def __init__(self, watched: Any):
        self.watched = watched
        self.update = 0
        self.stored = self.exact = torch.empty(0)

    def on_start(self, model: nn.Module) -> None:
        """Start the selection; the weights are 1."""
        self.watched.on_start(model)
        self.weights = [update.get_parameter(IMPORTANCE_NAME) for update in present_updates(model).values()]
        self.before = self._values()

    def build_optimizer(self, trained: Mapping[str, nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
        """The selection's own."""
        optimizer: torch.optim.Optimizer = self.watched.build_optimizer(trained, config)
        return optimizer

    def on_update(self, run: Run) -> None:
        """Note the weights; the selection then projects, or not yet."""
        rate = next(group["lr"] for group in run.optimizer.param_groups if group.get("plain_sgd"))
        gradients = torch.cat([torch.zeros(1) if w.grad is None else w.grad.flatten() for w in self.weights])
        exact, stored = self.before - rate * gradients.double(), self._values()
        if not torch.equal(exact.float().double(), stored):
            raise TrainingError(f"update {run.step}: the weights did not take a plain step of {rate:g}")
        self.watched.on_update(run)
        if self.watched.projections:
            self.update, self.stored, self.exact = run.step, stored, exact
            raise ChosenError
        self.before = stored

    def _values(self) -> torch.Tensor:
        return torch.cat([weight.detach().flatten() for weight in self.weights]).double()


def main(
    params: Params,
    only: Annotated[
        list[str] | None, typer.Option(help="Experiments; without it all of WeightLoRA that are compared.")
    ] = None,
) -> None:
    """Repeat the first updates of WeightLoRA's runs, and write where the choice was a tie."""
    settings, judgement = load_settings(params), load_judgement()
    names = only or [
        name
        for name, row in settings.experiments.items()
        if row.method == METHOD and judgement.role(settings.profile, name) == "compared"
    ]
    chosen = [resolve(settings, name) for name in names]
    if others := [one.key for one in chosen if one.method != METHOD]:
        raise ConfigError(f"{params}: {', '.join(others)}: not of method {METHOD}")
    rows = [row for one in chosen for row in measure(one)]
    path = Path("measurements") / settings.profile / "ties.json"
    about = (
        "WeightLoRA runs again up to their first projection. unmoved: weights that are exactly 1; kept_by_place: kept "
        "adapters that another one equals and only its place in the model sets apart; kept_exact: the choice in exact "
        "arithmetic; adapters by index, in module order."
    )
    made_by = " ".join((f"python -m pipelines.ties --params {params}", *(f"--only {name}" for name in only or ())))
    conditions = machine_conditions(chosen[0].threads).model_dump()
    write_json(path, {"schema_version": 1, "made_by": made_by, "about": about, "conditions": conditions, "rows": rows})
    say(f"ties: {path}")


def measure(experiment: Experiment) -> list[dict[str, Any]]:
    """One row a seed."""
    train_rows, rows = read_rows(experiment.prepared, "train"), []
    for seed in experiment.seeds:
        watch = first_choice(experiment, seed, train_rows)
        found = describe(watch.stored, watch.exact, experiment.settings["keep"], watch.watched.config.rank_by)
        rows.append({"experiment": experiment.key, "seed": seed, "update": watch.update, **found})
        recorded = experiment.run / "training" / f"seed-{seed}" / "selection.json"
        if recorded.is_file():
            rows[-1]["kept_in_record"] = kept_at_first(read_json(recorded))
        say(
            f"{experiment.key} seed {seed}: update {watch.update}, {found['unmoved']} of {len(watch.stored)} weights "
            f"are 1, {found['kept_by_place']} of {len(found['kept'])} kept by their place"
        )
    return rows


def first_choice(experiment: Experiment, seed: int, train_rows: Rows) -> Watch:
    """Train one seed as the pipeline does, up to its first projection."""
    watch = Watch(experiment.methods[seed].training_callback(experiment.training))
    try:
        fit(experiment, train_rows, [], seed=seed, title=None, watch=lambda _: watch)
    except ChosenError:
        return watch
    raise TrainingError(f"{experiment.key} seed {seed}: no projection in {experiment.training.steps} steps")


def describe(stored: torch.Tensor, exact: torch.Tensor, keep: int, rank_by: str) -> dict[str, Any]:
    """What a projection of `stored` (n) to `keep` weights keeps, and what it would keep of `exact`."""
    kept, kept_exact = largest(stored, keep, rank_by), largest(exact, keep, rank_by)
    return {
        "unmoved": stored.tolist().count(1.0),
        "kept": kept,
        "kept_by_place": kept_by_place(stored, keep, rank_by),
        "kept_exact": kept_exact,
        "shared_with_exact": len(set(kept) & set(kept_exact)),
        "largest_distance_from_1": (stored - 1).abs().max().item(),
    }


def kept_at_first(selection: Mapping[str, Any]) -> list[int]:
    """The adapters that the recorded run kept at its first projection."""
    trace = selection["trace"]
    weights = trace["weights"][trace["steps"].index(selection["projections"][0])]
    return [index for index, weight in enumerate(weights) if weight != 0]


if __name__ == "__main__":
    run_stage(main)
