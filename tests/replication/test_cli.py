from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

import replication.cli as cli
from replication.errors import ConfigError


def test_every_command_is_there_and_explains_itself():
    result = CliRunner().invoke(cli.build_app(), ["--help"])
    assert result.exit_code == 0
    for command in ("count", "doctor", "plan", "predict", "runs", "score"):
        assert command in result.output
        helped = CliRunner().invoke(cli.build_app(), [command, "--help"])
        assert helped.exit_code == 0, command
        assert "Usage" in helped.output


def test_expected_errors_print_their_message_and_exit_with_2(monkeypatch, capsys):
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise ConfigError("settings.yaml: rank=[0]: must be at least 1")

    monkeypatch.setattr(cli, "build_app", lambda: lambda: app(standalone_mode=False, args=[]))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "settings.yaml: rank=[0]: must be at least 1" in capsys.readouterr().err
