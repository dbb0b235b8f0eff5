"""One process at a time works on a folder; a second start says who does, and changes nothing.

Whoever holds it discards what another configuration left.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from replication.errors import ReplicationError


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` for the block; the system releases it when the process ends, however it ends.

    ReplicationError names the holder where another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ReplicationError(f"{what}: {holder} works on it; wait until it has ended, or stop it") from None
        file.truncate(0)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        file.write(f"process {os.getpid()} on {platform.node()}, since {now},")
        file.flush()
        yield
        file.truncate(0)


def discard_others(folder: Path, keep: Collection[str], what: str, pattern: str = "*") -> None:
    """Delete the unfinished work in `folder` whose name, with the hash of its identity, is not in `keep`; say so."""
    for path in sorted(folder.glob(pattern)):
        if path.name not in keep:
            print(f"{what}: {path} discarded: made with other settings, data, code or versions", flush=True)
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
