"""Stage `finetune`: every seed of one backbone x task x method, in one process or, under `torchrun`, in several.

Writes runs/<profile>/<experiment>/adapter/seed-<s>/ and training/seed-<s>/{record.json, curves.csv}, and selection.json
for a method that selects or expands adapters during training. The cost goes to cost/training.json, which is not an
output. A preflight checks all that a run needs and writes before the first step (pipelines/shared/preflight.py).

A seed passes through three states under checkpoints/, so that a restart goes on from the last one: checkpoints while it
trains; `trained-seed-<s>-<hash>`, its adapter and numbers, which wait for the record; `finished`. What is trained
survives a record that cannot be written, and a correction of the code that writes it.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.shared import processes
from pipelines.shared.baseline import learn_baseline
from pipelines.shared.cost import Start, seed_cost, write_cost
from pipelines.shared.experiment import Experiment, resolve
from pipelines.shared.fitting import Fitted, describe, fit
from pipelines.shared.lock import discard_others, held
from pipelines.shared.paths import corpus_of, read_rows
from pipelines.shared.preflight import require
from pipelines.shared.records import card_of, outcome, saved_adapter, training_record
from pipelines.shared.settings import load_settings
from pipelines.shared.stage import DryRun, Params, run_stage, say
from replication.errors import DataError, ReplicationError
from replication.fileio import read_json, remove_leftovers, replaced_directory, sha256_json, write_json
from replication.training.tracking import Track

OUTCOME = "outcome.json"


def main(
    params: Params,
    experiment: Annotated[str, typer.Option(help="A name under `experiments`.")],
    dry_run: DryRun = False,
) -> None:
    """Train one experiment."""
    chosen = resolve(load_settings(params), experiment)
    Track(chosen.track, chosen.logs)  # refuses what is not installed
    if dry_run:
        say(describe(chosen))
        return
    chosen.require_rate()
    with held(chosen.lock, chosen.key) if processes.writes() else nullcontext():
        if processes.writes():
            remove_leftovers(chosen.run)
            remove_leftovers(chosen.scratch)
        train_all(chosen)


def train_all(chosen: Experiment) -> None:
    """Every seed, and the outputs from all of them. What is finished stays in the scratch folder until `predict`: DVC
    may not have taken the outputs, and removes them before a new start.
    """
    if processes.writes():
        identities = [(seed, chosen.identity(seed)) for seed in chosen.seeds]
        kept = [
            name_of(chosen, seed, identity).name
            for seed, identity in identities
            for name_of in (scratch_of, trained_of)
        ]
        discard_others(chosen.scratch / "finetune", kept, chosen.key)
    if processes.writes() and any(not is_trained(chosen, seed) for seed in chosen.seeds):
        require(chosen)
    finished = [finished_seed(chosen, seed) for seed in chosen.seeds]
    if not processes.writes():
        return
    with (
        replaced_directory(chosen.run / "adapter") as adapters,
        replaced_directory(chosen.run / "training") as training,
    ):
        for seed, folder in zip(chosen.seeds, finished, strict=True):
            shutil.copytree(folder / "adapter", adapters / f"seed-{seed}")
            shutil.copytree(folder / "training", training / f"seed-{seed}")
    costs = {seed: read_json(folder / "cost.json") for seed, folder in zip(chosen.seeds, finished, strict=True)}
    write_cost(chosen.run, "training", costs, threads=chosen.threads)


def scratch_of(experiment: Experiment, seed: int, identity: dict[str, Any]) -> Path:
    """Folder of one seed's checkpoints and, once complete, of its results."""
    return experiment.scratch / "finetune" / f"seed-{seed}-{sha256_json(identity)[:12]}"


def trained_of(experiment: Experiment, seed: int, identity: dict[str, Any]) -> Path:
    """Folder of one seed that is trained and waits for its record. Its name leaves the code out: a fault of the code
    that writes records must not cost a training. The record names the code that trained.
    """
    named = sha256_json({name: value for name, value in identity.items() if name != "code"})
    return experiment.scratch / "finetune" / f"trained-seed-{seed}-{named[:12]}"


def is_trained(experiment: Experiment, seed: int) -> bool:
    """Whether an earlier start has trained the seed."""
    identity = experiment.identity(seed)
    scratch, trained = scratch_of(experiment, seed, identity), trained_of(experiment, seed, identity)
    return (scratch / "finished").is_dir() or trained.is_dir()


def finished_seed(experiment: Experiment, seed: int) -> Path:
    """Folder with one seed's adapter, record, curves and cost; trained now unless an earlier start did it."""
    identity = experiment.identity(seed)
    scratch, trained = scratch_of(experiment, seed, identity), trained_of(experiment, seed, identity)
    finished = scratch / "finished"
    is_finished, waits = processes.agreed((finished.is_dir(), trained.is_dir()))
    if is_finished:
        say(f"{experiment.key} seed {seed}: complete from an earlier run")
        return finished
    if experiment.baseline is not None:
        if processes.writes():
            learn_baseline(experiment, seed, finished)
        return finished
    if waits:
        say(f"{experiment.key} seed {seed}: trained in an earlier run ({trained})")
    else:
        start = Start()
        fitted = fit(
            experiment,
            read_rows(experiment.prepared, "train"),
            read_rows(experiment.prepared, "dev"),
            seed=seed,
            checkpoint_directory=scratch / "checkpoint",
            identity=identity,
            title=f"fine-tune {experiment.key}, seed {seed}" if processes.writes() else None,
            track=Track(experiment.track, experiment.logs / f"seed-{seed}"),
        )
        keep(experiment, seed, fitted, trained, start)
    if processes.writes():
        complete(experiment, seed, trained, finished)
        shutil.rmtree(scratch / "checkpoint", ignore_errors=True)
    return finished


def keep(experiment: Experiment, seed: int, fitted: Fitted, trained: Path, start: Start) -> None:
    """Write aside what one seed has learned, and its numbers; complete or not at all. Rank 0 writes; the others give
    their parts of a sharded model.
    """
    from replication.methods import save
    from replication.records import write_curves
    from replication.training.parallel import is_sharded

    if not processes.writes():
        if any(map(is_sharded, fitted.model.parameters())):
            save(fitted.model, trained)
        return
    with replaced_directory(trained) as folder:
        save(fitted.model, folder / "adapter", card=card_of(experiment, seed, fitted))
        write_curves(folder / "training" / "curves.csv", fitted.result.curves)
        if fitted.choices is not None:
            write_json(folder / "training" / "selection.json", fitted.choices)
        cost = seed_cost(start, fitted.result.tokens_per_second)
        write_json(folder / OUTCOME, {**outcome(experiment, fitted), "cost": cost})


def complete(experiment: Experiment, seed: int, trained: Path, finished: Path) -> None:
    """Add record and cost to what is trained, which then is finished; if that fails, what is trained stays."""
    from replication.records import write_record

    numbers = read_json(trained / OUTCOME)
    cost = numbers.pop("cost")
    if numbers["code_sha256"] != (now := experiment.code("finetune")):
        say(
            f"{experiment.key} seed {seed}: trained by the code {numbers['code_sha256'][:12]}, which the record names; "
            f"the code now is {now[:12]}. To train again instead, delete {trained}"
        )
    try:
        adapter = saved_adapter(experiment, trained / "adapter")
        record = training_record(experiment, seed, numbers, adapter, corpus_of(experiment.prepared))
        write_record(trained / "training" / "record.json", record)
        write_json(trained / "cost.json", cost)
    except (ReplicationError, OSError) as error:
        raise DataError(
            f"{error}. Training is complete and its adapter is kept in {trained}: correct this and run the stage "
            "again, it goes on from there"
        ) from error
    finished.parent.mkdir(parents=True, exist_ok=True)
    trained.rename(finished)
    loss = numbers["result"]["dev_loss"]
    shown = "none" if loss is None else f"{loss:.4f}"
    say(f"{experiment.key} seed {seed}: dev loss {shown} after {numbers['result']['steps']} steps")


if __name__ == "__main__":
    run_stage(main, distributed=True)
