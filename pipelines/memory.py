"""Peak memory of WeightLoRA's phase 2 against K: `make memory`. A measurement of this machine, not a DVC stage.

A process's peak never falls, so each K takes two processes: the first trains through phase 1 and stops at the
checkpoint written after the removal; the second, fresh, rebuilds the model from that checkpoint and trains on. What the
second one needed at its peak is phase 2's. For comparison, LoRA with every adapter is measured in fresh processes too.
Equal work does not peak equally, so each is measured several times, in turn.

Writes measurements/<profile>/memory.json, which is committed and drawn by the report.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.shared.experiment import Experiment, resolve
from pipelines.shared.paths import read_rows
from pipelines.shared.settings import Memory, load_settings
from pipelines.shared.stage import DryRun, Params, run_stage, say
from replication.errors import ConfigError, ReplicationError
from replication.fileio import write_json
from replication.records import machine_conditions, peak_memory, resident_memory

PHASE_1_STEPS = 3
"""Enough for a projection: the first update's is skipped, since every gradient of w is zero there."""
PHASE_2_STEPS = 4


class StopAtCheckpointError(Exception):
    """Phase 1 has done its part."""


def main(
    params: Params,
    phase: Annotated[int, typer.Option(hidden=True)] = 0,
    keep: Annotated[int, typer.Option(hidden=True)] = 0,
    checkpoint: Annotated[Path | None, typer.Option(hidden=True)] = None,
    dry_run: DryRun = False,
) -> None:
    """Measure every K of the profile's `memory` section."""
    settings = load_settings(params)
    if settings.memory is None:
        raise ConfigError(f"{params}: no `memory` section; it names the experiment, the values of K, batch and length")
    experiment = resolve(settings, settings.memory.experiment)
    if phase:
        print(json.dumps(train_phase(experiment, settings.memory, phase, keep, checkpoint)))
    elif dry_run:
        say(f"would measure phase 2 of {experiment.key} for K = {', '.join(map(str, settings.memory.keep))}")
    else:
        measure(params, experiment, settings.memory)


def measure(params: Path, experiment: Experiment, memory: Memory) -> None:
    """Measure every K in separate processes, then write the file."""
    everything: list[int] = []
    second: dict[int, list[dict[str, Any]]] = {keep: [] for keep in memory.keep}
    with tempfile.TemporaryDirectory() as folder:
        first = {keep: in_process(params, 1, keep, Path(folder) / str(keep)) for keep in memory.keep}
        for repeat in range(1, memory.repeats + 1):
            everything.append(in_process(params, 2, 0, None)["peak_bytes"])
            for keep, found in second.items():
                again = Path(folder) / f"{keep}-{repeat}"  # training on from it writes further checkpoints
                shutil.copytree(Path(folder) / str(keep), again)
                found.append(in_process(params, 2, keep, again))
                shutil.rmtree(again)
            peaks = ", ".join(f"K={keep} {found[-1]['peak_bytes'] / 1e6:.0f}" for keep, found in second.items())
            say(f"{repeat} of {memory.repeats}: peak in MB, all adapters {everything[-1] / 1e6:.0f}, phase 2 {peaks}")
    rows = [
        {
            "keep": keep,
            "survivors": found[0]["survivors"],
            "phase1_peak_bytes": first[keep]["peak_bytes"],
            "phase2_peaks_bytes": [one["peak_bytes"] for one in found],
            "baseline_bytes": found[0]["baseline_bytes"],
        }
        for keep, found in second.items()
    ]
    path = Path("measurements") / experiment.profile / "memory.json"
    described = {
        "backbone": experiment.backbone.name,
        "task": experiment.task,
        "method": experiment.method,
        "settings": dict(experiment.settings),
        "rank": experiment.settings.get("rank"),
        "adapters": max(one["adapters"] for one in first.values()),
        "batch": memory.batch_size,
        "length": memory.length,
        "phase1_steps": PHASE_1_STEPS,
        "phase2_steps": PHASE_2_STEPS,
        "conditions": machine_conditions(experiment.threads).model_dump(),
        "unit": "bytes of resident memory, the whole process; one figure for each fresh process",
        "all_adapters_peaks_bytes": everything,
    }
    write_json(path, {**described, "rows": rows})
    say(f"memory: {path}")


def in_process(params: Path, phase: int, keep: int, checkpoint: Path | None) -> dict[str, Any]:
    """One measurement in a fresh process; ReplicationError with its output if it failed."""
    command = [sys.executable, "-m", "pipelines.memory", "--params", str(params), "--phase", str(phase)]
    command += ["--keep", str(keep)] + (["--checkpoint", str(checkpoint)] if checkpoint else [])
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise ReplicationError(f"{' '.join(command[1:])} failed:\n{finished.stderr.strip()[-2000:]}")
    return dict(json.loads(finished.stdout.strip().splitlines()[-1]))


def train_phase(
    experiment: Experiment, memory: Memory, phase: int, keep: int, checkpoint: Path | None
) -> dict[str, Any]:
    """Phase 1 up to its last checkpoint, or phase 2 from it; `keep` 0 is LoRA with every adapter, from the start."""
    from pipelines.shared.fitting import load_base
    from replication.backbones import load_tokenizer
    from replication.methods import attach, method_config
    from replication.training.loop import train

    shared = {key: experiment.settings[key] for key in ("rank", "alpha", "dropout") if key in experiment.settings}
    chosen = {**experiment.settings, "keep": keep, "selection_steps": PHASE_1_STEPS}
    targets = getattr(experiment.methods[experiment.seeds[0]], "targets", ("query", "key", "value"))
    method = method_config("weight_lora", **chosen) if keep else method_config("lora", **shared, targets=targets)
    measured = experiment.with_training(
        steps=PHASE_1_STEPS + PHASE_2_STEPS,
        warmup_steps=0,
        batch_size=memory.batch_size,
        max_length=memory.length,
        eval_every=None,
        checkpoint_every=PHASE_1_STEPS,
    )
    form, options, training = measured.form, measured.options, measured.training
    model = attach(load_base(experiment, seed=0), method)
    tokenizer = load_tokenizer(experiment.backbone.name, experiment.weights)
    form.prepare_model(model, tokenizer)
    rows = training.batch_size * training.accumulation_steps * training.steps
    examples = form.encode(tokenizer, longest_rows(experiment, rows), options)
    calls = 0

    def stopping(batch: Any, pad_id: int) -> Any:
        nonlocal calls
        calls += 1
        if phase == 1 and calls > PHASE_1_STEPS * training.accumulation_steps:
            raise StopAtCheckpointError
        return form.collate(batch, pad_id)

    callback = method.training_callback(training)
    baseline = resident_memory()
    with contextlib.suppress(StopAtCheckpointError):
        train(
            model,
            examples,
            [],
            training,
            seed=0,
            pad_id=form.pad_id(tokenizer, options),
            checkpoint_directory=checkpoint,
            callback=callback,
            loss_function=form.training_loss(training.label_smoothing),
            collate_function=stopping,
        )
    summary = (callback.summary() if callback else None) or {}
    return {
        "baseline_bytes": baseline,
        "peak_bytes": peak_memory()[0],
        "survivors": summary.get("survivors"),
        "adapters": len(summary.get("adapters", ())),
    }


def longest_rows(experiment: Experiment, count: int) -> list[dict[str, Any]]:
    """The longest training rows, so that every batch is as long as `length` allows."""
    rows = read_rows(experiment.prepared, "train")
    return sorted(rows, key=lambda row: -sum(len(str(row.get(field) or "")) for field in ("text", "pair")))[:count]


if __name__ == "__main__":
    run_stage(main)
