"""`make ablations`: measure what each fault changes. Complete results with the same settings and inputs are kept.

Brings what it needs first, through the pipeline's own stage programs: prepared tasks and the quick backbones. The data
itself comes from `dvc pull data.dvc`, which needs no network.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.show.ablations import DIRECTORY, Ablation, Cell, read_ablation
from pipelines.shared.paths import prepared_directory, weights_directory
from pipelines.shared.settings import Settings, load_settings
from pipelines.shared.stage import run_stage, say
from replication.errors import ConfigError, DataError
from replication.fileio import sha256_file, sha256_json, write_json
from replication.records import machine_conditions, versions
from studies.ablations import (
    decoder_start,
    dropout_and_range,
    early_selection,
    expansion_order,
    first_projection,
    inner_products,
    memory_constant,
    overlap,
    printed_count,
    ranking,
    sparse_mask,
    unequal_settings,
    zeroed_adapters,
)
from studies.ablations.bench import AblationPlan, Bench, Findings

ABLATIONS: dict[str, AblationPlan] = {
    module.ABLATION.name: module.ABLATION
    for module in (
        overlap,
        inner_products,
        memory_constant,
        printed_count,
        early_selection,
        sparse_mask,
        unequal_settings,
        decoder_start,
        zeroed_adapters,
        first_projection,
        ranking,
        expansion_order,
        dropout_and_range,
    )
}


def main(
    params: Annotated[Path, typer.Option(help="The quick profile's params.yaml.")] = Path("params.yaml"),
    only: Annotated[list[str] | None, typer.Option(help="One ablation; may be repeated.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Measure again even if a complete result exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as one JSON object.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, without doing it.")] = False,
) -> None:
    """Measure every fault, or those named."""
    settings = load_settings(params)
    if settings.profile != "quick":
        raise ConfigError(f"{params}: profile={settings.profile}; the ablations are of the quick profile (params.yaml)")
    report = (lambda text: None) if as_json else say
    done: dict[str, dict[str, Any]] = {}
    for plan in chosen(only or ()):
        path = DIRECTORY / f"{plan.name}.json"
        if dry_run:
            report(f"{plan.name}: would be measured into {path} ({plan.title})")
            done[plan.name] = {"status": "planned", "path": str(path)}
            continue
        if plan.experiment is not None:
            obtain(settings, params, plan.experiment)
        started = time.process_time()
        found, fresh = measured(plan, settings, path, force=force)
        seconds = round(time.process_time() - started, 1)
        report(f"{plan.name}: {f'measured in {seconds:.0f} CPU s' if fresh else 'complete'} -> {path}\n  {found.shows}")
        done[plan.name] = {"status": "measured" if fresh else "complete", "path": str(path), "cpu_seconds": seconds,
                           "shows": found.shows}  # fmt: skip
    if as_json:
        print(json.dumps(done, ensure_ascii=False))


def chosen(names: Sequence[str]) -> list[AblationPlan]:
    """The plans named, or all; ConfigError lists the valid names."""
    for name in names:
        if name not in ABLATIONS:
            raise ConfigError(f"--only {name}: unknown; valid names: {', '.join(ABLATIONS)}")
    return [plan for name, plan in ABLATIONS.items() if not names or name in names]


def obtain(settings: Settings, params: Path, experiment: str) -> None:
    """The experiment's prepared task and its backbone's weights, by the stages that make them."""
    from pipelines import prepare, pretrain

    wanted = settings.experiment(experiment)
    if not (prepared_directory(settings.profile, wanted.task) / "corpus.json").is_file():
        prepare.main(params, wanted.task)
    if not (weights_directory(wanted.backbone) / "model.safetensors").is_file():
        pretrain.main(params, wanted.backbone)


def measured(plan: AblationPlan, settings: Settings, path: Path, *, force: bool) -> tuple[Ablation, bool]:
    """The result, and whether it was measured now; an older one is kept where its settings and inputs agree."""
    missing = [file for file in plan.files if not file.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no such file; {plan.name} reads it, and it is committed: check it out again")
    bench = Bench(settings, plan.experiment) if plan.experiment is not None else None
    inputs = {file.as_posix(): sha256_file(file) for file in plan.files} | (bench.inputs() if bench else {})
    shared = {} if bench is None else shared_settings(bench)
    described = {**plan.settings, **shared}
    digest = sha256_json({"settings": described, "inputs": inputs, "seeds": plan.seeds})
    if not force and path.is_file():
        try:
            kept = read_ablation(path)
            if kept.settings_sha256 == digest:
                return kept, False
        except DataError as error:
            say(f"{error}; measuring again")
    found = plan.measure(plan, bench)
    result = Ablation(**described_fault(plan), settings=described, inputs=inputs, settings_sha256=digest,
                      **described_findings(found), versions=versions(),
                      conditions=machine_conditions(settings.threads))  # fmt: skip
    write_json(path, result.model_dump(mode="json"))
    return result, True


def shared_settings(bench: Bench) -> dict[str, Any]:
    """The profile's training settings of the task, before an ablation's own."""
    training = bench.plan.training.to_dict()
    return {"profile_training": {name: value for name, value in training.items() if name != "learning_rate"}}


def described_fault(plan: AblationPlan) -> dict[str, Any]:
    """The fields of a result that come from the plan."""
    names = ("name", "paper", "title", "fault", "source", "instead", "profile", "data", "seeds", "does_not_show")
    backbone = None
    if plan.experiment is not None:
        backbone = load_settings(Path("params.yaml")).experiment(plan.experiment).backbone
    return {**{name: getattr(plan, name) for name in names}, "backbone": backbone}


def described_findings(found: Findings) -> dict[str, Any]:
    """The fields of a result that were measured."""
    rows = [tuple(_plain(cell) for cell in row) for row in found.rows]
    return {"headers": found.headers, "rows": rows, "notes": found.notes, "figure": found.figure, "shows": found.shows}


def _plain(cell: Cell) -> Cell:
    return round(cell, 6) if isinstance(cell, float) else cell


if __name__ == "__main__":
    run_stage(main)
