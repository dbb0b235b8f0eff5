from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipelines.shared.lock import held
from replication.errors import ReplicationError

HOLD = """
import sys
from pathlib import Path
from pipelines.shared.lock import held
with held(Path(sys.argv[1]), "x"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_start_names_the_holder_and_a_killed_one_leaves_no_lock(tmp_path):
    path = tmp_path / "checkpoints" / "lock"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(ReplicationError, match=f"quick/lora: process {other.pid} on .*works on it"),
            held(path, "quick/lora"),
        ):
            raise AssertionError("two processes hold it")
        other.kill()
    with held(path, "quick/lora"):
        assert f"process {os.getpid()} on" in path.read_text()
    assert path.read_text() == ""


def test_a_failure_inside_releases_it(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), held(tmp_path / "lock", "x"):
            raise ValueError("inside")
