"""Fill record.json from a finished run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.fitting import Fitted
from pipelines.paths import adapter_file
from pipelines.plan import TOLERANCES, Plan
from replication.fileio import sha256_file
from replication.records import RunRecord, code_sha256, machine_conditions, versions


def started(fitted: Fitted) -> dict[str, Any]:
    """Counts before training, where training changed them."""
    before = fitted.counts_at_start
    return {} if before == fitted.counts else {"counts_at_start": before.to_dict()}


def training_record(plan: Plan, seed: int, fitted: Fitted, adapter: Path, corpus: dict[str, Any]) -> RunRecord:
    """Everything needed to repeat one seed, and nothing that differs between two identical runs."""
    weights = adapter / adapter_file(plan.experiment.method)
    return RunRecord.model_validate(
        {
            "schema_version": 1,
            "profile": plan.settings.profile,
            "experiment": plan.key,
            "backbone": plan.experiment.backbone,
            "backbone_sha256": sha256_file(plan.weights / "model.safetensors"),
            "task": plan.experiment.task,
            "method": plan.experiment.method,
            "method_config": asdict(plan.method(seed)),
            "training": asdict(plan.training),
            "decoding": None,
            "seed": seed,
            **({} if plan.experiment.training_seed is None else {"training_seed": plan.experiment.training_seed}),
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
            "code_sha256": code_sha256(),
            "versions": versions(),
            "conditions": machine_conditions(plan.settings.threads).model_dump(),
            "tolerances_sha256": sha256_file(TOLERANCES),
        }
    )
