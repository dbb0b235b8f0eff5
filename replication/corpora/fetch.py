"""Public files by sha256: from the mirror folder, the cache, or their URL; never unverified bytes.

`REPLICATION_MIRROR` names a folder searched first, by content; `REPLICATION_CACHE` the folder downloads are
kept in (default ~/.cache/peft-replication). A download that is cut off, stalls or meets a busy server is tried again
and resumed; the file gets its name only after its bytes were verified.
"""

from __future__ import annotations

import http.client
import os
import re
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from replication.errors import ConfigError, DataError, printable
from replication.fileio import PARTIAL, json_value, sha256_file

MIRROR_VARIABLE = "REPLICATION_MIRROR"
CACHE_VARIABLE = "REPLICATION_CACHE"
TIMEOUT_SECONDS = 30.0
WAITS = (1.0, 2.0, 4.0)
"""Seconds before the second, third and fourth attempt at a download; each goes on where the one before was cut off."""
BUSY = (408, 429, 500, 502, 503, 504)
"""Answers of a server that may give another one soon."""

# (bytes received so far, total bytes or None if unknown)
Progress = Callable[[int, int | None], None]

Result = TypeVar("Result")
_BLOCK = 1 << 16
_hashes: dict[tuple[str, int, int], str] = {}


def default_cache() -> Path:
    """Folder that downloads are kept in."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "peft-replication"


def cached_path(name: str, sha256: str, cache: str | Path | None = None) -> Path:
    """Where `fetch` keeps the file; it need not exist."""
    return Path(cache or default_cache()) / f"{sha256[:16]}-{name}"


def find_in_mirror(sha256: str, mirror: str | Path | None = None, size: int | None = None) -> Path | None:
    """A file below `mirror` (default: REPLICATION_MIRROR) whose bytes have this sha256, or None; no network.

    MANIFEST.json is followed first, only as a hint: every match is verified. `size` in bytes, if
    known, saves reading files that cannot match.
    """
    folder = _mirror_folder(mirror)
    if folder is None:
        return None
    for path in (*_manifest_hints(folder, sha256), *_files(folder)):
        if _matches(path, sha256, size):
            return path
    return None


def find_local(
    name: str,
    sha256: str,
    mirror: str | Path | None = None,
    cache: str | Path | None = None,
    size: int | None = None,
) -> Path | None:
    """The verified file from the mirror or the cache, or None; no network."""
    found = find_in_mirror(sha256, mirror, size)
    if found is None and _matches(cached_path(name, sha256, cache), sha256, size):
        found = cached_path(name, sha256, cache)
    return found


def fetch(
    name: str,
    sha256: str,
    url: str,
    mirror: str | Path | None = None,
    cache: str | Path | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Path of a file with exactly this sha256: mirror, then cache, then downloaded from `url` into the cache.

    `progress(received, total)` is called during a download. DataError names the URL, the problem and how to
    fix it, and any file of this name in the mirror or the cache whose bytes differ; no partial file is left.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ConfigError(f"sha256 of {name} is {sha256!r}; it must be 64 lower-case hexadecimal digits")
    if not name or Path(name).name != name:
        raise ConfigError(f"name {name!r} must be a plain file name, without folders")
    found = find_local(name, sha256, mirror, cache, size)
    if found is not None:
        return found
    target = cached_path(name, sha256, cache)
    try:
        _download(url, target, sha256, size, progress)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = _reason(error)
        problem = str(error) if isinstance(error, DataError) else f"{url}: download failed ({reason})"
        notes = "".join(f"\n  {note}" for note in near_misses(name, sha256, mirror, cache))
        raise DataError(
            f"{name}: {problem}{notes}\n"
            f"  To fix it: make that URL reachable, or set {MIRROR_VARIABLE} to a folder that holds the file "
            f"(it is found by its sha256, {sha256}, under any name)."
        ) from error
    return target


def _reason(error: Exception) -> object:
    # A URLError only wraps its reason; an HTTPError, also a URLError, has more information than its reason.
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return error.reason
    return str(error) or type(error).__name__


def _download(url: str, target: Path, sha256: str, size: int | None, progress: Progress | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=PARTIAL)
    os.close(descriptor)
    try:
        with Path(name).open("r+b") as out:
            resumed = _receive(url, out, size, progress)
            if resumed and _digest(out) != sha256:  # the file there may have changed between two attempts
                out.truncate(0)
                _receive(url, out, size, progress)
            found, received = _digest(out), out.tell()
        if found != sha256:
            raise DataError(
                f"{url}: the {received} bytes received have sha256 {found}, expected {sha256}; the file there has "
                "changed, and nothing was kept"
            )
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _receive(url: str, out: BinaryIO, size: int | None, progress: Progress | None) -> bool:
    """Fill `out` with what `url` sends, trying again after faults that may pass; whether an attempt was resumed."""
    resumed = False
    for wait in (*WAITS, None):
        out.seek(0, os.SEEK_END)
        resumed = resumed or out.tell() > 0
        try:
            _attempt(url, out, size, progress)
            return resumed
        except (OSError, http.client.HTTPException) as error:
            if wait is None or not _may_pass(error):
                raise
            print(f"{printable(f'{url}: {_reason(error)}')}; trying again in {wait:g} s", file=sys.stderr, flush=True)
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _attempt(url: str, out: BinaryIO, size: int | None, progress: Progress | None) -> None:
    """Append what is missing in `out`; from the start where the server does not resume."""
    request = urllib.request.Request(url)
    if out.tell():
        request.add_header("Range", f"bytes={out.tell()}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        if out.tell() and not str(answer.headers.get("Content-Range")).startswith(f"bytes {out.tell()}-"):
            out.seek(0)
            out.truncate()
        announced = re.fullmatch(r"[0-9]{1,18}", answer.headers.get("Content-Length", ""))
        total = out.tell() + int(announced[0]) if announced else size
        while block := answer.read1(_BLOCK):  # what has come, so that a stalled download keeps it
            out.write(block)
            if size is not None and out.tell() > size:
                raise DataError(f"{url}: sent more than the {size} bytes of the expected file")
            if progress is not None:
                progress(out.tell(), total)
    if announced and total is not None and out.tell() < total:
        raise ConnectionError(f"cut off after {out.tell()} of {total} bytes")


def asked_again(ask: Callable[[], Result]) -> Result:
    """`ask()` of the hub's client, again after each of `WAITS` where the hub is busy; its last error then.

    The client itself tries again where the connection breaks, and not where there is none.
    """
    from huggingface_hub.errors import HfHubHTTPError

    for wait in WAITS:
        try:
            return ask()
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            if status not in BUSY:
                raise
            print(f"the hub answers {status}; trying again in {wait:g} s", file=sys.stderr, flush=True)
            time.sleep(wait)
    return ask()


def _may_pass(error: Exception) -> bool:
    """Whether another attempt may succeed: the server is busy, or the connection failed on the way."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in BUSY
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(cause, ConnectionError | TimeoutError | http.client.HTTPException)


def _digest(file: BinaryIO) -> str:
    """Of the whole file, whose position is left at its end."""
    file.flush()
    file.seek(0, os.SEEK_END)
    return sha256_file(file.name)


def _mirror_folder(mirror: str | Path | None) -> Path | None:
    named = mirror or os.environ.get(MIRROR_VARIABLE)
    folder = Path(named).expanduser() if named else None
    return folder if folder is not None and folder.is_dir() else None


def _manifest_hints(folder: Path, sha256: str) -> Iterator[Path]:
    try:
        manifest = folder / "MANIFEST.json"
        entries = json_value(manifest.read_text(encoding="utf-8")) if manifest.is_file() else None
    except (OSError, ValueError):
        return
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("sha256") == sha256 and isinstance(entry.get("file"), str):
            yield folder / entry["file"]


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent) / name for name in sorted(names))


def _matches(path: Path, sha256: str, size: int | None) -> bool:
    try:
        return path.is_file() and (size is None or path.stat().st_size == size) and _hash(path) == sha256
    except (OSError, ValueError):  # unreadable, or a hint that is no path: not the file
        return False


def _hash(path: Path) -> str:
    # One process may look for several files; a file is read again only after it changed.
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = sha256_file(path)
    return _hashes[key]


def near_misses(
    name: str, sha256: str, mirror: str | Path | None = None, cache: str | Path | None = None
) -> Iterator[str]:
    """A sentence for a mirror that is no folder and for every file of this name that is not the one meant."""
    target = cached_path(name, sha256, cache)
    named = mirror or os.environ.get(MIRROR_VARIABLE)
    folder = _mirror_folder(mirror)
    if named and folder is None:
        yield f"{MIRROR_VARIABLE} names {named}, which is not a folder."
    candidates = [path for path in _files(folder) if path.name == name] if folder else []
    for path in (*candidates, target):
        try:
            if path.exists() and not path.is_file():  # reading a pipe would wait for its writer
                yield f"{path} is no plain file; remove it."
                continue
            found = _hash(path)
        except OSError as error:
            if path != target:
                yield f"{path} cannot be read ({error.strerror})."
            continue
        if found != sha256:
            yield f"{path} is not the file: sha256 {found}, expected {sha256}; replace or remove it."
