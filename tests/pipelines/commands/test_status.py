"""`replicate status`: the reasons in words, alike stages together, and what params.yaml no longer has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipelines.commands import sweep
from pipelines.commands.status import lines, locked_stages, reasons, register, without_experiment
from replication.errors import DataError

FOUND = {
    "finetune@lora": [{"changed deps": {"replication/training": "modified", "params.yaml": {"threads": "modified"}}}],
    "finetune@full": [{"changed deps": {"replication/training": "modified", "params.yaml": {"threads": "modified"}}}],
    "report": ["changed command", {"changed outs": {"reports/quick/pages": "deleted"}}],
}


@pytest.fixture
def command(monkeypatch, project_root):
    monkeypatch.chdir(project_root)
    monkeypatch.setattr(sweep, "status_of", lambda file: FOUND)
    monkeypatch.setattr("pipelines.commands.status.locked_stages", lambda file: set(FOUND))
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return lambda *arguments: CliRunner().invoke(app, ["status", *arguments])


def test_alike_stages_share_a_line(command):
    shown = command()
    assert shown.exit_code == 0, shown.output
    assert [line for line in shown.output.splitlines() if not line.startswith("comparing")] == [
        "quick: 3 stages are not up to date",
        "  finetune lora, full: modified replication/training, modified params.yaml:",
        "      threads",
        "  report: changed command, deleted reports/quick/pages",
    ]


def test_the_same_as_json(command):
    found = json.loads(command("--json").stdout)
    assert found["changed"] == {name: reasons(value) for name, value in FOUND.items()}
    assert found["removed"] == []


def test_a_stage_that_the_lock_lacks_is_named_as_that(command, monkeypatch):
    monkeypatch.setattr("pipelines.commands.status.locked_stages", lambda file: set(FOUND) - {"finetune@full"})
    found = json.loads(command("--json").stdout)["changed"]
    assert found["finetune@full"] == ["not in dvc.lock"]
    assert found["finetune@lora"] == reasons(FOUND["finetune@lora"])


def test_the_locked_stages_are_those_of_the_file_beside(tmp_path):
    assert locked_stages(tmp_path / "dvc.yaml") == set()
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  score@a:\n    cmd: b\n", encoding="utf-8")
    assert locked_stages(tmp_path / "dvc.yaml") == {"score@a"}


def test_a_run_whose_experiment_is_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("lora", "old", ".lora.x1"):
        (tmp_path / "runs/quick" / name).mkdir(parents=True)
    assert without_experiment("quick", {"lora": None}) == [Path("runs/quick/old")]
    assert without_experiment("cpu", {}) == []


@given(
    st.dictionaries(st.sampled_from([f"predict@e{n}" for n in range(9)]), st.lists(st.sampled_from("abc"), min_size=1))
)
def test_every_stage_is_counted_once(changes):
    shown = lines(changes)
    counted = sum(line.split(":")[0].count("e") - 1 for line in shown)  # "predict" has one
    more = sum(int(line.split(" and ")[1].split()[0]) for line in shown if " and " in line)
    assert counted - sum(" more" in line for line in shown) + more == len(changes)


def test_a_damaged_lock_is_named_with_the_fix(tmp_path):
    for content in ("", "<<<<<<< HEAD\nstages: {}\n", "- 1\n"):
        (tmp_path / "dvc.lock").write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=r"dvc\.lock: has no stages that can be read .*git checkout"):
            locked_stages(tmp_path / "dvc.yaml")


def test_only_what_belongs_to_a_stage_is_left_out_of_its_reasons():
    said = [
        "modified replication/methods/lora.py",
        "modified runs/quick/lora/adapter",
        "modified runs/quick/lora-2/adapter",
        "deleted gold/quick/lora.jsonl",
        "modified params.yaml: experiments.lora",
    ]
    assert lines({"finetune@lora": said}) == [
        "  finetune lora: modified replication/methods/lora.py, modified runs/quick/*/adapter, modified "
        "runs/quick/lora-2/adapter, deleted gold/quick/*.jsonl, modified params.yaml: experiments.*"
    ]
