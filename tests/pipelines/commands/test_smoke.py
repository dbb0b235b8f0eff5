"""`replicate smoke`: which experiments run, what it writes where, and that it goes on past failures."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from pipelines.commands.smoke import MARK, Cell, Workers, as_dict, fresh_folder, kind_of, phases, skipped, table, unmet
from pipelines.commands.smoke_settings import Size
from pipelines.shared.settings import load_settings
from replication.errors import ConfigError

FAKE = """
import json, os, signal, sys
for line in sys.stdin:
    key = json.loads(line)["key"]
    if key == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if key == "crash":
        print("Fatal: no kernel", file=sys.stderr)
        sys.exit(3)
    error = "no such row" if key == "wrong" else None
    found = {"stage": error and "predict", "error": error, "fix": error and "add it", "seconds": 1.0,
             "cuda_bytes": 2_000_000_000}
    print(json.dumps(found), flush=True)
"""
"""A worker that answers by the key."""


@pytest.fixture(scope="module")
def paper(project_root):
    return load_settings(project_root / "pipelines/paper/params.yaml")


def run(folder, keys, jobs=2):
    told = []
    with Workers(folder, jobs, told.append, (sys.executable, "-c", FAKE)) as workers:
        found = workers.run([Cell("run", key) for key in keys])
    assert sorted(cell.key for cell in told) == sorted(keys)
    return {cell.key: cell for cell in found}


def test_one_experiment_of_each_kind_runs_and_the_others_are_checked(paper):
    sources, searches, experiments, report = phases(paper, list(paper.experiments))
    assert {cell.key for cell in experiments} == set(paper.experiments)
    runs = [cell.key for cell in experiments if cell.kind == "run"]
    assert len({kind_of(paper, key) for key in runs}) == len(runs)
    assert {kind_of(paper, key) for key in runs} == {kind_of(paper, key) for key in paper.experiments}
    tuners = {kind_of(paper, key)[3] for key in runs if paper.experiments[key].method == "peft_baselines"}
    assert {"adalora", "dora", "rslora", "loha", "lokr", "vera"} <= tuners
    names = {cell.name for cell in (*sources, *searches)}
    assert all(set(cell.needs) <= names for cell in experiments)
    assert {cell.key for cell in searches} == {paper.experiments[key].rate_from for key in runs} - {None}
    assert [cell.kind for cell in experiments] == sorted((cell.kind for cell in experiments), reverse=True)
    assert [cell.kind for cell in report] == ["report"]


def test_a_chosen_experiment_needs_only_its_own_sources(paper):
    sources, searches, experiments, _ = phases(paper, ["rte-lora"])
    assert [cell.name for cell in sources] == ["pretrain@deberta-v3-base", "prepare@rte"]
    assert searches == []
    assert [(cell.kind, cell.key) for cell in experiments] == [("run", "rte-lora")]


def test_what_a_failed_source_feeds_is_skipped_and_says_why(paper):
    sources, _, (cell,), _ = phases(paper, ["rte-lora"])
    done = {source.name: source for source in sources}
    assert unmet(cell, done) == []
    done["prepare@rte"] = replace(done["prepare@rte"], state="failed")
    assert skipped(cell, done).error == "prepare@rte failed"


@pytest.mark.parametrize("jobs", [1, 3])
def test_it_goes_on_past_errors_and_deaths(tmp_path, jobs):
    found = run(tmp_path, ["good", "wrong", "killed", "fine", "crash", "last"], jobs)
    assert [key for key, cell in found.items() if cell.state == "ok"] == ["good", "fine", "last"]
    assert (found["wrong"].stage, found["wrong"].error, found["wrong"].fix) == ("predict", "no such row", "add it")
    assert found["killed"].error == "killed by SIGKILL"
    assert "memory of the machine" in found["killed"].fix
    assert found["crash"].error.startswith("exit status 3")
    assert "logs/worker-" in found["crash"].fix


def test_a_process_stays_for_the_next_cells(tmp_path):
    with Workers(tmp_path, 1, lambda cell: None, (sys.executable, "-c", FAKE)) as workers:
        for key in ("one", "wrong", "two"):
            workers.run([Cell("run", key)])
        assert len(list((tmp_path / "logs").iterdir())) == 1


def test_weights_that_are_here_are_used(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "weights/gpt2").mkdir(parents=True, exist_ok=True)
        (tmp_path / "weights/gpt2" / name).touch()
    (cell,) = Workers(tmp_path, 1, pytest.fail, ("false",)).run([Cell("pretrain", "gpt2")])
    assert cell.state == "ok"


def test_the_table_and_the_json_name_each_failure_with_its_fix(tmp_path, paper):
    cells = list(run(tmp_path, ["good", "wrong"]).values())
    shown = table(paper, tmp_path, cells)
    assert "run@wrong: no such row\n  fix: add it" in shown
    assert "2.00 GB on the GPU" in shown
    assert "1 ok, 1 failed" in shown
    assert "nothing in it is a result" in shown
    found = as_dict(paper, Size(5, 1, 8), tmp_path, cells)["cells"]
    assert [(cell["key"], cell["state"], cell["fix"]) for cell in found] == [("good", "ok", None),
                                                                             ("wrong", "failed", "add it")]  # fmt: skip


def test_only_a_folder_of_its_own_is_emptied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paper_results").mkdir()
    (tmp_path / "paper_results" / "file").touch()
    output, weights = tmp_path / "smoke", tmp_path / "weights"
    fresh_folder(output, weights)
    (output / "runs").mkdir()
    (weights / "model").mkdir()
    fresh_folder(output, weights)
    assert sorted(path.name for path in output.iterdir()) == ["paper_results", MARK, "weights"]
    assert (weights / "model").is_dir()
    assert (tmp_path / "paper_results" / "file").exists()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "result").touch()
    with pytest.raises(ConfigError, match="no smoke run wrote it"):
        fresh_folder(tmp_path / "runs", weights)
    assert (tmp_path / "runs" / "result").exists()
