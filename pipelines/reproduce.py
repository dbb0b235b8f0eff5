"""Run a profile with several stages at a time: `make reproduce`. DVC itself runs one stage after the other.

Every process is a `dvc repro` of its own on its share of the stages; DVC's lock keeps them apart. A last `dvc repro` of
the whole profile makes the report and would run whatever a process left out: the outcome is that of one `dvc repro`.

A task whose corpus is neither here nor at any address is left out with its experiments and said so; their committed
results stay in the report.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipelines.corpus_readiness import unobtainable_tasks
from pipelines.settings import Settings, load_settings
from pipelines.stage import DryRun, Params, run_stage, say
from pipelines.tasks import GENERATION
from replication.corpora.fetch import MIRROR_VARIABLE
from replication.errors import ReplicationError


def main(
    params: Params,
    jobs: Annotated[int, typer.Option(min=1, help="Stages at a time; each uses the profile's `threads`.")] = 2,
    keep_going: Annotated[bool, typer.Option(help="Run the other stages when one fails.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Reproduce one profile."""
    settings = load_settings(params)
    file = Path(settings.params_file).with_name("dvc.yaml")
    absent = unobtainable_tasks(settings)
    for task, files in absent.items():
        say(f"left out: {task} and its experiments. No address serves {', '.join(files)}; "
            f"with the file in a folder: export {MIRROR_VARIABLE}=<folder>")  # fmt: skip
    settings = without_tasks(settings, absent)
    waves = [wave for wave in (sources(settings), experiments(settings)) if wave]
    if dry_run:
        for number, wave in enumerate(waves, start=1):
            say(f"would run wave {number}, {jobs} at a time: {', '.join(wave)}")
        return
    for wave in waves:
        run_wave(file, wave, jobs, keep_going=keep_going)
    finish(file, keep_going=keep_going, report_alone=bool(absent))


def without_tasks(settings: Settings, absent: Collection[str]) -> Settings:
    """The profile less these tasks and the experiments on them."""
    tasks = {key: task for key, task in settings.tasks.items() if key not in absent}
    left = {key: entry for key, entry in settings.experiments.items() if entry.task not in absent}
    return settings.model_copy(update={"tasks": tasks, "experiments": left})


def sources(settings: Settings) -> dict[str, float]:
    """Stages that others read from, backbones and prepared tasks, with a rough measure of their length."""
    work = {f"prepare@{key}": 1.0 for key in settings.tasks}
    for key, backbone in settings.backbones.items():
        work[f"pretrain@{key}"] = float((backbone.pretraining or {}).get("training", {}).get("steps", 10))
    return work


def experiments(settings: Settings) -> dict[str, float]:
    """The stages of every experiment in the order they need, with a rough measure of their length."""
    stages = ("finetune", "predict", "score")
    return {
        " ".join(f"{stage}@{key}" for stage in stages): expected_work(settings, key) for key in settings.experiments
    }


def expected_work(settings: Settings, key: str) -> float:
    """Seeds x steps, counted twice where text is generated."""
    experiment = settings.experiments[key]
    task = settings.task(experiment.task)
    steps = task.training.get("steps", settings.training.get("steps", 1))
    return float(len(experiment.seeds) * steps * (2 if task.form == GENERATION else 1))


def shares(work: Mapping[str, float], jobs: int) -> list[list[str]]:
    """Longest first, each to the process with the least to do so far."""
    dealt: list[list[str]] = [[] for _ in range(min(jobs, len(work)))]
    loads = [0.0] * len(dealt)
    for stage in sorted(work, key=lambda stage: -work[stage]):
        least = loads.index(min(loads))
        dealt[least].append(stage)
        loads[least] += work[stage]
    return dealt


def run_wave(file: Path, wave: Mapping[str, float], jobs: int, *, keep_going: bool) -> None:
    """Run one wave to its end; ReplicationError names the shares that failed."""
    running = [(share, subprocess.Popen(command(file, share, keep_going))) for share in shares(wave, jobs)]
    try:
        failed = [share for share, process in running if process.wait() != 0]
    except BaseException:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()
        raise
    if failed and not keep_going:
        raise ReplicationError(f"dvc repro failed for: {'; '.join(', '.join(share) for share in failed)}; see above")


def command(file: Path, stages: Sequence[str], keep_going: bool) -> list[str]:
    """`dvc repro` of exactly these stages, in this order.

    Not of what they need: each process would want to write-lock what all of them read, data.dvc among it.
    """
    names = [name for stage in stages for name in stage.split()]
    targets = [name if file.parent == Path() else f"{file}:{name}" for name in names]
    options = ["--single-item", *(["--keep-going"] if keep_going else [])]
    return [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *options, *targets]


def finish(file: Path, *, keep_going: bool, report_alone: bool = False) -> None:
    """The whole profile once more: what is left, and the report; the report alone where the whole cannot be."""
    targets = [f"{file}:report" if report_alone else str(file)]
    options = [*(["--keep-going"] if keep_going else []), *(["--single-item"] if report_alone else [])]
    outcome = subprocess.run([sys.executable, "-m", "dvc", "repro", *options, *targets], check=False)
    if outcome.returncode != 0:
        raise ReplicationError(f"dvc repro {targets[0]} failed; see above")


if __name__ == "__main__":
    run_stage(main)
