"""Signals: exit code and message at once, or after the training step; the end of the DVC that started the stage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pipelines.shared import signals
from pipelines.shared.signals import between_steps, take
from replication.errors import Stopped

STAGE = """
import os, signal
from pipelines.shared.stage import run_stage
run_stage(lambda: os.kill(os.getpid(), signal.{name}))
"""
COMMAND = """
import os, signal
from types import SimpleNamespace
import replication.cli as cli
cli.build_app = lambda: lambda: os.kill(os.getpid(), signal.{name})
cli.main()
"""
PARENT = """
import os, subprocess, sys
stage = "import signal; from pipelines.shared import signals; signals.WATCH_SECONDS = 0.01; " \
        "from pipelines.shared.stage import run_stage; run_stage(lambda: (print('on', flush=True), signal.pause()))"
subprocess.Popen([sys.executable, "-c", stage], env={**os.environ, "DVC_STAGE": "finetune@lora"})
sys.stdin.read(1)  # until it is killed
"""


def default():  # a test run in the background ignores SIGINT
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("program", [STAGE, COMMAND], ids=["stage", "command"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_stage_and_a_command_with_its_exit_code_and_a_message(project_root, program, name):
    command = [sys.executable, "-c", program.format(name=name)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project_root, preexec_fn=default)
    assert done.returncode == 128 + getattr(signal, name)
    assert done.stderr == f"stopped by {name}; run the same command again to continue\n"


def test_a_signal_within_an_import_waits_for_its_end_since_libraries_swallow_it(project_root, tmp_path):
    (tmp_path / "part.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except BaseException:\n    print('swallowed')\nprint('whole', flush=True)\n"
    )
    program = (
        f"import signal, sys; sys.path.insert(0, {str(tmp_path)!r}); from pipelines.shared.stage import run_stage; "
        "run_stage(lambda: (__import__('part'), signal.pause()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=project_root, timeout=60)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "whole\n")
    assert done.stderr == "stopped by SIGTERM; run the same command again to continue\n"


@pytest.mark.parametrize("ignored", [True, False])
def test_what_nohup_ignores_stays_ignored(monkeypatch, ignored):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    others = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.delenv(signals.DVC_VARIABLE, raising=False)
    try:
        signals.obey()
        handler = signal.getsignal(signal.SIGHUP)
        assert handler == signal.SIG_IGN if ignored else handler.__wrapped__ is take
    finally:
        for number, handler in {**others, signal.SIGHUP: before}.items():
            signal.signal(number, handler)


def train(numbers, asked=None):
    """A training that gets these signals, one a step, and looks for them after each step while `asked` is a list."""
    with between_steps() as stop:
        for number in numbers:
            take(number)
            if asked is not None:
                asked.append(stop())


def test_the_first_signal_of_a_training_waits_for_the_step_and_the_second_does_not(capfd):
    asked = []
    with pytest.raises(Stopped) as caught:
        train([signal.SIGTERM, signal.SIGINT], asked)
    assert asked == [signal.SIGTERM]
    assert caught.value.number == signal.SIGINT
    assert capfd.readouterr().err == "SIGTERM: stopping after this step, with a checkpoint; once more: at once\n"


def test_a_signal_in_the_last_step_stops_after_it_and_one_outside_at_once():
    with pytest.raises(Stopped):
        train([signal.SIGTERM])  # the loop asks no more
    with pytest.raises(Stopped):
        take(signal.SIGTERM)
    train([])
    with between_steps() as stop:
        assert stop() == 0


def test_several_processes_do_not_wait(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    asked = []
    with between_steps() as stop:
        assert stop is None
    with pytest.raises(Stopped):
        train([signal.SIGTERM], asked)
    assert asked == []


def test_a_stage_ends_with_the_dvc_that_started_it(project_root):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=project_root, **pipes) as dvc:
        assert dvc.stdout.readline() == "on\n"
        os.kill(dvc.pid, signal.SIGKILL)
        assert dvc.stderr.read() == "stopped by SIGTERM; run the same command again to continue\n"  # until both ended
