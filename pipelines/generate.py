"""Stage `generate`: beam search over the test items with every seed's adapter, in one process.

Writes runs/<profile>/<experiment>/predictions/: seed-<s>.jsonl, one line per meaning representation, and decoding.json
(the settings and the hash of each adapter). A seed that is complete is not decoded again after a restart.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cost import seed_cost, write_cost
from pipelines.plan import Plan, plan_experiment
from pipelines.settings import load_settings
from pipelines.stage import DryRun, Params, run_stage, say
from replication.errors import DataError
from replication.fileio import read_json, read_jsonl, replaced_directory, sha256_file, sha256_json, write_json
from replication.predictions import write_predictions


def main(
    params: Params,
    experiment: Annotated[str, typer.Option(help="A name under `experiments`.")],
    dry_run: DryRun = False,
) -> None:
    """Decode one experiment."""
    plan = plan_experiment(load_settings(params), experiment)
    if dry_run:
        say(f"would decode {plan.key} for seeds {', '.join(map(str, plan.experiment.seeds))}: {asdict(plan.decoding)}")
        return
    finished = {seed: finished_seed(plan, seed) for seed in plan.experiment.seeds}
    with replaced_directory(plan.run / "predictions") as folder:
        for seed, done in finished.items():
            shutil.copy(done / "predictions.jsonl", folder / f"seed-{seed}.jsonl")
        adapters = {str(seed): adapter_hash(plan, seed) for seed in finished}
        write_json(folder / "decoding.json", {"decoding": asdict(plan.decoding), "adapter_sha256": adapters})
    costs = {seed: read_json(done / "cost.json") for seed, done in finished.items()}
    write_cost(plan.run, "generation", costs, threads=plan.settings.threads)
    shutil.rmtree(plan.scratch / "generate", ignore_errors=True)


def adapter_hash(plan: Plan, seed: int) -> str:
    """sha256 of one seed's adapter weights; DataError names the command that makes them."""
    path = plan.run / "adapter" / f"seed-{seed}" / "adapter_model.safetensors"
    if not path.is_file():
        raise DataError(f"{path}: no such file; `dvc repro finetune@{plan.key}` makes it")
    return sha256_file(path)


def finished_seed(plan: Plan, seed: int) -> Path:
    """Folder with one seed's predictions and cost; decoded now unless an earlier start completed it."""
    identity = {**plan.identity(seed), "decoding": asdict(plan.decoding), "adapter": adapter_hash(plan, seed)}
    finished = plan.scratch / "generate" / f"seed-{seed}-{sha256_json(identity)[:12]}"
    if finished.is_dir():
        say(f"{plan.key} seed {seed}: decoded by an earlier start")
        return finished
    started = time.perf_counter()
    items = read_jsonl(plan.prepared / "test.jsonl")
    texts = decode(plan, seed, [item["context"] for item in items])
    with replaced_directory(finished) as folder:
        write_predictions(
            folder / "predictions.jsonl",
            [
                {
                    "mr": item["mr"],
                    "context": item["context"],
                    "prediction": text,
                    "references": item["references"],
                }
                for item, text in zip(items, texts, strict=True)
            ],
        )
        write_json(folder / "cost.json", seed_cost(time.perf_counter() - started))
    say(f"{plan.key} seed {seed}: {len(texts)} texts")
    return finished


def decode(plan: Plan, seed: int, contexts: list[str]) -> list[str]:
    """The generated texts, in the order of `contexts`."""
    from replication.adapters import load
    from replication.backbones import load_model, load_tokenizer
    from replication.decoding import generate
    from replication.determinism import deterministic_algorithms, seed_everything
    from replication.progress import progress_bar

    seed_everything(seed)
    model: Any = load(load_model(plan.experiment.backbone, plan.weights), plan.run / "adapter" / f"seed-{seed}")
    tokenizer = load_tokenizer(plan.experiment.backbone, plan.weights)
    title = f"generate {plan.key}, seed {seed}"
    with deterministic_algorithms(plan.settings.threads), progress_bar(title, total=len(contexts)) as advance:
        return generate(
            model.eval(),
            tokenizer,
            contexts,
            plan.decoding,
            separator=plan.backbone.separator,
            progress=advance,
        )


if __name__ == "__main__":
    run_stage(main)
