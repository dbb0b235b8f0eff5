import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from functools import reduce
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
import yaml
from rich.markup import render
from typer.testing import CliRunner

import replication.cli as cli
from replication import terminal
from replication.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][cli.GROUP]
CHECKS = ("accept", "doctor", "preflight", "smoke", "verify")  # exit with 1 where they find something
SLOW = ("accept", "compare", "count-published", "export", "memory", "plan", "predict", "runs", "score", "smoke",
        "status", "sweep", "verify")  # fmt: skip
COMMANDS = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in ENTRIES]


@pytest.fixture
def app(monkeypatch):
    """The command line with the commands of pyproject.toml, installed again or not."""
    entries = {name: EntryPoint(name, value, cli.GROUP) for name, value in sorted(ENTRIES.items())}
    monkeypatch.setattr(cli.Commands, "entries", staticmethod(lambda: entries))
    monkeypatch.setenv("COLUMNS", "80")
    return cli.build_app()


@pytest.fixture
def run(app, monkeypatch):
    monkeypatch.chdir(ROOT)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def leaves(app, name):
    """(words, command) of a command, or of each command of a group."""
    command = typer.main.get_group(app).get_command(None, name)
    inner = getattr(command, "commands", None) or {}
    return [((name, key), value) for key, value in inner.items()] or [((name,), command)]


def test_every_command_is_listed_within_80_columns(run):
    result = run("--help")
    assert result.exit_code == 0
    assert set(ENTRIES) <= set(re.findall(r"^│ ([a-z-]+) ", result.output, flags=re.MULTILINE))
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize("name", ENTRIES)
def test_every_command_explains_itself_takes_json_and_has_examples(app, run, name):
    for words, command in leaves(app, name):
        text = run(*words, "--help").output
        assert max(map(len, text.splitlines())) <= 80
        assert "--json" in text, words
        shown = render(command.epilog).plain.splitlines()
        assert all(line.strip() in text for line in shown), "an example is broken: put a newline into it"
        examples = terminal.examples_in(command.epilog)
        assert any(line.split()[: len(words) + 1] == ["replicate", *words] for line in examples)
        assert text.count("replicate ") >= len(examples)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_help_work(app, run, name, tmp_path, monkeypatch):
    """On the repository as a clone has it; those that train first, in a clone. All give a sign of life meanwhile."""
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    signs = []

    @contextmanager
    def working(text):
        signs.append(text)
        yield signs.append

    monkeypatch.setattr(f"{ENTRIES[name].partition(':')[0]}.working", working)
    for words, command in leaves(app, name):
        examples = terminal.examples_in(command.epilog or "")
        if any(not line.startswith("replicate ") for line in examples):
            in_a_clone(examples, tmp_path)
            continue
        for line in examples:
            if words == ("memory", "full-scale"):
                line += f" --output {shutil.copy(ROOT / 'measurements/full_scale/memory.json', tmp_path)}"
            signs.clear()
            result = run(*shlex.split(line)[1:])
            assert signs, line
            assert result.exit_code in ((0, 1) if name in CHECKS else (0,)), (line, result.output, result.exception)
            assert isinstance(result.exception, SystemExit | None), line
            wide = [
                text
                for text in result.stdout.splitlines()
                if len(text) > 80 and not text.startswith(("Fix ", "problem ", "ok ", "logs and report: ", "/"))
            ]
            assert "--json" in line or not wide, line


def in_a_clone(lines, tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(clone)}
    for line in lines:
        done = subprocess.run(line, shell=True, cwd=clone, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stdout, done.stderr)


# --- documents


def commands_in_documents():
    """Every `replicate ...` in a code span or a code block of the documents."""
    found = []
    for path in [ROOT / "README.md", ROOT / "REPRODUCIBILITY.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for line in re.findall(r"(?:^ *|`|&& )(replicate [a-z][^`\n#]*)", path.read_text(), flags=re.MULTILINE):
            found.append(pytest.param(line.strip(), id=f"{path.name}: {line.strip()}"))
    return found


@pytest.mark.parametrize("line", commands_in_documents())
def test_the_documents_name_commands_and_options_that_exist(app, line):
    words = shlex.split(line.replace("...", ""))[1:]
    command = typer.main.get_group(app).get_command(None, words[0])
    assert command is not None, line
    if getattr(command, "commands", None) and len(words) > 1:
        command = command.commands[words[1]]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options | {"--help"}


def test_a_setting_that_the_documents_change_is_another_one_than_the_committed():
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    tried = []
    for path in (ROOT / "README.md", ROOT / "docs/pipeline.md"):
        tried += re.findall(r"dvc exp run -S '?(?:params\.yaml:)?([\w.-]+)=([\w.]+)", path.read_text())
    assert len(tried) == 2
    for name, value in tried:
        committed = reduce(lambda part, key: part[key], name.split("."), settings)
        assert committed != yaml.safe_load(value), name


# --- version, completion, exit codes


def test_version_and_completion_load_no_command(app):
    assert CliRunner().invoke(app, ["--version"]).output == "replicate 0.1.0\n"
    code = "import sys, replication.cli as cli; cli.build_app(); print(*({'torch', 'rich.table'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


def test_a_shell_completes_the_names_of_commands(app):
    asked = {"_REPLICATE_COMPLETE": "complete_bash", "COMP_WORDS": "replicate co", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], env=asked, prog_name="replicate")
    assert result.output.split() == ["compare", "count", "count-published"]


def test_a_misspelt_command_gets_a_suggestion_and_exit_code_2(run):
    result = run("comparre")
    assert result.exit_code == 2
    assert "Did you mean 'compare'" in result.output


@pytest.mark.parametrize(
    ("raised", "code", "shown"),
    [
        (ConfigError("settings.yaml: rank=[0]: must be at least 1"), 2, "rank=[0]: must"),
        (ValueError("odd"), 3, "odd"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/quick"), 2, "runs/quick: there is no space left"),
        (OSError(errno.EIO, "Input/output error"), 3, "Input/output"),
    ],
)
def test_an_expected_error_exits_with_2_and_a_fault_with_3(monkeypatch, capsys, raised, code, shown):
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise raised

    monkeypatch.setattr(cli, "build_app", lambda: lambda: app(standalone_mode=False, args=[]))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == code
    assert shown in capsys.readouterr().err


@pytest.mark.parametrize(("predictions", "closed", "code"), [("p.txt", "2>&-", 0), ("-", "<&-", 2)])
def test_a_closed_stream_is_no_fault(tmp_path, predictions, closed, code):
    for name in ("p.txt", "r.txt"):
        (tmp_path / name).write_text("Browns serves food.\n")
    command = f"-m replication.cli score e2e --no-java -p {predictions} -r r.txt --json {closed}"
    done = subprocess.run(
        ["sh", "-c", f"{shlex.quote(sys.executable)} {command}"], cwd=tmp_path, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == code
