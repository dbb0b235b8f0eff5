import json

import pytest
import typer
from typer.testing import CliRunner

import pipelines.commands.report as report
from replication.errors import DataError


@pytest.fixture
def run(monkeypatch, project_root):
    monkeypatch.chdir(project_root)
    app = typer.Typer()
    report.register(app)
    app.command("other")(lambda: None)  # with two commands typer keeps their names
    return lambda *arguments: CliRunner().invoke(app, ["report", *arguments])


def test_names_the_page_and_opens_it(run, monkeypatch, project_root):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert run("--profile", "cpu").output == "reports/cpu/index.html\n"
    assert not opened
    assert json.loads(run("--open", "--json").stdout) == {"profile": "quick", "page": "reports/quick/index.html"}
    assert opened == [(project_root / "reports/quick/index.html").as_uri()]


def test_what_cannot_be_shown_says_what_to_do(run, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    assert "open the file by hand" in str(run("--open").exception)
    absent = run("--profile", "paper").exception
    assert isinstance(absent, DataError)
    assert "`replicate report --profile paper --build` makes it" in str(absent)


def test_build_passes_what_the_stage_passes(run, monkeypatch):
    passed = {}
    monkeypatch.setattr("analysis.show.report.build_report", lambda **named: passed.update(named))
    assert run("--build").exit_code == 0
    assert passed["profile"] == "quick"
    assert "lora" in passed["experiments"]
