"""Stage `predict`: every seed's adapter on the reported items, in one process.

Writes runs/<profile>/<experiment>/predictions/: seed-<s>.jsonl, one line per item with what the model said, and
decoding.json (the settings, the hash of each adapter, and the gold file that holds the truth of the items). A seed that
is complete is not predicted again after a restart.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.baseline import is_baseline, predict_baseline
from pipelines.cost import seed_cost, write_cost
from pipelines.fitting import load_base
from pipelines.paths import adapter_file, gold_path
from pipelines.plan import Plan, plan_experiment
from pipelines.settings import load_settings
from pipelines.stage import DryRun, Params, run_stage, say
from pipelines.tasks import gold_rows, read_rows
from replication.errors import DataError
from replication.fileio import (
    read_json,
    read_jsonl,
    replaced_directory,
    sha256_file,
    sha256_json,
    write_json,
    write_jsonl,
)
from replication.predictions import GoldFile, compact, gold_file
from replication.records import code_sha256, versions


def main(
    params: Params,
    experiment: Annotated[str, typer.Option(help="A name under `experiments`.")],
    dry_run: DryRun = False,
) -> None:
    """Predict with one experiment's adapters."""
    plan = plan_experiment(load_settings(params), experiment)
    settings = plan.task.settings()
    if dry_run:
        say(f"would predict {plan.key} for seeds {', '.join(map(str, plan.experiment.seeds))}: {settings}")
        return
    gold = checked_gold(plan)
    finished = {seed: finished_seed(plan, seed) for seed in plan.experiment.seeds}
    with replaced_directory(plan.run / "predictions") as folder:
        for seed, done in finished.items():
            shutil.copy(done / "predictions.jsonl", folder / f"seed-{seed}.jsonl")
        adapters = {str(seed): adapter_hash(plan, seed) for seed in finished}
        made_with = {"code_sha256": code_sha256(), "versions": versions()}
        decoding = {"decoding": settings, "adapter_sha256": adapters, **gold.to_dict(), **made_with}
        write_json(folder / "decoding.json", decoding)
    costs = {seed: read_json(done / "cost.json") for seed, done in finished.items()}
    write_cost(plan.run, "prediction", costs, threads=plan.settings.threads)
    shutil.rmtree(plan.scratch / "predict", ignore_errors=True)


def checked_gold(plan: Plan) -> GoldFile:
    """The task's gold file; DataError when it is absent or tells another truth than the prepared items."""
    path = gold_path(plan.settings, plan.experiment.task)
    found = gold_file(path)
    form = plan.settings.task(plan.experiment.task).form
    if read_jsonl(path) != gold_rows(form, read_rows(plan.prepared, "test")):
        raise DataError(
            f"{path} and {plan.prepared / 'test.jsonl'} hold different items; "
            f"`dvc repro -f prepare@{plan.experiment.task}` writes both again"
        )
    return found


def adapter_hash(plan: Plan, seed: int) -> str:
    """sha256 of what one seed has learned; DataError names the command that makes them."""
    path = plan.run / "adapter" / f"seed-{seed}" / adapter_file(plan.experiment.method)
    if not path.is_file():
        raise DataError(f"{path}: no such file; `dvc repro finetune@{plan.key}` makes it")
    return sha256_file(path)


def finished_seed(plan: Plan, seed: int) -> Path:
    """Folder with one seed's predictions and cost; predicted now unless an earlier start completed it."""
    identity = {**plan.identity(seed), "decoding": plan.task.settings(), "adapter": adapter_hash(plan, seed)}
    finished = plan.scratch / "predict" / f"seed-{seed}-{sha256_json(identity)[:12]}"
    if finished.is_dir():
        say(f"{plan.key} seed {seed}: predicted by an earlier start")
        return finished
    started = time.perf_counter()
    predictions = predict(plan, seed)
    with replaced_directory(finished) as folder:
        write_jsonl(folder / "predictions.jsonl", compact(predictions))
        write_json(folder / "cost.json", seed_cost(time.perf_counter() - started))
    say(f"{plan.key} seed {seed}: {len(predictions)} predictions")
    return finished


def predict(plan: Plan, seed: int) -> list[dict[str, Any]]:
    """One row for each reported item, in order."""
    if is_baseline(plan):
        return predict_baseline(plan, seed)
    from replication.backbones import load_tokenizer
    from replication.methods import load
    from replication.training.determinism import deterministic_algorithms
    from replication.training.progress import progress_bar

    items = read_rows(plan.prepared, "test")
    model: Any = load(load_base(plan, plan.training_seed(seed)), plan.run / "adapter" / f"seed-{seed}")
    tokenizer = load_tokenizer(plan.experiment.backbone, plan.weights)
    plan.task.prepare_model(model, tokenizer)
    title, total = f"predict {plan.key}, seed {seed}", plan.task.passes * len(items)
    with deterministic_algorithms(plan.settings.threads), progress_bar(title, total=total) as advance:
        return plan.task.predict(model.eval(), tokenizer, items, advance)


if __name__ == "__main__":
    run_stage(main)
