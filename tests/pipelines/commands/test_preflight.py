"""`replicate preflight`: one line or object an experiment, exit code 1 if one would fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import pipelines.commands.preflight as command
import pipelines.shared.preflight as stage
from replication.fileio import read_json, write_json


@pytest.fixture
def replicate(small_home):
    app = typer.Typer()
    command.register(app)
    app.callback()(lambda: None)

    def run(*arguments):
        return CliRunner().invoke(app, ["preflight", *arguments])

    return run


def test_a_line_for_each_experiment_that_can_train(replicate):
    result = replicate()
    assert result.exit_code == 0, result.output
    assert result.output.count("ok      ") == 3
    assert "quick: 3 of 3 experiments can train" in result.output
    assert not Path("runs").exists()


def test_json_holds_what_was_found(replicate):
    result = replicate("--only", "*-weight-lora", "--only", "headlines-*", "--json")
    found = json.loads(result.stdout)
    assert [one["experiment"] for one in found] == ["headlines-lora", "sentiment-weight-lora"]
    assert found[0]["splits"]["dev"] == {"rows": 0, "examples": 0, "longest": 0, "truncated": 0, "odd": {}}
    assert all(one["adapter_bytes"] > 0 and one["problems"] == [] for one in found)


def test_a_problem_is_named_and_the_others_are_checked_all_the_same(replicate):
    path = Path("prepared/quick/headlines/corpus.json")
    write_json(path, {**read_json(path), "sha256": {"EdinburghNLP/xsum": "main"}})
    result = replicate("--params", "params.yaml")
    assert result.exit_code == 1
    named = "headlines-lora: runs/quick/headlines-lora/training/seed-18/record.json: corpus.sha256"
    assert f"problem {named}" in result.output
    assert "quick: 2 of 3 experiments can train" in result.output


def test_what_only_the_analysis_cannot_read_is_a_problem_too(replicate, monkeypatch):
    real = stage.write_outputs

    def without_adapters(experiment, model, folder):
        real(experiment, model, folder)
        content = read_json(folder / "selection.json")
        write_json(folder / "selection.json", {**content, "survivors": [99]})

    monkeypatch.setattr(stage, "write_outputs", without_adapters)
    result = replicate("--only", "sentiment-weight-lora")
    assert result.exit_code == 1
    assert "survivors: adapter 99" in result.output
