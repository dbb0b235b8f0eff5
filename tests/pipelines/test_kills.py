"""SIGKILL at 30 random moments over all stages: each run again ends in the bytes of an undisturbed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_stage_killed_at_any_moment_ends_in_the_same_bytes(project_root, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(project_root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(project_root / "tests/pipelines/kills.py"), str(tmp_path / "home")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one for one in found if one["status"] or one["differing"] or one["hidden"]] == [], done.stderr
    assert done.returncode == 0, done.stderr
    assert len(found) == 30
    assert sum(one["killed"] for one in found) >= 24, "the others had ended before their moment came"
