"""Finding a Java that runs, and where pycocoevalcap keeps the official programs (jars)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from replication.errors import ReplicationError

JavaChoice = str | None | Literal["auto"]
"""A path of a `java` program, None for "score without Java", or "auto" for whatever `find_java` finds."""

_VERSION_SECONDS = 60


def find_java(environment: Mapping[str, str] | None = None) -> str | None:
    """Path of the first Java that starts: $JAVA_HOME/bin/java, then `java` on the PATH; None without one."""
    environment = os.environ if environment is None else environment
    home = environment.get("JAVA_HOME")
    candidates = [str(Path(home).absolute() / "bin" / "java")] if home else []
    on_path = shutil.which("java", path=environment.get("PATH", ""))
    if on_path:
        candidates.append(str(Path(on_path).absolute()))  # METEOR runs in another folder
    return next((path for path in candidates if _starts(path)), None)


def resolve_java(choice: JavaChoice) -> str | None:
    """Turn "auto" into a path or None; ReplicationError if an explicit path does not start."""
    if choice == "auto":
        return find_java()
    if choice is not None and not _starts(choice):
        raise ReplicationError(f"{choice}: this Java does not start; pass another, or install a Java runtime")
    return choice


@lru_cache(maxsize=8)
def _starts(path: str) -> bool:
    # macOS has a /usr/bin/java that only reports that Java is missing, so its existence is not enough.
    try:
        command = [path, "-version"]
        return subprocess.run(command, capture_output=True, timeout=_VERSION_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def java_environment() -> dict[str, str]:
    """Environment of the Java programs: a decimal point and English messages whatever the user's locale."""
    return {**os.environ, "LC_ALL": "C"}


def official_program(folder: str, jar: str) -> Path:
    """Path of a jar inside the installed pycocoevalcap; ReplicationError if it is not there."""
    spec = find_spec("pycocoevalcap")
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root) / folder / jar
        if path.is_file():
            return path
    raise ReplicationError(f"{folder}/{jar} of pycocoevalcap not found; run `pip install pycocoevalcap==1.2`")
