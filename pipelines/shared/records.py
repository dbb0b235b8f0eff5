"""The outcome of a training, and record.json filled from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.shared import processes
from pipelines.shared.experiment import Experiment
from pipelines.shared.fitting import Fitted
from pipelines.shared.paths import adapter_file, corpus_of, weights_sha256
from replication.errors import DataError
from replication.fileio import sha256_file
from replication.records import RunRecord, machine_conditions, versions

TOLERANCES = Path("paper_results/tolerances.json")


def outcome(experiment: Experiment, fitted: Fitted) -> dict[str, Any]:
    """The part of a record that only the process that trained knows (JSON values)."""
    before = fitted.counts_at_start
    result = fitted.result
    return {
        "counts": fitted.counts.to_dict(),
        # where training changed them
        **({} if before == fitted.counts else {"counts_at_start": before.to_dict()}),
        "result": {
            "steps": result.steps,
            "tokens_seen": result.tokens_seen,
            "final_loss": result.final_loss,
            "dev_loss": result.dev_loss,
        },
        # where the prefix cache is on: how much of the model ran without its dropout
        **({} if result.frozen_blocks is None else {"frozen_prefix": {"blocks": result.frozen_blocks}}),
        "code_sha256": experiment.code("finetune"),
        "versions": versions(),
        "conditions": conditions(experiment),
    }


def conditions(experiment: Experiment) -> dict[str, Any]:
    """What else than the code affects the last bits of a float; the number of processes where there are several."""
    several = {"processes": processes.count()} if processes.count() > 1 else {}
    return {**machine_conditions(experiment.threads).model_dump(), **several}


def saved_adapter(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Size and hash of what was learned."""
    path = folder / adapter_file(experiment.method)
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def card_of(experiment: Experiment, seed: int, fitted: Fitted) -> dict[str, Any]:
    """What the model card of a trained seed says; `replicate push` adds its scores, which the stage `score` makes."""
    loss = fitted.result.dev_loss
    return {
        "base_model": experiment.backbone.hub_id,
        "data": data_of(corpus_of(experiment.prepared)),
        "profile": experiment.profile,
        "experiment": experiment.key,
        "seed": seed,
        "dev_loss": loss if loss is not None and math.isfinite(loss) else None,
    }


def data_of(corpus: Mapping[str, Any]) -> str:
    """A prepared corpus in a few words, from its description."""
    return f"{corpus['label']} ({corpus['name']}), {corpus['train_examples']:,} training examples"


def training_record(
    experiment: Experiment,
    seed: int,
    trained: Mapping[str, Any],
    adapter: Mapping[str, Any],
    corpus: Mapping[str, Any],
) -> RunRecord:
    """Everything needed to repeat one seed, and nothing that differs between two identical runs.

    `trained` is an `outcome`. DataError names each field that a record cannot hold.
    """
    from replication.methods.shared.base import config_settings

    content = {
        "schema_version": 1,
        "profile": experiment.profile,
        "experiment": experiment.key,
        "backbone": experiment.backbone.name,
        "backbone_sha256": weights_sha256(experiment.weights),
        "task": experiment.task,
        "method": experiment.method,
        "method_config": config_settings(experiment.methods[seed]),
        "training": experiment.training.to_dict(),
        "decoding": None,
        "seed": seed,
        **({"training_seed": experiment.training_seeds[seed]} if experiment.separate_training else {}),
        "corpus": {key: value for key, value in corpus.items() if key != "labels"},
        "adapter": dict(adapter),
        "tolerances_sha256": sha256_file(TOLERANCES),
        **trained,
    }
    try:
        return RunRecord.model_validate(content)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}" for fault in error.errors()]
        source = experiment.prepared / "corpus.json"
        raise DataError(
            f"{experiment.run}/training/seed-{seed}/record.json: {'; '.join(faults)}. The fields under corpus come "
            f"from {source}, the others from {experiment.where} and this machine"
        ) from error
