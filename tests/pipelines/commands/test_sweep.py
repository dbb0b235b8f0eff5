"""The sweep: order, dependencies, failures, resumption, signals, commits and views."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import pipelines.commands.sweep as sweeping
from pipelines.commands.corpus_readiness import unobtainable_tasks
from pipelines.commands.selection import select
from pipelines.commands.sweep import Cell, Commits, LocalEngine, Sweep
from pipelines.shared.experiment import method_settings
from pipelines.shared.paths import search_path
from pipelines.shared.settings import load_settings
from replication.errors import ConfigError, ReplicationError
from replication.fileio import write_json

PROFILES = ["params.yaml", "pipelines/cpu/params.yaml", "pipelines/paper/params.yaml"]


@dataclass
class Recorded:
    """A view that records its input."""

    lines: list = field(default_factory=list)
    events: list = field(default_factory=list)
    ticks: list = field(default_factory=list)

    def say(self, text):
        self.lines.append(text)

    def event(self, cell, state, *, seconds=None, error=None, log=None):
        self.events.append((cell, state, error))

    def tick(self, status):
        self.ticks.append(status)

    def close(self):
        self.lines.append("closed")


@dataclass
class FakeEngine:
    """Cells that end at their n-th poll (`polls`, else the first) with a status (`status`, else 0)."""

    folder: Path
    status: dict = field(default_factory=dict)
    polls: dict = field(default_factory=dict)
    on_start: object = None
    started: list = field(default_factory=list)
    running: set = field(default_factory=set)
    stopped: list = field(default_factory=list)
    done: set = field(default_factory=set)  # stages
    most: int = 0

    def start(self, cell):
        self.started.append(cell.name)
        self.running.add(cell.name)
        self.most = max(self.most, len(self.running))
        log = self.folder / f"{cell.name}.log"
        log.write_text(f"some output\nerror: {cell.name} is ill\nERROR: failed to reproduce '{cell.stages[0]}'\n")
        if self.on_start:
            self.on_start(cell)
        return FakeHandle(self, cell, log, self.polls.get(cell.name, 1))


@dataclass
class FakeHandle:
    engine: FakeEngine
    cell: Cell
    log: Path
    left: int

    def poll(self):
        self.left -= 1
        if self.left > 0:
            return None
        status = self.engine.status.get(self.cell.name, 0)
        self.engine.running.discard(self.cell.name)
        if status == 0:
            self.engine.done.update(self.cell.stages)
        return status

    def progress(self):
        return {"title": "fine-tune x, seed 18", "step": 1, "total": 4}

    def stop(self):
        self.engine.stopped.append(self.cell.name)
        self.engine.running.discard(self.cell.name)


CELLS = (
    Cell("prepare@t", ("prepare@t",)),
    Cell("pretrain@b", ("pretrain@b",)),
    Cell("one", ("finetune@one",), ("prepare@t", "pretrain@b"), experiment="one"),
    Cell("prepare@u", ("prepare@u",)),
    Cell("two", ("finetune@two",), ("prepare@u", "pretrain@b"), experiment="two"),
    Cell("three", ("finetune@three",), ("prepare@t", "pretrain@b"), experiment="three"),
    Cell("report", ("report",), last=True),
)


NAMES = [cell.name for cell in CELLS]


def swept(engine, jobs=2, pending=NAMES, **options):
    run = Sweep(CELLS, pending, engine, jobs, Recorded(), pause=lambda seconds: None, **options)
    run.run()
    return run


# --- order and dependencies


@given(
    polls=st.dictionaries(st.sampled_from(NAMES), st.integers(1, 6)),
    failing=st.sets(st.sampled_from(NAMES)),
    jobs=st.integers(1, 4),
)
def test_cells_start_after_what_they_need_and_nothing_is_lost(tmp_path_factory, polls, failing, jobs):
    engine = FakeEngine(tmp_path_factory.mktemp("logs"), dict.fromkeys(failing, 1), polls)
    ended = []
    engine.on_start = lambda cell: ended.append((cell.name, set(engine.done), set(engine.running)))
    run = swept(engine, jobs)
    assert engine.most <= jobs
    by_name = {cell.name: cell for cell in CELLS}
    for name, done, running in ended:
        assert {stage for need in by_name[name].needs for stage in by_name[need].stages} <= done
        if name == "report":
            assert running == {"report"}
    for cell in CELLS:
        behind = any(need in failing for need in cell.needs)
        wanted = "skipped" if behind else "failed" if cell.name in failing else "done"
        assert run.states[cell.name] == wanted
    assert sorted(engine.started) == sorted(name for name, state in run.states.items() if state != "skipped")
    assert engine.started[-1] == "report"


def test_with_one_worker_cells_run_in_their_order(tmp_path):
    engine = FakeEngine(tmp_path)
    swept(engine, jobs=1)
    assert engine.started == NAMES


def test_a_worker_passes_over_what_is_not_ready(tmp_path):
    """While the backbone is long in coming, the other worker prepares every task and then waits."""
    engine = FakeEngine(tmp_path, polls={"pretrain@b": 5})
    swept(engine)
    assert engine.started == ["prepare@t", "pretrain@b", "prepare@u", "one", "two", "three", "report"]


def test_a_failed_source_skips_its_experiments_and_the_others_run(tmp_path):
    engine = FakeEngine(tmp_path, status={"prepare@u": 1})
    run = swept(engine)
    assert ("two", "skipped", "prepare@u failed") in run.view.events
    assert engine.started == ["prepare@t", "pretrain@b", "one", "prepare@u", "three", "report"]
    assert [(failure.cell, failure.error) for failure in run.failures] == [("prepare@u", "error: prepare@u is ill")]
    said = Recorded()
    assert sweeping.finish(run, said) == 1
    assert any(str(tmp_path / "prepare@u.log") in line and "prepare@u is ill" in line for line in said.lines)


def test_cells_that_are_up_to_date_do_not_run(tmp_path):
    engine = FakeEngine(tmp_path)
    run = swept(engine, pending=["two", "report"])
    assert engine.started == ["two", "report"]
    assert sweeping.finish(run, Recorded()) == 0


def test_an_error_of_the_engine_ends_what_runs(tmp_path):
    def start(cell):
        if cell.name == "pretrain@b":
            raise ReplicationError("no more room")

    engine = FakeEngine(tmp_path, polls={"prepare@t": 99}, on_start=start)
    run = Sweep(CELLS, NAMES, engine, 2, Recorded(), pause=lambda seconds: None)
    with pytest.raises(ReplicationError, match="no more room"):
        run.run()
    assert engine.stopped == ["prepare@t"]
    assert "closed" in run.view.lines


def test_time_left_is_that_of_the_work_left_at_the_speed_so_far(tmp_path):
    now = SimpleNamespace(seconds=0.0)

    def pause(seconds):
        now.seconds += 10

    run = Sweep(CELLS, NAMES, FakeEngine(tmp_path), 1, Recorded(), pause=pause, clock=lambda: now.seconds)
    run.run()
    assert [status.left for status in run.view.ticks] == [None, 60, 50, 40, 30, 20, 10]
    assert run.view.ticks[-1].counts["done"] == 6


# --- which cells


@pytest.mark.parametrize("file", PROFILES)
def test_the_grid_reaches_every_stage_in_the_order_of_params(project_root, file):
    settings = load_settings(project_root / file)
    cells = sweeping.grid(settings, list(settings.experiments))
    assert [cell.name for cell in cells if cell.experiment] == list(settings.experiments)
    expected = {f"pretrain@{key}" for key in settings.backbones} | {f"prepare@{key}" for key in settings.tasks}
    expected |= {f"{stage}@{key}" for stage in sweeping.STAGES for key in settings.experiments} | {"report"}
    expected |= {f"search@{row.rate_from}" for row in settings.experiments.values() if row.rate_from}
    assert sorted(stage for cell in cells for stage in cell.stages) == sorted(expected)
    places = {cell.name: place for place, cell in enumerate(cells)}
    assert all(places[need] < places[cell.name] for cell in cells for need in cell.needs)
    assert all(cell.work > 0 for cell in cells)
    for cell in cells:
        if cell.experiment:
            experiment = settings.experiments[cell.experiment]
            assert cell.needs[:2] == (f"prepare@{experiment.task}", f"pretrain@{experiment.backbone}")
            assert (f"search@{experiment.rate_from}" in cell.needs) == (experiment.rate_from is not None)
            assert cell.stages == tuple(f"{stage}@{cell.name}" for stage in ("finetune", "predict", "score"))


def test_only_selects_by_pattern_and_leaves_unneeded_sources_out(project_root):
    settings = load_settings(project_root / "params.yaml")
    chosen = select(settings, ["qa-*", "lora"])
    assert chosen == ["lora", "qa-lora", "qa-random-lora", "qa-weight-lora"]
    cells = sweeping.grid(settings, chosen, every_source=False, report=False)
    assert {cell.name for cell in cells if not cell.experiment} == {
        "prepare@microworld-e2e", "pretrain@microworld-gpt2", "prepare@qa", "pretrain@microworld-deberta",
    }  # fmt: skip


@pytest.fixture
def searched(tmp_path, monkeypatch, project_root):
    """Settings of the quick profile in an empty folder, whose `lora` takes its rate over from a search."""
    content = yaml.safe_load((project_root / "params.yaml").read_text())
    content["experiments"]["lora"] |= {"learning_rate": {"search": "lora"}, "search": None}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    return load_settings("params.yaml")


def test_an_experiment_waits_for_the_search_of_its_rate(searched):
    cells = {cell.name: cell for cell in sweeping.grid(searched, ["lora"], every_source=False, report=False)}
    assert list(cells)[-2:] == ["search@lora", "lora"]
    assert cells["lora"].needs[-1] == "search@lora"
    assert cells["search@lora"].needs == ("prepare@microworld-e2e", "pretrain@microworld-gpt2")
    command = sweeping.cell_command(searched, Path("dvc.yaml"), cells["search@lora"])
    search, keep = command[-1].partition(";")[2].split(" && ")
    assert search.split()[1:] == ["-m", "pipelines.search", "--params", "params.yaml", "--case", "lora"]
    assert keep.split()[-3:] == ["commit", "--force", "search@lora"]
    assert sweeping.grid(searched, ["lora"], {"microworld-e2e"}, every_source=False, report=False) == []


def test_another_rate_than_that_of_the_run_starts_it_again_although_dvc_sees_no_change(searched):
    def renewed(changed=()):
        return sweeping.other_rates(searched, ["lora", "full"], changed)

    assert renewed() == set(), "nothing has run"
    record = Path("runs/quick/lora/training/seed-18/record.json")
    write_json(record, {"training": {"learning_rate": 0.5}})
    row = searched.searches["lora"]
    plan = searched.search[row.plan]
    result = {**row.model_dump(mode="json"), **plan.model_dump(mode="json"), "best": 0.5}
    result["settings"] = method_settings(searched, row, plan.steps)
    write_json(search_path("quick", "lora"), result)
    assert renewed() == set()
    assert renewed(["search@lora"]) == {"lora"}, "the search will run again"
    write_json(search_path("quick", "lora"), {**result, "best": 0.25})
    assert renewed() == {"lora"}
    cell = next(cell for cell in sweeping.grid(searched, ["lora"], renewed={"lora"}) if cell.name == "lora")
    assert sweeping.pending_cells([cell], []) == ["lora"]
    assert "--force" in sweeping.cell_command(searched, Path("dvc.yaml"), cell)


def test_pending_are_changed_cells_and_those_behind_them():
    assert sweeping.pending_cells(CELLS, []) == []
    assert sweeping.pending_cells(CELLS, ["report"]) == ["report"]
    assert sweeping.pending_cells(CELLS, ["finetune@one"]) == ["one", "report"]
    assert sweeping.pending_cells(CELLS, ["prepare@t"]) == ["prepare@t", "one", "three", "report"]


def test_commands_name_the_profile_of_a_linked_dvc_file():
    own = sweeping.dvc_command(Path("dvc.yaml"), ["score@lora"])
    assert own == [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", "score@lora"]
    other = sweeping.dvc_command(Path("pipelines/cpu/dvc.yaml"), ["finetune@a", "score@a"])
    assert other[-2:] == ["pipelines/cpu/dvc.yaml:finetune@a", "pipelines/cpu/dvc.yaml:score@a"]


def test_the_command_is_one_that_dvc_understands():
    from dvc.cli import parse_args

    parsed = parse_args(sweeping.dvc_command(Path("dvc.yaml"), ["finetune@lora", "score@lora"])[3:])
    assert parsed.targets == ["finetune@lora", "score@lora"]
    assert parsed.wait_for_lock
    assert parsed.single_item


@pytest.fixture
def unreachable(monkeypatch, tmp_path):
    """No mirror and an empty cache: the SQuAD subset cannot be had."""
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path / "cache"))


def test_a_task_that_cannot_be_had_is_left_out_unless_it_was_prepared(unreachable, tmp_path, project_root):
    settings = load_settings(project_root / "pipelines/cpu/params.yaml")
    absent = unobtainable_tasks(settings, tmp_path)
    assert list(absent) == ["squad-part"]
    names = [cell.name for cell in sweeping.grid(settings, list(settings.experiments), absent)]
    assert not [name for name in names if "squad-part" in name]
    assert "stsb-lora" in names
    write_json(tmp_path / "prepared" / "cpu" / "squad-part" / "corpus.json", {})
    assert unobtainable_tasks(settings, tmp_path) == {}


# --- the command


@pytest.fixture
def command(monkeypatch, tmp_path, project_root, unreachable):
    """The command in a copy of the three params.yaml, on a fake engine that remembers which stages are done."""
    for file in PROFILES:
        for name in (file, str(Path(file).with_name("dvc.yaml"))):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text((project_root / name).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweeping, "POLL_SECONDS", 0.0)
    (tmp_path / "logs").mkdir()
    engine = FakeEngine(tmp_path / "logs")
    monkeypatch.setattr(sweeping, "LocalEngine", lambda command, logs, gpus: engine)

    class Everything(set):
        """Every stage that is not done counts as changed."""

        def __contains__(self, stage):
            return stage not in engine.done

    monkeypatch.setattr(sweeping, "changed_stages", lambda file: Everything())
    app = typer.Typer()
    app.callback()(lambda: None)
    sweeping.register(app)
    return SimpleNamespace(engine=engine, run=lambda *arguments: CliRunner().invoke(app, ["sweep", *arguments]))


def test_an_interrupted_sweep_goes_on_where_it_stopped(command):
    """SIGTERM as the third cell starts: it is stopped; the next start runs it and what was pending, nothing else."""
    engine = command.engine
    engine.polls["full"] = 99
    engine.on_start = lambda cell: os.kill(os.getpid(), signal.SIGTERM) if cell.name == "full" else None
    first = command.run("--only", "full", "--only", "frozen", "--jobs", "1")
    assert first.exit_code == 128 + signal.SIGTERM
    assert engine.stopped == ["full"]
    assert "stopped by SIGTERM; run the same command again to continue" in first.output
    assert engine.started == ["prepare@microworld-e2e", "pretrain@microworld-gpt2", "full"]
    engine.polls["full"], engine.on_start, before = 1, None, len(engine.started)
    second = command.run("--only", "full", "--only", "frozen", "--jobs", "1")
    assert second.exit_code == 0
    assert engine.started[before:] == ["full", "frozen"]
    third = command.run("--only", "full", "--only", "frozen")
    assert third.exit_code == 0
    assert "all 4 cells are up to date" in third.output
    assert len(engine.started) == before + 2


def test_the_signal_handlers_are_put_back(command):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    command.run("--only", "frozen")
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_a_failure_is_an_exit_code_of_1_and_the_rest_runs(command):
    command.engine.status["full"] = 1
    result = command.run()
    assert result.exit_code == 1
    assert "failed: full: error: full is ill" in result.output
    assert {"frozen", "qa-lora", "report"} <= set(command.engine.started)


@pytest.mark.parametrize(("options", "made"), [([], True), (["--no-report"], False), (["--only", "frozen"], False)])
def test_the_report_is_made_unless_a_part_is_asked_for(command, options, made):
    assert command.run(*options).exit_code == 0
    assert ("report" in command.engine.started) is made


def test_the_task_left_out_is_said_and_the_report_made(command):
    result = command.run("--profile", "cpu")
    assert result.exit_code == 0
    assert "left out: squad-part" in result.output
    assert "squad-v1-train-subset.jsonl" in result.output
    assert not [name for name in command.engine.started if "squad-part" in name]
    assert {"stsb-lora", "report"} <= set(command.engine.started)


def test_a_dry_run_lists_the_cells_in_order_and_starts_none(command):
    command.engine.done.update({"prepare@sentiment", "pretrain@microworld-deberta"})
    command.engine.done.update({f"{stage}@sentiment-lora" for stage in sweeping.STAGES})
    result = command.run("--only", "sentiment-lora", "--only", "qa-lora", "--dry-run", "--json")
    assert [tuple(json.loads(line).values()) for line in result.stdout.splitlines()] == [
        ("prepare@sentiment", "done"),
        ("pretrain@microworld-deberta", "done"),
        ("sentiment-lora", "done"),
        ("prepare@qa", "pending"),
        ("qa-lora", "pending"),
    ]
    plain = command.run("--profile", "cpu", "--only", "squad-part-lora", "--dry-run").output.splitlines()
    assert [line.split() for line in plain[:2]] == [
        ["left", "out", "prepare@squad-part"],
        ["left", "out", "squad-part-lora"],
    ]
    assert command.engine.started == []


def test_json_events_are_lines_of_standard_output(command):
    command.engine.status["frozen"] = 3
    result = command.run("--only", "frozen", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(event["cell"], event["state"]) for event in events if event["cell"] == "frozen"] == [
        ("frozen", "running"), ("frozen", "failed"),
    ]  # fmt: skip
    assert events[-1]["error"] == "error: frozen is ill"
    assert events[-1]["seconds"] >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "qick"], "--profile 'qick': no such profile; valid profiles: quick, cpu, paper"),
        (["--profile", ""], "--profile '': no such profile; valid profiles: quick, cpu, paper"),
        (["--profile", "cpu", "--params", "params.yaml"], "params.yaml: profile is quick, not cpu"),
        (["--params", "copy.yaml"], "copy.yaml: params_file is params.yaml"),
        (["--only", "nope"], "--only nope"),
    ],
)
def test_wrong_options_are_errors_before_any_work(command, arguments, message):
    Path("copy.yaml").write_text(Path("params.yaml").read_text())
    result = command.run(*arguments)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert command.engine.started == []


def test_the_command_needs_no_heavy_package(project_root):
    program = (
        "import sys, pipelines.commands.sweep, pipelines.commands.corpus_readiness, pipelines.shared.settings\n"
        "print([name for name in ('torch', 'transformers', 'pandas', 'numpy', 'dvc') if name in sys.modules])"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=project_root)
    assert outcome.stdout.strip() == "[]", outcome.stderr


# --- the local engine


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


GRANDCHILD = """
import os, pathlib, signal, sys, time
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
aside = pathlib.Path(sys.argv[1] + ".part")
aside.write_text(str(os.getpid()))
aside.rename(sys.argv[1])
time.sleep(600)
"""


CHILD = """
import subprocess, sys
subprocess.run([sys.executable, "-c", *sys.argv[1:]])
"""


RUNNER = """
import sys
from pathlib import Path
import pipelines.commands.sweep as sweeping
sweeping.GRACE_SECONDS = 1.0
child, grandchild, folder, manner, *names = sys.argv[1:]
def command(cell):
    return [sys.executable, "-c", child, grandchild, f"{folder}/{cell.name}.pid", manner]
cells = [sweeping.Cell(name, (name,)) for name in names]
engine = sweeping.LocalEngine(command, Path(folder) / "logs")
view = sweeping.PlainLines()
run = sweeping.Sweep(cells, names, engine, 2, view)
with sweeping.signals_noted(run):
    run.run()
sys.exit(sweeping.finish(run, view))
"""


@pytest.mark.slow
@pytest.mark.parametrize("manner", ["obedient", "stubborn"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_runner_ends_the_grandchildren(tmp_path, project_root, manner, number):
    """Each cell's process does not pass signals on, as DVC does not: what it started has to end all the same."""
    arguments = [CHILD, GRANDCHILD, str(tmp_path), manner, "one", "two"]
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, *arguments],
        cwd=project_root,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a test run in the background ignores SIGINT
    )
    files = [tmp_path / "one.pid", tmp_path / "two.pid"]
    pids = []
    try:
        wait_for(lambda: all(file.exists() for file in files))
        pids = [int(file.read_text()) for file in files]
        assert all(alive(pid) for pid in pids)
        runner.send_signal(number)
        said, _ = runner.communicate(timeout=60)
        wait_for(lambda: not any(alive(pid) for pid in pids))
    finally:
        runner.kill()
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)
    assert runner.returncode == 128 + number
    assert "run the same command again to continue" in said
    assert "stopped   one" in said


WRITER = """
import pathlib, sys, time
from dvc.lock import make_lock
folder = pathlib.Path(sys.argv[2]).parent
with make_lock(".dvc/tmp/lock"):
    (folder / "dvc.lock").write_text("half")
    pathlib.Path(sys.argv[2]).touch()
    time.sleep(2)
    (folder / "dvc.lock").write_text("whole")
time.sleep(600)
"""


@pytest.mark.slow
def test_a_cell_is_not_stopped_while_it_writes_the_lock_file(tmp_path, project_root):
    """DVC writes dvc.lock in place under its own lock: whoever kills it then loses the other stages' entries."""
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, WRITER, "", str(tmp_path), "", "one"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(project_root)},
    )
    try:
        wait_for((tmp_path / "one.pid").exists)
        runner.send_signal(signal.SIGTERM)
        runner.wait(timeout=60)
    finally:
        runner.kill()
    assert (tmp_path / "dvc.lock").read_text() == "whole"
    assert runner.returncode == 128 + signal.SIGTERM


def test_a_cell_reports_through_its_files(tmp_path):
    """The stage comes from the log of `dvc repro`, the step from the file that the stage writes."""
    program = (
        "import signal, sys\n"
        "from replication.training.progress import progress_bar\n"
        "print(\"Running stage 'pipelines/cpu/dvc.yaml:finetune@lora':\", flush=True)\n"
        "with progress_bar('fine-tune lora, seed 18', 5, completed=2):\n"
        "    sys.stdin.read() or open(sys.argv[1], 'w').close()\n"
        "    signal.pause()\n"
    )
    engine = LocalEngine(lambda cell: [sys.executable, "-c", program, str(tmp_path / "ready")], tmp_path / "logs")
    os.mkfifo(tmp_path / "ready")
    cell = engine.start(Cell("lora", ("finetune@lora",)))
    try:
        (tmp_path / "ready").read_bytes()  # returns when the cell has opened and closed the other end
        progress = cell.progress()
        assert (progress["stage"], progress["step"], progress["total"]) == ("finetune", 2, 5)
        assert cell.poll() is None
    finally:
        cell.stop()
    assert cell.poll() == -signal.SIGTERM
    assert not cell.progress_file.exists()
    assert "fine-tune lora" not in cell.log.read_text()


def test_a_stage_finds_this_python_first(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    environment = sweeping.cell_environment(tmp_path / "file.json")
    assert environment["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/nowhere"]
    assert environment["OMP_NUM_THREADS"] == "7"
    assert environment["REPLICATION_PROGRESS_FILE"] == str(tmp_path / "file.json")


def test_cells_that_run_at_once_see_different_gpus(tmp_path):
    """A GPU is free again when its cell has ended; without GPUs the variable is left alone."""
    show = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"]
    engine = LocalEngine(lambda cell: show, tmp_path / "logs", ("3", "5"))
    first = SimpleNamespace(poll=lambda: None)
    engine.started.append(("3", first))
    cell = engine.start(Cell("a", ("a",)))
    assert cell.process.wait() == 0
    assert cell.log.read_text().strip() == "5"
    first.poll = lambda: 0
    assert engine._free_gpu() == "3"
    assert LocalEngine(lambda cell: show, tmp_path / "logs")._free_gpu() is None


def test_logs_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(ReplicationError, match=r"logs/one.log: cannot be written"):
        LocalEngine(lambda cell: ["true"], tmp_path / "logs").start(CELLS[2])


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            "a\nerror: data/x: no such file\nERROR: failed to reproduce 'x': failed to run\n",
            "error: data/x: no such file",
        ),
        ("ERROR: failed to reproduce 'x'\n\n", "ERROR: failed to reproduce 'x'"),
        ("", ""),
    ],
)
def test_the_telling_line_of_a_log(log, line):
    assert sweeping.last_error(log) == line


# --- commits


@pytest.fixture
def repository(tmp_path, monkeypatch, project_root):
    """A repository with results of two experiments, one of them committed, and a staged change of the user's."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "Tester")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "tester@example.org")
    subprocess.run(["git", "init", "--quiet"], check=True)
    files = {
        ".gitignore": "/runs/*/*/adapter/\n",
        "dvc.lock": "a: 1\n",
        "notes.txt": "mine\n",
        "runs/quick/lora/metrics.json": "{}\n",
    }
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", "start"], check=True)
    new = ["runs/quick/lora/predictions/seed-18.jsonl", "runs/quick/lora/adapter/seed-18/weights", "runs/quick/full/x"]
    new += ["gold/quick/microworld-e2e.jsonl", "gold/quick/qa.jsonl", "gold/cpu/microworld-e2e.jsonl"]
    for name in new:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("new\n")
    Path("dvc.lock").write_text("a: 2\n")
    Path("notes.txt").write_text("mine, staged\n")
    subprocess.run(["git", "add", "notes.txt"], check=True)
    return Commits(load_settings(project_root / "params.yaml"), Path("dvc.lock"), Recorded())


def git_lines(*arguments):
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_commit_holds_the_experiments_results_alone(repository):
    repository(Cell("lora", (), experiment="lora"))
    assert repository.view.events == [("lora", "committed", None)]
    assert git_lines("log", "-1", "--format=%s") == ["quick: lora"]
    assert git_lines("show", "--name-only", "--format=") == [
        "dvc.lock", "gold/quick/microworld-e2e.jsonl", "runs/quick/lora/predictions/seed-18.jsonl",
    ]  # fmt: skip
    assert git_lines("diff", "--cached", "--name-only") == ["notes.txt"]
    repository(Cell("lora", (), experiment="lora"))  # nothing has changed since
    assert len(git_lines("log", "--format=%s")) == 2
    assert len(repository.view.events) == 1


def test_a_commit_that_fails_is_reported_and_the_sweep_goes_on(repository, tmp_path):
    hook = Path(".git/hooks/pre-commit")
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    (tmp_path / "logs").mkdir()
    engine = FakeEngine(tmp_path / "logs")
    cells = [Cell(name, (name,), experiment=name) for name in ("lora", "frozen")]
    run = Sweep(cells, ["lora", "frozen"], engine, 1, Recorded(), repository, pause=lambda seconds: None)
    run.run()
    assert ("lora", "not committed", "git commit: not today") in repository.view.events
    assert run.states == {"lora": "done", "frozen": "done"}
    assert sweeping.finish(run, Recorded()) == 0


def test_only_finished_experiments_are_committed(tmp_path):
    committed = []
    engine = FakeEngine(tmp_path, status={"two": 1})
    swept(engine, after=lambda cell: committed.append(cell.name))
    assert sorted(committed) == ["one", "three"]
