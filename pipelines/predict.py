"""Stage `predict`: every seed's adapter on the test examples, in one process.

Writes runs/<profile>/<experiment>/predictions/: seed-<s>.jsonl, one line per example with the model's prediction, and
decoding.json (the settings, the hash of each adapter, and the gold file with labels or references). A seed that
is complete is not predicted again after a restart.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.shared.baseline import predict_baseline
from pipelines.shared.cost import Start, seed_cost, write_cost
from pipelines.shared.experiment import Experiment, resolve
from pipelines.shared.fitting import load_base
from pipelines.shared.lock import discard_others, held
from pipelines.shared.paths import adapter_file, read_rows
from pipelines.shared.settings import load_settings
from pipelines.shared.stage import DryRun, Params, run_stage, say
from replication.errors import DataError
from replication.fileio import (
    read_json,
    read_jsonl,
    remove_leftovers,
    replaced_directory,
    sha256_file,
    sha256_json,
    write_json,
    write_jsonl,
)
from replication.predictions import GoldFile, compact, gold_file
from replication.records import versions


def main(
    params: Params,
    experiment: Annotated[str, typer.Option(help="A name under `experiments`.")],
    dry_run: DryRun = False,
) -> None:
    """Predict with one experiment's adapters."""
    chosen = resolve(load_settings(params), experiment)
    if dry_run:
        seeds = ", ".join(map(str, chosen.seeds))
        say(f"would predict {chosen.key} for seeds {seeds}: {chosen.options.recorded()}")
        return
    with held(chosen.lock, chosen.key):
        remove_leftovers(chosen.run)
        remove_leftovers(chosen.scratch)
        predict_all(chosen)


def predict_all(chosen: Experiment) -> None:
    """Every seed, and the outputs from all of them."""
    settings = chosen.options.recorded()
    gold = checked_gold(chosen)
    discard_others(chosen.scratch / "predict", [finished_of(chosen, seed).name for seed in chosen.seeds], chosen.key)
    finished = {seed: finished_seed(chosen, seed) for seed in chosen.seeds}
    with replaced_directory(chosen.run / "predictions") as folder:
        for seed, done in finished.items():
            shutil.copy(done / "predictions.jsonl", folder / f"seed-{seed}.jsonl")
        adapters = {str(seed): adapter_hash(chosen, seed) for seed in finished}
        made_with = {"code_sha256": chosen.code("predict"), "versions": versions()}
        decoding = {"decoding": settings, "adapter_sha256": adapters, **gold.to_dict(), **made_with}
        write_json(folder / "decoding.json", decoding)
    costs = {seed: read_json(done / "cost.json") for seed, done in finished.items()}
    write_cost(chosen.run, "prediction", costs, threads=chosen.threads)
    discard_taken(chosen)
    shutil.rmtree(chosen.scratch / "predict", ignore_errors=True)


def discard_taken(experiment: Experiment) -> None:
    """Delete what `finetune` keeps of seeds whose adapters are among its outputs; what is under way, or waits for other
    seeds, stays.
    """
    folder, name = experiment.scratch / "finetune", adapter_file(experiment.method)
    for kept in folder.glob(f"seed-*/finished/adapter/{name}"):
        home = kept.parents[2]
        taken = experiment.run / "adapter" / "-".join(home.name.split("-")[:2]) / name
        if taken.is_file() and sha256_file(taken) == sha256_file(kept):
            shutil.rmtree(home)
    with suppress(OSError):
        folder.rmdir()  # unless something is left


def checked_gold(experiment: Experiment) -> GoldFile:
    """The task's gold file; DataError if it is missing or differs from the prepared test examples."""
    path = experiment.gold
    found = gold_file(path)
    if read_jsonl(path) != experiment.form.gold(read_rows(experiment.prepared, "test")):
        raise DataError(
            f"{path} and {experiment.prepared / 'test.jsonl'} hold different examples; "
            f"`dvc repro -f prepare@{experiment.task}` writes both again"
        )
    return found


def adapter_hash(experiment: Experiment, seed: int) -> str:
    """sha256 of what one seed has learned; DataError names the command that makes them."""
    path = experiment.run / "adapter" / f"seed-{seed}" / adapter_file(experiment.method)
    if not path.is_file():
        raise DataError(f"{path}: no such file; `dvc repro finetune@{experiment.key}` makes it")
    return sha256_file(path)


def finished_of(experiment: Experiment, seed: int) -> Path:
    """Folder of one seed's predictions and cost, once complete."""
    identity = {
        **experiment.identity(seed, "predict"),
        "decoding": experiment.options.recorded(),
        "adapter": adapter_hash(experiment, seed),
    }
    return experiment.scratch / "predict" / f"seed-{seed}-{sha256_json(identity)[:12]}"


def finished_seed(experiment: Experiment, seed: int) -> Path:
    """The same folder; predicted now unless an earlier start completed it."""
    finished = finished_of(experiment, seed)
    if finished.is_dir():
        say(f"{experiment.key} seed {seed}: predicted in an earlier run")
        return finished
    start = Start()
    predictions = predict(experiment, seed)
    with replaced_directory(finished) as folder:
        write_jsonl(folder / "predictions.jsonl", compact(predictions))
        write_json(folder / "cost.json", seed_cost(start))
    say(f"{experiment.key} seed {seed}: {len(predictions)} predictions")
    return finished


def predict(experiment: Experiment, seed: int) -> list[dict[str, Any]]:
    """One row for each reported item, in order."""
    if experiment.baseline is not None:
        return predict_baseline(experiment, seed)
    from replication.backbones import load_tokenizer
    from replication.methods import load
    from replication.training.determinism import deterministic_algorithms
    from replication.training.device import default_device
    from replication.training.progress import progress_bar

    items = read_rows(experiment.prepared, "test")
    model: Any = load(
        load_base(experiment, experiment.training_seeds[seed]), experiment.run / "adapter" / f"seed-{seed}"
    )
    tokenizer = load_tokenizer(experiment.backbone.name, experiment.weights)
    experiment.form.prepare_model(model, tokenizer)
    title, total = f"predict {experiment.key}, seed {seed}", experiment.form.passes(experiment.options) * len(items)
    with deterministic_algorithms(experiment.threads), progress_bar(title, total=total) as advance:
        model = model.to(default_device()).eval()
        return experiment.form.predict(model, tokenizer, items, experiment.options, advance)


if __name__ == "__main__":
    run_stage(main)
