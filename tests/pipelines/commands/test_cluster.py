"""A sweep on a Ray cluster: what it asks for, and a node that dies in the middle."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from pipelines.commands import cluster
from pipelines.commands.sweep import Cell, LocalEngine, PlainLines, Sweep, dvc_command, sweep
from replication.errors import ConfigError

STEP = """
import os, sys, time
from pathlib import Path
name, (checkpoint, started, held) = sys.argv[1], [Path(f"{kind}-{sys.argv[1]}") for kind in ("at", "started", "held")]
done = int(checkpoint.read_text()) if checkpoint.exists() else 0
with started.open("a") as file:
    print(done, file=file)
for step in range(done, 5):
    print("step", step, flush=True)
    if step == 3 and Path("hold").exists():
        held.write_text(str(os.getpid()))
        while Path("hold").exists():
            time.sleep(0.05)
    checkpoint.write_text(str(step + 1))
Path(f"{name}.txt").write_text(f"{name} is whole")
"""
STAGES = {
    "step": {
        "foreach": ["one", "two", "three"],
        "do": {"cmd": "python step.py ${item}", "deps": ["step.py"], "outs": ["${item}.txt"]},
    }
}
NAMES = [f"step@{name}" for name in STAGES["step"]["foreach"]]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Three stages of DVC that count to five, each from its checkpoint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir("repository")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    Path("step.py").write_text(STEP)
    return Path.cwd()


@pytest.fixture
def two_nodes(monkeypatch):
    """A head and another node, one processor each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield nodes, nodes.add_node(num_cpus=1)
    nodes.shutdown()


def cells_run(names, engine, jobs, pause=time.sleep):
    cells = [Cell(name, (name,)) for name in NAMES]
    run = Sweep(cells, names, engine, jobs, PlainLines(), pause=pause)
    run.run()
    return run


@pytest.mark.slow
def test_a_node_that_dies_costs_a_cell_which_the_next_run_continues(repository, two_nodes, project_root, monkeypatch):
    nodes, victim = two_nodes
    serial = shutil.copytree(repository, repository.with_name("serial"))
    monkeypatch.setenv("PYTHONPATH", str(project_root))
    reached = cluster.connect(nodes.address, 1, Path("logs"))
    assert reached.places == 2
    raylet = victim.all_processes["raylet"][0].process.pid
    Path("hold").touch()
    lost = []

    def kill_one(seconds):
        """Once two stages wait in mid-run: end the node of one of them."""
        held = [path for path in Path().glob("held-*") if path.read_text()]
        if len(held) == 2 and not lost:
            process = next(
                found
                for path in held
                for found in [psutil.Process(int(path.read_text()))]
                if raylet in [parent.pid for parent in found.parents()]
            )
            lost.append((process, process.cmdline()[-1]))
            nodes.remove_node(victim, allow_graceful=False)
            psutil.wait_procs([process], timeout=60)
            Path("hold").unlink()
        time.sleep(seconds)

    def engine(reached):
        return LocalEngine(
            lambda cell: dvc_command(Path("dvc.yaml"), cell.stages), Path("logs"), (), reached.environment
        )

    first = cells_run(NAMES, engine(reached), reached.places, kill_one)
    [(process, name)] = lost
    assert not process.is_running(), "what ran on the node has died with it"
    [failure] = first.failures
    assert failure.cell == f"step@{name}"
    assert "Ray lost this stage, run the sweep again to go on" in failure.error
    assert [first.states[other] for other in NAMES if other != failure.cell] == ["done", "done"]

    reached = cluster.connect(nodes.address, 1, Path("logs"))
    second = cells_run([failure.cell], engine(reached), reached.places)
    assert second.states == dict.fromkeys(NAMES, "done")
    assert Path(f"started-{name}").read_text().split() == ["0", "3"], "it went on from its checkpoint"
    assert "step 4" in Path(f"logs/{failure.cell}.log").read_text()

    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=serial, check=True)
    ours, theirs = (yaml.safe_load((folder / "dvc.lock").read_text()) for folder in (repository, serial))
    assert ours == theirs
    shown = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, check=True)
    assert json.loads(shown.stdout) == {}


@pytest.mark.slow
def test_a_stage_that_is_stopped_ends_on_its_node(repository, two_nodes, project_root, monkeypatch):
    nodes, _ = two_nodes
    monkeypatch.setenv("PYTHONPATH", str(project_root))
    reached = cluster.connect(nodes.address, 1, Path("logs"))
    Path("hold").touch()
    engine = LocalEngine(lambda cell: ["python", "step.py", "one"], Path("logs"), (), reached.environment)
    cell = engine.start(Cell("one", ("one",)))
    held = Path("held-one")
    while not (held.exists() and held.read_text()):
        assert cell.poll() is None, cell.log.read_text()
        with suppress(subprocess.TimeoutExpired):
            cell.process.wait(timeout=0.1)
    process = psutil.Process(int(held.read_text()))
    assert cell.log.read_text().startswith("on "), "the stage runs on a node"
    cell.stop()
    gone, _ = psutil.wait_procs([process], timeout=60)
    assert gone == [process]


# --- without a cluster


def test_without_ray_or_a_cluster_the_engine_is_refused_with_the_fix(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="--address names a Ray cluster: use it with --engine ray"):
        sweep(address="somewhere")
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"ray is not installed; to install it run: pip install -c constraints.txt ray"
    ):
        cluster.connect(None, 1, tmp_path)


class Ray:
    """The part of Ray that looks at a cluster."""

    def __init__(self, resources):
        self.resources = resources

    def init(self, **options):
        assert options["address"] == "there"

    def cluster_resources(self):
        return self.resources

    def shutdown(self):
        pass


@pytest.mark.parametrize(
    ("resources", "threads", "places", "gpus"),
    [({"CPU": 7.0}, 2, 3, 0), ({"CPU": 64.0, "GPU": 4.0}, 8, 4, 1)],
)
def test_a_cell_takes_the_threads_of_the_profile_and_a_gpu_where_there_are_any(
    resources, threads, places, gpus, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "ray", Ray(resources))
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: name)
    reached = cluster.connect("there", threads, tmp_path)
    assert reached.places == places
    task = json.loads(reached.environment[cluster.VARIABLE])
    assert (task["address"], task["num_cpus"], task["num_gpus"]) == ("there", threads, gpus)
    assert reached.environment["PATH"].split(os.pathsep)[0] == task["launcher"] == str(tmp_path / "ray")
    assert os.access(tmp_path / "ray" / "python", os.X_OK)


@pytest.mark.parametrize("address", ["127.0.0.1:{free}", "ray://127.0.0.1:{free}", "127.0.0.1:99999", "[::1]:{free}"])
def test_an_address_where_nobody_answers_is_refused_before_ray_tries_it_for_minutes(address, monkeypatch, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = address.format(free=taken.getsockname()[1])
        monkeypatch.setitem(sys.modules, "ray", Ray({}))
        monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: name)
        with pytest.raises(ConfigError, match=f"no cluster answers at {re.escape(address)}") as caught:
            cluster.connect(address, 1, tmp_path)
    assert "`ray start --head`, or name it with --address" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_too_small_for_a_stage_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", Ray({"CPU": 4.0}))
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError, match=r"has 4 processors and a stage takes 8 \(`threads` in params.yaml\)"):
        cluster.connect("there", 8, tmp_path)


def test_on_the_node_a_command_gives_its_lines_and_its_exit_status(tmp_path):
    program = (
        "import os, sys; print(os.getcwd(), os.environ['GIVEN'], flush=True); print('no', file=sys.stderr); sys.exit(3)"
    )
    where, *lines, status = cluster.run([sys.executable, "-c", program], str(tmp_path), {"GIVEN": "yes"})
    assert where.startswith(b"on ")
    assert (lines, status) == ([f"{tmp_path} yes\n".encode(), b"no\n"], 3)
