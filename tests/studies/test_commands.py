"""`replicate count-published`: one JSON object, a readable list, a file written as documented."""

import json

import pytest
import typer
from typer.testing import CliRunner

from replication.fileio import read_json
from studies import commands as count_published


@pytest.fixture
def run(monkeypatch):
    content = {
        "schema_version": 1,
        "cells": [
            {"id": "t/a", "count": 393_216, "how": "counted"},
            {"id": "t/b", "count": None, "how": "not counted"},
        ],
        "solo_grid": [{"backbone": "gpt2-large", "skip_length": 6, "solo": 41, "lora": 100, "full": 1000}],
    }
    monkeypatch.setattr(count_published, "published_counts", lambda: content)
    app = typer.Typer()
    app.callback()(lambda: None)
    count_published.register(app)

    def call(*arguments):
        result = CliRunner().invoke(app, ["count-published", *arguments])
        assert result.exception is None, result.exception
        return result.stdout, content

    return call


def test_json_is_one_object(run):
    out, content = run("--json")
    assert json.loads(out) == content


def test_text_names_every_cell_and_the_share(run):
    out, _ = run()
    assert "393,216" in out
    assert "gpt2-large, k=6: 41, 59.0 % fewer than LoRA" in out
    assert out.splitlines()[1].split() == ["t/b", "-", "not", "counted"]


def test_the_file_is_written(run, tmp_path):
    path = tmp_path / "measurements" / "parameters.json"
    _, content = run("--output", str(path))
    assert read_json(path) == content
