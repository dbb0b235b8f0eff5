"""How a stage program ends."""

from __future__ import annotations

import sys

import pytest

from pipelines.shared.stage import DryRun, Params, run_stage, say
from replication.errors import ConfigError


def main(params: Params, dry_run: DryRun = False) -> None:
    """A stage."""
    say(f"{params}, {dry_run}")
    if not dry_run:
        raise ConfigError("params.yaml: tasks.x: unknown")


def ended(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    with pytest.raises(SystemExit) as end:
        run_stage(main)
    return end.value.code or 0


def test_an_expected_error_is_one_line_and_exit_code_2(monkeypatch, capsys):
    assert ended(monkeypatch, "--params", "p.yaml") == 2
    said = capsys.readouterr()
    assert said.err == "error: params.yaml: tasks.x: unknown\n"
    assert said.out == "p.yaml, False\n"


def test_control_characters_of_names_and_files_do_not_reach_the_terminal(monkeypatch, capsys):
    def hostile(params: Params) -> None:
        say(f"reading {params}")
        raise ConfigError(f"{params}: tasks.a\x1b[2Jb: unknown")

    monkeypatch.setattr(sys, "argv", ["stage", "--params", "p\x1b[31m.yaml"])
    with pytest.raises(SystemExit):
        run_stage(hostile)
    said = capsys.readouterr()
    assert said.out == "reading p\ufffd[31m.yaml\n"
    assert said.err == "error: p\ufffd[31m.yaml: tasks.a\ufffd[2Jb: unknown\n"


def test_a_dry_run_ends_well_and_a_fault_is_not_swallowed(monkeypatch, capsys):
    assert ended(monkeypatch, "--params", "p.yaml", "--dry-run") == 0
    assert capsys.readouterr().out == "p.yaml, True\n"

    def broken(params: Params) -> None:
        raise KeyError("x")

    monkeypatch.setattr(sys, "argv", ["stage", "--params", "p.yaml"])
    with pytest.raises(KeyError):
        run_stage(broken)
