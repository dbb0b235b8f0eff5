"""Stage `finetune`: every seed of one backbone x task x method, in one process.

Writes runs/<profile>/<experiment>/adapter/seed-<s>/ and training/seed-<s>/{record.json, curves.csv}, and selection.json
for a method that selects or expands adapters during training. The cost goes to cost/training.json, which is not an
output. A complete seed is not trained again after a restart.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from pipelines.shared.baseline import learn_baseline
from pipelines.shared.cost import Start, seed_cost, write_cost
from pipelines.shared.experiment import Experiment, resolve
from pipelines.shared.fitting import Fitted, describe, fit
from pipelines.shared.paths import corpus_of, read_rows
from pipelines.shared.records import training_record
from pipelines.shared.settings import load_settings
from pipelines.shared.stage import DryRun, Params, run_stage, say
from replication.fileio import read_json, replaced_directory, sha256_json, write_json


def main(
    params: Params,
    experiment: Annotated[str, typer.Option(help="A name under `experiments`.")],
    dry_run: DryRun = False,
) -> None:
    """Train one experiment."""
    chosen = resolve(load_settings(params), experiment)
    if dry_run:
        say(describe(chosen))
        return
    finished = [finished_seed(chosen, seed) for seed in chosen.seeds]
    with (
        replaced_directory(chosen.run / "adapter") as adapters,
        replaced_directory(chosen.run / "training") as training,
    ):
        for seed, folder in zip(chosen.seeds, finished, strict=True):
            shutil.copytree(folder / "adapter", adapters / f"seed-{seed}")
            shutil.copytree(folder / "training", training / f"seed-{seed}")
    costs = {seed: read_json(folder / "cost.json") for seed, folder in zip(chosen.seeds, finished, strict=True)}
    write_cost(chosen.run, "training", costs, threads=chosen.threads)
    shutil.rmtree(chosen.scratch / "finetune", ignore_errors=True)


def finished_seed(experiment: Experiment, seed: int) -> Path:
    """Folder with one seed's adapter, record, curves and cost; trained now unless an earlier start completed it."""
    identity = experiment.identity(seed)
    scratch = experiment.scratch / "finetune" / f"seed-{seed}-{sha256_json(identity)[:12]}"
    finished = scratch / "finished"
    if finished.is_dir():
        say(f"{experiment.key} seed {seed}: complete from an earlier run")
        return finished
    if experiment.baseline is not None:
        learn_baseline(experiment, seed, finished)
        return finished
    start = Start()
    fitted = fit(
        experiment,
        read_rows(experiment.prepared, "train"),
        read_rows(experiment.prepared, "dev"),
        seed=seed,
        checkpoint_directory=scratch / "checkpoint",
        identity=identity,
        title=f"fine-tune {experiment.key}, seed {seed}",
    )
    keep(experiment, seed, fitted, finished, start=start)
    return finished


def keep(experiment: Experiment, seed: int, fitted: Fitted, finished: Path, *, start: Start) -> None:
    """Write one seed's results aside, complete or not at all."""
    from replication.methods import save
    from replication.records import write_curves, write_record

    with replaced_directory(finished) as folder:
        save(fitted.model, folder / "adapter")
        write_curves(folder / "training" / "curves.csv", fitted.result.curves)
        if fitted.choices is not None:
            write_json(folder / "training" / "selection.json", fitted.choices)
        record = training_record(experiment, seed, fitted, folder / "adapter", corpus_of(experiment.prepared))
        write_record(folder / "training" / "record.json", record)
        write_json(folder / "cost.json", seed_cost(start, fitted.result.tokens_per_second))
    loss = "none" if fitted.result.dev_loss is None else f"{fitted.result.dev_loss:.4f}"
    say(f"{experiment.key} seed {seed}: dev loss {loss} after {fitted.result.steps} steps")


if __name__ == "__main__":
    run_stage(main)
