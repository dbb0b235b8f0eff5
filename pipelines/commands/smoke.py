"""`replicate smoke`: does a profile work on this machine and with this hub? Minutes, before the days.

Prepares every task and fetches every backbone, then runs all stages of one experiment of each distinct backbone, task
form and method for a few steps, checks the others with the preflight, and builds the report. It goes on past failures
and shows them with their fix at the end. Everything but fetched weights is written below an output folder of its own,
under the profile name smoke-<profile>: nothing of it can be taken for a result, and runs/ is not touched.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipelines.commands.selection import ONLY, select, settings_of
from pipelines.commands.smoke_settings import Size, write_smoke_settings
from pipelines.commands.sweep import last_error, read_text
from pipelines.commands.weights_readiness import holds_model
from pipelines.shared.code import ROOT
from pipelines.shared.settings import ExperimentRow, Row, Settings
from replication.corpora.fetch import CACHE_VARIABLE, MIRROR_VARIABLE
from replication.errors import ConfigError
from replication.fileio import write_json
from replication.terminal import examples, working

MARK = "smoke.json"
"""In the output folder: what was found. Only a folder that has it is emptied."""
INPUTS = ("paper_results", "replication", "data")
"""What stages read relative to the folder they run in; linked there."""
VARIANTS = {"peft_baselines": "name", "baseline": "kind"}
"""Methods that are several: the setting that says which."""
WORKER = (sys.executable, "-m", "pipelines.commands.smoke_worker")
State = Literal["ok", "failed", "skipped"]


def register(app: typer.Typer) -> None:
    """Add `smoke` to the `replicate` command."""
    epilog = examples("replicate smoke --only lora", "replicate smoke --only 'qa-*' --steps 8 --json")
    app.command("smoke", epilog=epilog)(smoke)


@dataclass(frozen=True)
class Cell:
    """One unit of work and how it ended. A "run" is an experiment with all its stages.

    `needs`: names of cells that must be ok. `stage`, `error`, `fix`: what failed and what to do about it.
    """

    kind: Literal["prepare", "pretrain", "search", "run", "preflight", "report"]
    key: str
    needs: tuple[str, ...] = ()
    state: State = "ok"
    stage: str | None = None
    error: str | None = None
    fix: str | None = None
    seconds: float | None = None
    cuda_bytes: int | None = None

    @property
    def name(self) -> str:
        """Unique in a run."""
        return self.key if self.kind == "report" else f"{self.kind}@{self.key}"


def smoke(
    profile: Annotated[
        str | None, typer.Option(help="quick, cpu or paper (default: quick, or as in --params).")
    ] = None,
    params: Annotated[Path | None, typer.Option(help="The profile's params.yaml, instead of its name.")] = None,
    only: Annotated[list[str] | None, typer.Option(help=ONLY)] = None,
    steps: Annotated[int, typer.Option(help="Training steps; schedules are shortened to fit.")] = 5,
    seeds: Annotated[int, typer.Option(help="Seeds of each experiment.")] = 1,
    examples: Annotated[int, typer.Option(help="Examples of each split, but at least one batch to train on.")] = 64,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time; each trains on the first GPU.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Folder to write (default: smoke/<profile>).")] = None,
    weights: Annotated[Path, typer.Option(help="Backbones' weights: used if present, fetched into it if not.")] = Path(
        "weights"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run every stage of a profile for a few steps; exit code 1 if anything failed, with the reason and the fix."""
    with working("reading the settings"):
        settings = settings_of(profile, params)
    selected = select(settings, only or [])
    size = Size(steps, seeds, examples)
    folder = (output or Path("smoke") / settings.profile).absolute()
    fresh_folder(folder, weights)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    small = write_smoke_settings(settings, size, threads, folder)
    found: list[Cell] = []
    with Workers(folder, jobs, lambda cell: print(line(cell), file=sys.stderr, flush=True)) as workers:
        for cells in phases(small, selected):
            done = {cell.name: cell for cell in found}
            found += [skipped(cell, done) for cell in cells if unmet(cell, done)]
            found += workers.run([cell for cell in cells if not unmet(cell, done)])
    result = as_dict(settings, size, folder, found)
    write_json(folder / MARK, result)
    print(json.dumps(result) if as_json else table(settings, folder, found))
    raise typer.Exit(1 if any(cell.state != "ok" for cell in found) else 0)


# --- what to run


def phases(settings: Settings, selected: Sequence[str]) -> list[list[Cell]]:
    """Sources, searches, experiments, the report; the cells of one phase do not need each other."""
    rows = {key: settings.experiments[key] for key in selected}
    first: dict[tuple[str, ...], str] = {}
    for key in rows:
        first.setdefault(kind_of(settings, key), key)
    runs = list(first.values())
    cases = {case: settings.searches[case] for case in dict.fromkeys(rows[key].rate_from for key in runs) if case}
    sources = [*rows.values(), *cases.values()]
    experiments = [Cell("run", key, (*needs(rows[key]), *rate_needs(rows[key]))) for key in runs]
    experiments += [Cell("preflight", key, needs(row)) for key, row in rows.items() if key not in runs]
    return [
        [Cell("pretrain", key) for key in dict.fromkeys(row.backbone for row in sources)]
        + [Cell("prepare", key) for key in dict.fromkeys(row.task for row in sources)],
        [Cell("search", case, needs(row)) for case, row in cases.items()],
        experiments,
        [Cell("report", "report")],
    ]


def needs(row: Row) -> tuple[str, ...]:
    """The cells of its task and its backbone."""
    return f"prepare@{row.task}", f"pretrain@{row.backbone}"


def rate_needs(row: ExperimentRow) -> tuple[str, ...]:
    """The cell of the search whose rate it takes over."""
    return (f"search@{row.rate_from}",) if row.rate_from else ()


def kind_of(settings: Settings, key: str) -> tuple[str, ...]:
    """Backbone, task form, method and its variant. Experiments of a kind run the same code."""
    row = settings.experiments[key]
    variant = settings.methods[row.method][row.settings].get(VARIANTS.get(row.method, ""), "")
    return row.backbone, settings.tasks[row.task].form, row.method, str(variant)


def unmet(cell: Cell, done: Mapping[str, Cell]) -> list[str]:
    """Names of the cells it needs that are not ok."""
    return [name for name in cell.needs if done[name].state != "ok"]


def skipped(cell: Cell, done: Mapping[str, Cell]) -> Cell:
    """A cell that cannot run."""
    return replace(cell, state="skipped", error=f"{', '.join(unmet(cell, done))} failed")


def fresh_folder(folder: Path, weights: Path) -> None:
    """An empty output folder with links to what stages read; ConfigError before anything is deleted by mistake."""
    if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--output {folder}: exists, and no smoke run wrote it (no {MARK}); name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / MARK, {})
    weights.mkdir(parents=True, exist_ok=True)
    for name, target in {**{name: Path(name) for name in INPUTS}, "weights": weights}.items():
        if target.exists():
            (folder / name).symlink_to(target.resolve(), target_is_directory=True)


# --- running it


@dataclass(frozen=True)
class Worker:
    """A process that answers one cell at a time, and what it has printed."""

    process: subprocess.Popen[str]
    log: Path

    def ask(self, cell: Cell) -> Cell:
        """The cell with how it ended; a process that dies fails it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"kind": cell.kind, "key": cell.key}) + "\n")
            self.process.stdin.flush()
            said = self.process.stdout.readline()
        except BrokenPipeError:
            said = ""
        if said:
            answer = json.loads(said)
            return replace(cell, state="failed" if answer["error"] else "ok", **answer)
        error, fix = self._death()
        return replace(cell, state="failed", error=error, fix=fix)

    def _death(self) -> tuple[str, str]:
        """What to say of a process that ended without an answer: the error, and what to do."""
        status = self.process.wait()
        if status == -signal.SIGKILL:
            fix = "most often too little memory of the machine (not of the GPU): see `dmesg`, and use fewer --jobs"
            return "killed by SIGKILL", fix
        ended = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return f"{ended}: {last_error(read_text(self.log))}", f"see {self.log}"

    def close(self) -> None:
        """End it; a cell that it is at ends first."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Workers:
    """Up to `jobs` processes that run cells in `folder`; where one dies, another goes on with the rest.

    They stay for the next cells, since importing torch takes longer than most of them.
    """

    def __init__(self, folder: Path, jobs: int, tell: Callable[[Cell], None], command: Sequence[str] = WORKER) -> None:
        self.folder, self.jobs, self.tell, self.command = folder, jobs, tell, command
        self.idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self.started: list[Worker] = []
        self.numbers = itertools.count(1)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(queue.Empty):
            while True:
                self.idle.get_nowait().close()

    def run(self, cells: Sequence[Cell]) -> list[Cell]:
        """Every cell with how it ended, in the order given; a backbone whose weights are here is done."""
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                return list(pool.map(self._run, cells))
            except BaseException:  # a signal: the block would wait for every cell
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in self.started:
                    worker.process.kill()
                raise

    def _run(self, cell: Cell) -> Cell:
        if cell.kind == "pretrain" and holds_model(self.folder / "weights" / cell.key):
            return cell
        try:
            worker = self.idle.get_nowait()
        except queue.Empty:
            worker = self._start()
        ended = worker.ask(cell)
        if worker.process.poll() is None:
            self.idle.put(worker)
        self.tell(ended)
        return ended

    def _start(self) -> Worker:
        log = self.folder / "logs" / f"worker-{next(self.numbers)}.log"
        log.parent.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(self._paths()), "PYTHONUNBUFFERED": "1"}
        for name in (MIRROR_VARIABLE, CACHE_VARIABLE):
            if os.environ.get(name):
                environment[name] = str(Path(os.environ[name]).expanduser().absolute())
        with log.open("wb") as printed:
            process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                text=True,
                start_new_session=True,
            )
        self.started.append(Worker(process, log))
        return self.started[-1]

    @staticmethod
    def _paths() -> list[str]:
        """The project, so that its modules are found from another folder, and the paths that are set, made absolute."""
        given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        return [*(str(Path(path).absolute()) for path in given), str(ROOT)]


# --- how it ended


def line(cell: Cell) -> str:
    """One cell in one line."""
    seconds = "" if cell.seconds is None else f"{cell.seconds:7.1f} s"
    memory = "" if cell.cuda_bytes is None else f"{cell.cuda_bytes / 1e9:7.2f} GB on the GPU"
    where = f" (in {cell.stage})" if cell.stage and cell.stage != cell.kind else ""
    return f"{cell.state:8}{cell.name + where:44}{seconds:>10}{memory}".rstrip()


def table(settings: Settings, folder: Path, cells: Sequence[Cell]) -> str:
    """All cells, then every failure with its reason and fix."""
    failed = [cell for cell in cells if cell.state == "failed"]
    lines = [*map(line, cells), ""]
    for cell in failed:
        lines += [f"{cell.name}: {cell.error}", *([f"  fix: {cell.fix}"] if cell.fix else [])]
    counts = {state: sum(cell.state == state for cell in cells) for state in ("ok", "failed", "skipped")}
    said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    lines += [f"smoke run of {settings.profile}: {said}; nothing in it is a result", f"logs and report: {folder}"]
    return "\n".join(lines)


def as_dict(settings: Settings, size: Size, folder: Path, cells: Sequence[Cell]) -> dict[str, Any]:
    """Everything the screen says."""
    shown = [{name: value for name, value in asdict(cell).items() if name != "needs"} for cell in cells]
    return {"profile": settings.profile, "size": asdict(size), "output": str(folder), "cells": shown}


if __name__ == "__main__":
    from pipelines.shared.stage import run_stage

    run_stage(smoke)
