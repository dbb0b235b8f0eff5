"""Files that a command is told to write: refused before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from replication.errors import ConfigError


def check_output(option: str, path: Path | None) -> None:
    """ConfigError, naming the option, where `path` is a folder or lies in no folder that can be written to."""
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{option} {path}: that is a folder; name a file in it")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise ConfigError(f"{option} {path}: {parent} is a file, not a folder; name another place")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{option} {path}: no right to write into {parent}")
