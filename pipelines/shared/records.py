"""Fill record.json from a finished run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.shared.experiment import Experiment
from pipelines.shared.fitting import Fitted
from pipelines.shared.paths import adapter_file
from replication.fileio import sha256_file
from replication.records import RunRecord, machine_conditions, versions

TOLERANCES = Path("paper_results/tolerances.json")


def started(fitted: Fitted) -> dict[str, Any]:
    """Counts before training, where training changed them."""
    before = fitted.counts_at_start
    return {} if before == fitted.counts else {"counts_at_start": before.to_dict()}


def training_record(
    experiment: Experiment, seed: int, fitted: Fitted, adapter: Path, corpus: dict[str, Any]
) -> RunRecord:
    """Everything needed to repeat one seed, and nothing that differs between two identical runs."""
    from replication.methods.shared.base import config_settings

    weights = adapter / adapter_file(experiment.method)
    return RunRecord.model_validate(
        {
            "schema_version": 1,
            "profile": experiment.profile,
            "experiment": experiment.key,
            "backbone": experiment.backbone.name,
            "backbone_sha256": sha256_file(experiment.weights / "model.safetensors"),
            "task": experiment.task,
            "method": experiment.method,
            "method_config": config_settings(experiment.methods[seed]),
            "training": asdict(experiment.training),
            "decoding": None,
            "seed": seed,
            **({"training_seed": experiment.training_seeds[seed]} if experiment.separate_training else {}),
            "corpus": {key: value for key, value in corpus.items() if key != "labels"},
            "counts": fitted.counts.to_dict(),
            **started(fitted),
            "result": {
                "steps": fitted.result.steps,
                "tokens_seen": fitted.result.tokens_seen,
                "final_loss": fitted.result.final_loss,
                "dev_loss": fitted.result.dev_loss,
            },
            "adapter": {"bytes": weights.stat().st_size, "sha256": sha256_file(weights)},
            "code_sha256": experiment.code("finetune"),
            "versions": versions(),
            "conditions": machine_conditions(experiment.threads).model_dump(),
            "tolerances_sha256": sha256_file(TOLERANCES),
        }
    )
