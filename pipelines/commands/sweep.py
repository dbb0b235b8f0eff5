"""`replicate sweep`: run every cell of a profile that is not up to date, several at a time, and continue past failures.

A cell is a backbone (pretrain@x), a prepared task (prepare@x), the search for a learning rate that an experiment takes
over (search@x), an experiment (finetune@x, predict@x, score@x, one after the other) or the report. Experiments start in
the order of params.yaml, each as soon as what it needs is ready. One `dvc status` at the start finds the pending cells,
so the same command continues after an interruption; a stage that was stopped halfway continues from its checkpoint.

Each cell is one `dvc repro` in its own session, since a signal to DVC does not reach the stage it runs: the sweep
ends whole process groups, and only while no DVC process writes dvc.lock. An `Engine` starts cells; `LocalEngine` uses
this machine, each cell one of its GPUs; with `--engine ray` DVC stays here and hands the stages to a Ray cluster.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import typer

from pipelines.commands.cluster import connect
from pipelines.commands.gpus import GPUS_VARIABLE, visible_gpus
from pipelines.commands.selection import ONLY, select, settings_of, tasks_of
from pipelines.commands.sweep_view import JsonLines, LiveView, PlainLines, Running, Status, View
from pipelines.shared.paths import search_path
from replication.errors import ConfigError, ReplicationError
from replication.fileio import read_json
from replication.terminal import examples, working
from replication.training.progress import PROGRESS_VARIABLE

if TYPE_CHECKING:
    from pipelines.shared.settings import Settings

STAGES = ("finetune", "predict", "score")
STARTUP_WORK = 50.0  # what starting a stage costs, in training steps of the small models
POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL
LOCK_TRIES = 20  # of about 3 seconds each, for DVC's lock
State = Literal["pending", "running", "done", "failed", "skipped", "stopped"]


def register(app: typer.Typer) -> None:
    """Add `sweep` to the `replicate` command."""
    epilog = examples("replicate sweep --dry-run", "replicate sweep --profile cpu --only 'e2e-*' --dry-run")
    app.command("sweep", epilog=epilog)(sweep)


def sweep(
    profile: Annotated[
        str | None, typer.Option(help="quick, cpu or paper (default: quick, or as in --params).")
    ] = None,
    params: Annotated[Path | None, typer.Option(help="The profile's params.yaml, instead of its name.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Cells at a time (default: one a GPU, else 2; on Ray what fits).", show_default=False),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help=ONLY)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells in order with their state.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
    commit: Annotated[bool, typer.Option("--commit", help="Commit each experiment's results with git.")] = False,
    report: Annotated[bool, typer.Option(help="Make the report after the cells; never with --only.")] = True,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Where stages run: here, or on a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="With --engine ray: the cluster (default: the one this machine is part of).")
    ] = None,
) -> None:
    """Run the pending cells of a profile; exit code 1 if one failed. Rerun it to continue after an interruption."""
    from pipelines.commands.corpus_readiness import unobtainable_tasks

    if address is not None and engine != "ray":
        raise ConfigError("--address names a Ray cluster: use it with --engine ray")
    settings = settings_of(profile, params)
    selected = select(settings, only or [])
    absent = {key: files for key, files in unobtainable_tasks(settings).items() if key in tasks_of(settings, selected)}
    file = dvc_file(settings)
    with working(f"comparing {settings.profile} with dvc.lock"):
        changed = changed_stages(file)
    renewed = other_rates(settings, selected, changed)
    cells = grid(settings, selected, absent, every_source=not only, report=report and not only, renewed=renewed)
    pending = pending_cells(cells, changed)
    if dry_run:
        list_cells(settings, selected, absent, cells, pending, as_json)
        return

    view = JsonLines() if as_json else LiveView() if sys.stdout.isatty() else PlainLines()
    for task, files in absent.items():
        view.say(left_out(task, files))
    if not pending:
        view.say(f"{settings.profile}: all {len(cells)} cells are up to date")
        return
    gpus, logs = visible_gpus(), Path("logs") / settings.profile
    options: dict[str, Any] = {"gpus": gpus}
    if engine == "ray":
        cluster = connect(address, settings.threads, logs)
        options, jobs = {"environment": cluster.environment}, jobs or cluster.places
    runner = LocalEngine(lambda cell: cell_command(settings, file, cell), logs, **options)
    after = Commits(settings, file.with_name("dvc.lock"), view) if commit else None
    run = Sweep(cells, pending, runner, jobs or len(gpus) or 2, view, after)
    with signals_noted(run):
        run.run()
    raise typer.Exit(finish(run, view))


# --- what to run


def dvc_file(settings: Settings) -> Path:
    """The dvc.yaml next to the profile's params.yaml; ConfigError if there is none."""
    file = Path(settings.params_file).with_name("dvc.yaml")
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; a profile needs a dvc.yaml next to its params.yaml")
    return file


@dataclass(frozen=True)
class Cell:
    """One unit of work: DVC stages that run one after the other, once the cells it needs are done.

    `experiment` is None for any other than an experiment. `last`: starts when every other cell has ended. `force`: runs
    although nothing that DVC knows of has changed.
    """

    name: str
    stages: tuple[str, ...]
    needs: tuple[str, ...] = ()
    work: float = STARTUP_WORK
    experiment: str | None = None
    last: bool = False
    force: bool = False


def grid(
    settings: Settings,
    selected: Sequence[str],
    absent: Collection[str] = (),
    *,
    every_source: bool = True,
    report: bool = True,
    renewed: Collection[str] = (),
) -> list[Cell]:
    """The cells in the order in which they start; a source comes before the first experiment that needs it.

    Tasks in `absent` and their experiments are left out. `every_source`: also the sources that no experiment needs.
    `renewed`: experiments whose runs have another learning rate than their search found.
    """
    cells: dict[str, Cell] = {}
    for key in selected:
        experiment = settings.experiments[key]
        case = settings.searches[experiment.rate_from] if experiment.rate_from else None
        if experiment.task in absent or (case is not None and case.task in absent):
            continue
        sources = [task_cell(experiment.task), backbone_cell(settings, experiment.backbone)]
        if case is not None:
            sources += [task_cell(case.task), search_cell(settings, str(experiment.rate_from))]
        for source in sources:
            cells.setdefault(source.name, source)
        needs = tuple(source.name for source in sources)
        stages = tuple(f"{stage}@{key}" for stage in STAGES)
        work = expected_work(settings, key)
        cells[key] = Cell(key, stages, needs, work, experiment=key, force=key in renewed)
    if every_source:
        unused = [task_cell(key) for key in settings.tasks if key not in absent]
        unused += [backbone_cell(settings, key) for key in settings.backbones]
        for source in unused:
            cells.setdefault(source.name, source)
    if report:
        cells["report"] = Cell("report", ("report",), last=True)
    return list(cells.values())


def task_cell(key: str) -> Cell:
    """The cell that prepares a task."""
    return Cell(f"prepare@{key}", (f"prepare@{key}",), work=STARTUP_WORK)


def backbone_cell(settings: Settings, key: str) -> Cell:
    """The cell that pretrains or fetches a backbone."""
    steps = (settings.backbones[key].pretraining or {}).get("training", {}).get("steps", 10)
    return Cell(f"pretrain@{key}", (f"pretrain@{key}",), work=STARTUP_WORK + steps)


def search_cell(settings: Settings, case: str) -> Cell:
    """The cell of a learning-rate search: its first candidates, and the two best with the other seeds."""
    row = settings.searches[case]
    plan = settings.search[row.plan]
    trials = len(plan.learning_rates) + 2 * (len(plan.seeds) - 1)
    needs = (f"prepare@{row.task}", f"pretrain@{row.backbone}")
    return Cell(f"search@{case}", (f"search@{case}",), needs, STARTUP_WORK + trials * plan.steps)


def other_rates(settings: Settings, selected: Sequence[str], changed: Collection[str]) -> set[str]:
    """Experiments that ran with another learning rate than their search has found, or will find in this sweep.

    DVC compares the experiment's entry in params.yaml, which names the search, and so does not see this.
    """
    from pipelines.shared.experiment import searched_rate

    found = set()
    for key in selected:
        case = settings.experiments[key].rate_from
        records = list(Path("runs", settings.profile, key, "training").glob("seed-*/record.json"))
        if case is None or not records:
            continue
        rates = {read_json(record)["training"]["learning_rate"] for record in records}
        if f"search@{case}" in changed or rates != {searched_rate(settings, case)}:
            found.add(key)
    return found


def expected_work(settings: Settings, key: str) -> float:
    """Seeds x steps, twice where text is generated, and the start of its stages: an experiment's length, roughly."""
    from pipelines.shared.experiment import described

    experiment = described(settings, key)
    passes = 2 if experiment.form.generates else 1
    return len(STAGES) * STARTUP_WORK + len(experiment.seeds) * experiment.training.steps * passes


def target(file: Path, stage: str) -> str:
    """DVC's name of a stage."""
    return stage if file.parent == Path() else f"{file.as_posix()}:{stage}"


def cell_command(settings: Settings, file: Path, cell: Cell) -> Sequence[str]:
    """The command that makes a cell. DVC never runs a frozen stage: a search is run beside it and then committed."""
    stage, _, case = cell.name.partition("@")
    if stage != "search":
        return dvc_command(file, cell.stages, force=cell.force)
    search = ["python", "-m", "pipelines.search", "--params", settings.params_file, "--case", case]
    keep = [sys.executable, "-m", "dvc", "--wait-for-lock", "commit", "--force", target(file, cell.name)]
    return ["sh", "-c", f"echo \"Running stage '{cell.name}':\"; {shlex.join(search)} && {shlex.join(keep)}"]


def dvc_command(file: Path, stages: Sequence[str], *, force: bool = False) -> list[str]:
    """`dvc repro` of exactly these stages, in this order.

    Not of what they need: each process would want to write-lock what all of them read, data.dvc among it.
    """
    targets = [target(file, stage) for stage in stages]
    forced = ["--force"] if force else []
    return [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", *forced, *targets]


def changed_stages(file: Path) -> set[str]:
    """Names of the stages that `dvc status` reports as changed."""
    return set(status_of(file))


def status_of(file: Path) -> dict[str, Any]:
    """What `dvc status --json` says of each changed stage of one dvc.yaml, by the stage's name.

    For all stages at once: with separate targets DVC rereads its files for each and takes minutes.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "status", "--json", file.as_posix()]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode != 0:
        raise ConfigError(f"{file}: dvc status failed: {last_error(outcome.stderr) or outcome.returncode}")
    return {address.rpartition(":")[2]: found for address, found in json.loads(outcome.stdout).items()}


def pending_cells(cells: Sequence[Cell], changed: Collection[str]) -> list[str]:
    """Cells with a changed stage, those that need one of them, and the report if anything else runs.

    A cell after a pending source may turn out to be up to date; its `dvc repro` then does nothing.
    """
    pending: dict[str, None] = {}
    for cell in cells:
        waiting = any(need in pending for need in cell.needs) or (cell.last and pending)
        if waiting or cell.force or any(stage in changed for stage in cell.stages):
            pending[cell.name] = None
    return list(pending)


def left_out(task: str, files: Sequence[str]) -> str:
    """Why a task and its experiments are not run, and how to fix it."""
    from replication.corpora.fetch import MIRROR_VARIABLE

    return (
        f"left out: {task} and its experiments: {', '.join(files)} cannot be downloaded; with the file in a folder: "
        f"export {MIRROR_VARIABLE}=<folder>"
    )


def list_cells(
    settings: Settings,
    selected: Sequence[str],
    absent: Mapping[str, Sequence[str]],
    cells: Sequence[Cell],
    pending: Collection[str],
    as_json: bool,
) -> None:
    """Print every cell with its state: pending, done or left out."""
    states = {cell.name: "pending" if cell.name in pending else "done" for cell in cells}
    states |= {f"prepare@{task}": "left out" for task in absent}
    states |= {key: "left out" for key in selected if key not in states}
    for name, state in states.items():
        print(json.dumps({"cell": name, "state": state}) if as_json else f"{state:9} {name}", flush=True)
    if not as_json:
        for task, files in absent.items():
            print(left_out(task, files), flush=True)
        if pending:
            print("pending: its outputs are not here, or not of this code;")
            print("its committed record stays until it has run")


# --- where cells run


class Handle(Protocol):
    """A cell that an engine has started."""

    @property
    def log(self) -> Path:
        """Everything the cell printed."""

    def poll(self) -> int | None:
        """The exit status, or None while the cell runs; returns at once."""

    def progress(self) -> Mapping[str, Any] | None:
        """stage, title, step, total, figures, seconds_left of the step that is running, as far as known."""

    def stop(self) -> None:
        """End every process of the cell; returns when they have ended."""


class Engine(Protocol):
    """Runs cells somewhere: on this machine, or on a cluster."""

    def start(self, cell: Cell) -> Handle:
        """Start a cell; returns at once."""


@dataclass(frozen=True)
class LocalEngine:
    """Runs each cell as a process group on this machine, its output in `logs`/<cell>.log.

    With `gpus` (as CUDA_VISIBLE_DEVICES names them) a cell sees one of them, the one with the fewest running cells.
    `environment`: more variables; with those of pipelines/commands/cluster.py the cell's stages run on a cluster.
    """

    command: Callable[[Cell], Sequence[str]]
    logs: Path
    gpus: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    started: list[tuple[str, LocalCell]] = field(default_factory=list, init=False, repr=False)

    def start(self, cell: Cell) -> LocalCell:
        """Start the cell's command in its own session."""
        log, progress = self.logs / f"{cell.name}.log", self.logs / f"{cell.name}.progress.json"
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            progress.unlink(missing_ok=True)
            output = log.open("wb")
        except OSError as error:
            raise ReplicationError(f"{log}: cannot be written ({error.strerror}); free the path or the disk") from error
        gpu = self._free_gpu()
        with output:
            process = subprocess.Popen(
                self.command(cell),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**cell_environment(progress.resolve(), gpu), **self.environment},
            )
        handle = LocalCell(process, log, progress)
        if gpu is not None:
            self.started.append((gpu, handle))
        return handle

    def _free_gpu(self) -> str | None:
        self.started[:] = [(gpu, handle) for gpu, handle in self.started if handle.poll() is None]
        busy = [gpu for gpu, _ in self.started]
        return min(self.gpus, key=busy.count, default=None)


def cell_environment(progress: Path, gpu: str | None = None) -> dict[str, str]:
    """The environment of a stage: this Python first in PATH, the thread setting of the Makefile, and its GPU."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    shared = {"OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    own = {} if gpu is None else {GPUS_VARIABLE: gpu}
    return {**shared, **os.environ, **own, "PATH": path, PROGRESS_VARIABLE: str(progress)}


@dataclass(frozen=True)
class LocalCell:
    """A process group on this machine."""

    process: subprocess.Popen[bytes]
    log: Path
    progress_file: Path

    def poll(self) -> int | None:
        """The exit status of `dvc repro`, or None while it runs."""
        return self.process.poll()

    def progress(self) -> Mapping[str, Any] | None:
        """The stage's progress file, and the stage's name from the log."""
        started = re.findall(r"^Running stage '(?:[^'\n]*:)?([^@:'\n]+)", read_text(self.log), flags=re.MULTILINE)
        try:
            reported = json.loads(self.progress_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            reported = {}
        return {**reported, "stage": started[-1]} if started else reported

    def stop(self) -> None:
        """SIGTERM to the group, and SIGKILL to what is left GRACE_SECONDS later."""
        deadline = time.monotonic() + GRACE_SECONDS
        if self._signal(signal.SIGTERM):
            while self._signal(0) and time.monotonic() < deadline:
                self.process.poll()  # the leader has to be reaped for the group to end
                time.sleep(0.05)
            self._signal(signal.SIGKILL)
        self.process.wait()
        self.progress_file.unlink(missing_ok=True)

    def _signal(self, number: int) -> bool:
        """Whether the group received the signal; 0 only checks."""
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):  # PermissionError: macOS, a group of zombies
            return False
        return True


def read_text(path: Path) -> str:
    """The file's text, or nothing if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def last_error(log: str) -> str:
    """The last line of a log with more information than that a stage failed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("ERROR: failed to reproduce")]
    return (telling or lines or [""])[-1]


# --- running them


@dataclass(frozen=True)
class Failure:
    """A cell that failed."""

    cell: str
    error: str
    log: Path


@dataclass
class Sweep:
    """The queue of one sweep: starts ready cells in order, watches them, and ends them all if it has to stop.

    `after` is called with each finished experiment. `interrupted` holds the signal that stopped the sweep.
    """

    cells: Sequence[Cell]
    pending: Collection[str]
    engine: Engine
    jobs: int
    view: View
    after: Callable[[Cell], None] | None = None
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    interrupted: int | None = None
    failures: list[Failure] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.states = {cell.name: "pending" if cell.name in self.pending else "done" for cell in self.cells}
        self.running: dict[str, Handle] = {}
        self.started: dict[str, float] = {}
        self.finished: list[tuple[float, float]] = []  # seconds and work of each cell that this sweep has done
        self.by_name = {cell.name: cell for cell in self.cells}
        self.began = self.clock()

    def run(self) -> None:
        """Run every pending cell to its end, or until `interrupted`."""
        try:
            while not self.interrupted and (self._fill() or self.running):
                self.view.tick(self.status())
                self.pause(POLL_SECONDS)
                self._collect()
        finally:
            self._stop()
            self.view.close()

    def _fill(self) -> bool:
        """Start ready cells while there are free workers; whether one was started."""
        self._skip()
        ready = [cell for cell in self.cells if self._ready(cell)][: self.jobs - len(self.running)]
        for cell in ready:
            self.started[cell.name] = self.clock()
            self.running[cell.name] = self.engine.start(cell)
            self._enter(cell, "running")
        return bool(ready)

    def _ready(self, cell: Cell) -> bool:
        if self.states[cell.name] != "pending":
            return False
        if cell.last:
            return not any(self.states[c.name] in ("pending", "running") for c in self.cells if c is not cell)
        return all(self.states[need] == "done" for need in cell.needs)

    def _skip(self) -> None:
        """Skip the cells that need a failed one."""
        for cell in self.cells:
            failed = [need for need in cell.needs if self.states[need] == "failed"]
            if failed and self.states[cell.name] == "pending":
                self._enter(cell, "skipped", error=f"{failed[0]} failed")

    def _collect(self) -> None:
        """Note the cells that have ended."""
        for name, handle in list(self.running.items()):
            status = handle.poll()
            if status is None:
                continue
            del self.running[name]
            cell, seconds = self.by_name[name], self.clock() - self.started[name]
            if status == 0:
                self.finished.append((seconds, cell.work))
                self._enter(cell, "done", seconds=seconds)
                if self.after and cell.experiment:
                    self.after(cell)
            else:
                error = last_error(read_text(handle.log)) or f"exit status {status}"
                self.failures.append(Failure(name, error, handle.log))
                self._enter(cell, "failed", seconds=seconds, error=error, log=handle.log)

    def _stop(self) -> None:
        """End all running cells at once, while none of them writes dvc.lock: DVC writes it in place."""
        if not self.running:
            return
        with dvc_locked() as held, ThreadPoolExecutor(len(self.running)) as pool:
            if not held:
                self.view.say(
                    "DVC was busy for a minute and was stopped: check with `git diff --stat` that dvc.lock is unchanged"
                )
            list(pool.map(lambda handle: handle.stop(), self.running.values()))
        for name in self.running:
            self._enter(self.by_name[name], "stopped", seconds=self.clock() - self.started[name])
        self.running.clear()

    def _enter(self, cell: Cell, state: State, **details: Any) -> None:
        self.states[cell.name] = state
        self.view.event(cell.name, state, **details)

    def status(self) -> Status:
        """Everything a view shows."""
        now = self.clock()
        running = tuple(Running(n, now - self.started[n], h.progress() or {}) for n, h in self.running.items())
        counts = {state: list(self.states.values()).count(state) for state in ("done", "pending", "failed", "skipped")}
        return Status(running, counts, len(self.cells), now - self.began, self._seconds_left(now))

    def _seconds_left(self, now: float) -> float | None:
        """At the speed of the cells that this sweep has finished; None before the first."""
        work = sum(work for _, work in self.finished)
        if not work:
            return None
        seconds_per_work = sum(seconds for seconds, _ in self.finished) / work
        waiting = sum(seconds_per_work * cell.work for cell in self.cells if self.states[cell.name] == "pending")
        for name in self.running:
            waiting += max(0.0, seconds_per_work * self.by_name[name].work - (now - self.started[name]))
        return waiting / self.jobs


@contextmanager
def signals_noted(run: Sweep) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP stop the sweep instead of ending this process.

    The signal is only recorded: an exception could otherwise come between the start of a process and the moment the
    sweep knows about it. A signal that this process was started to ignore (nohup) stays ignored.
    """

    def note(number: int, _: object) -> None:
        run.interrupted = number

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(run: Sweep, view: View) -> int:
    """Show how the sweep ended; returns the exit code."""
    counts = run.status().counts
    said = [f"{counts[state]} {state}" for state in ("done", "failed", "skipped", "pending") if counts[state]]
    stopped = list(run.states.values()).count("stopped")
    view.say(", ".join([*said, *([f"{stopped} stopped"] if stopped else [])]))
    for failure in run.failures:
        view.say(f"failed: {failure.cell}: {failure.error} (log: {failure.log})")
    if run.interrupted:
        view.say(f"stopped by {signal.Signals(run.interrupted).name}; run the same command again to continue")
        return 128 + run.interrupted
    return 1 if run.failures else 0


# --- git


@dataclass(frozen=True)
class Commits:
    """Commits each finished experiment's results, and nothing else that is staged or changed."""

    settings: Settings
    lock: Path
    view: View

    def __call__(self, cell: Cell) -> None:
        """Commit one experiment; a failure is reported and the sweep continues."""
        try:
            made = commit(f"{self.settings.profile}: {cell.name}", self.paths(cell.name))
        except (ReplicationError, OSError) as error:
            self.view.event(cell.name, "not committed", error=str(error))
        else:
            if made:
                self.view.event(cell.name, "committed")

    def paths(self, experiment: str) -> list[str]:
        """The run's folder, the gold files of its task, its search and the profile's dvc.lock, as far as they exist."""
        profile, task = self.settings.profile, glob.escape(self.settings.experiments[experiment].task)
        gold = [path for name in (task, f"{task}.*") for path in sorted(Path("gold", profile).glob(name))]
        found = [Path("runs", profile, experiment), *gold, self.lock]
        if case := self.settings.experiments[experiment].rate_from:
            found.append(search_path(profile, case))
        return [path.as_posix() for path in found if path.exists()]


def commit(message: str, paths: Sequence[str]) -> bool:
    """Commit these paths without ignored files; False if nothing in them has changed."""
    with dvc_locked() as held:
        if not held:
            raise ReplicationError("DVC is busy: its lock was not free for a minute; commit these results by hand")
        git("add", "--", *paths)
        if git("diff", "--cached", "--quiet", "--", *paths, allowed=(0, 1)) == 0:
            return False
        git("commit", "--quiet", "--only", "--message", message, "--", *paths)
    return True


def git(*arguments: str, allowed: Collection[int] = (0,)) -> int:
    """Run git; ReplicationError has its last line."""
    outcome = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if outcome.returncode not in allowed:
        said = last_error(outcome.stderr) or last_error(outcome.stdout) or f"exit status {outcome.returncode}"
        raise ReplicationError(f"git {arguments[0]}: {said}")
    return outcome.returncode


@contextmanager
def dvc_locked() -> Iterator[bool]:
    """Hold DVC's lock, or yield False if it was not free for about a minute.

    `dvc repro` holds it except while its stage's program runs. While we hold it, nobody writes dvc.lock, which a killed
    writer would leave cut off, and nobody stages files: git allows one writer of its index.
    """
    folder = Path(".dvc/tmp")
    if not folder.is_dir():
        yield True
        return
    from dvc.lock import LockError, make_lock

    lock = make_lock(str(folder / "lock"))
    for _ in range(LOCK_TRIES):
        with suppress(LockError):
            lock.lock()
            break
    try:
        yield lock.is_locked
    finally:
        if lock.is_locked:
            lock.unlock()


if __name__ == "__main__":
    from pipelines.shared.stage import run_stage

    run_stage(sweep)
