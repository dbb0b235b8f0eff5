"""The GPUs that a sweep gives its cells, one each."""

from __future__ import annotations

import os
import shutil
import subprocess

GPUS_VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> tuple[str, ...]:
    """The NVIDIA GPUs that a process may use, as CUDA_VISIBLE_DEVICES names them; imports no torch."""
    if GPUS_VARIABLE in os.environ:
        return tuple(name for name in map(str.strip, os.environ[GPUS_VARIABLE].split(",")) if name not in ("", "-1"))
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    asked = [command, "--query-gpu=uuid", "--format=csv,noheader"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    return tuple(answer.stdout.split()) if answer.returncode == 0 else ()
