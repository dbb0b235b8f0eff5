"""Reading and writing files so that a crash never leaves half of one: write aside, then rename."""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import math
import os
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from replication.errors import DataError

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SYSTEM_FAULTS = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "there is no space left; free some and run the same command again"
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "no permission; make it accessible, or choose another folder"
    ),
    errno.EISDIR: "is a folder, where a file is needed; move it away",
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file is in the way of a folder; move it away"),
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
}

# What zipfile and gzip raise for bytes that are no archive, or only nearly one.
DAMAGED_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)


_STREAMS = ("/dev/fd/", "/dev/std", "/proc/")
PARTIAL, REPLACED = ".partial", ".replaced"
"""Ends of the hidden names of what is being written, and of what it replaces: .dvcignore and .gitignore have them."""


def system_fault(error: Exception) -> str | None:
    """Path, problem and fix of a disk that is full, read-only or has another thing at a path; None for other errors."""
    if not isinstance(error, OSError):
        error = OSError(_number(error), str(error))
    fix = _SYSTEM_FAULTS.get(error.errno or 0)
    path = error.filename2 or error.filename
    return None if fix is None else f"{path}: {fix}" if path else f"{error.strerror}: {fix}"


def _number(error: BaseException) -> int:
    """The system's error number, also where safetensors or tokenizers tell it in words; 0 for none."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    return error.errno or 0 if isinstance(error, OSError) else int(told[1]) if told else 0


@contextmanager
def _told_where(path: Path) -> Iterator[None]:
    """Name `path` in a system error of the block that names none, as those of a write do."""
    try:
        yield
    except Exception as error:
        if (number := _number(error)) not in _SYSTEM_FAULTS or getattr(error, "filename", None) is not None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def listed(names: Iterable[str]) -> str:
    """Names found in a file, for one line of a message: unprintable characters escaped, the end of a long list cut."""
    text = ", ".join(repr(name)[1:-1] for name in names)
    return text if len(text) <= 300 else f"{text[:300]}..."


def sha256_bytes(data: bytes) -> str:
    """Hex digest of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Hex digest of a file's bytes, read in blocks."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex digest of a JSON value that does not depend on key order or white space."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Replace `path` by `data` in one step; parent folders are made. Of a link the target is replaced; to a device or a
    pipe the data is written.
    """
    path = Path(path)
    if _is_stream(path):
        with _told_where(path):
            path.write_bytes(data)
        return path
    if path.is_symlink():
        write_bytes(path.resolve(), data)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
    try:
        with _told_where(path), os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _is_stream(path: Path) -> bool:
    """A device or a pipe, or what the system lets a process open as one: /dev/stdout, /proc/self/fd/1 (/dev/shm holds
    files as any folder).
    """
    if path.is_dir():
        return False
    return (path.exists() and not path.is_file()) or str(path.absolute()).startswith(_STREAMS)


def write_text(path: str | Path, text: str) -> Path:
    """UTF-8 form of `write_bytes`; line ends are written as they are given."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> Path:
    """Indented JSON with keys in the order given, a final newline, and no NaN."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[Any]) -> Path:
    """One compact JSON value a line."""
    return write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def json_value(text: str, *, repeated: bool = False) -> Any:
    """`json.loads` whose every refusal is a ValueError: also of values nested too deeply, of half a surrogate pair, a
    text that could be neither written nor printed, and, unless `repeated`, of a key given twice, of which `json` keeps
    the last.
    """
    try:
        value = json.loads(text, object_pairs_hook=None if repeated else _unique)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair in a text") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return value


def read_json(path: str | Path) -> Any:
    """Parse one JSON file; DataError names the file when it is missing or malformed."""
    try:
        return json_value(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(system_fault(error) or f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error


def read_jsonl(path: str | Path) -> list[Any]:
    """Parse a file of one JSON value a line; DataError names file and line."""
    rows = []
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(system_fault(error) or f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error})") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json_value(line))
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not valid JSON ({error})") from error
    return rows


LARGEST_YAML = 100_000
"""Values that a document may have once every alias is written out; the largest profile has some 2,000."""


class YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader; a YAMLError for aliases that name themselves or write out to more than so many values."""

    def get_single_node(self) -> yaml.Node | None:
        """The document's root."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _values(node, {}) > LARGEST_YAML:
            raise yaml.composer.ComposerError(
                problem=f"its aliases write out to more than {LARGEST_YAML:,} values, or name themselves; "
                "write the values"
            )
        return node


def _values(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    if node not in known:
        known[node] = math.inf  # while its own parts are counted
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        within = 0 if isinstance(node, yaml.ScalarNode) else sum(_values(part, known) for part in parts)
        known[node] = 1 + within
    return known[node]


@contextmanager
def replaced_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder next to `path`; it replaces `path` only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL))
    try:
        with _told_where(path):
            yield aside
        aside.chmod(0o755)
        old = path.parent / f".{path.name}{REPLACED}"
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        aside.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def remove_leftovers(folder: str | Path, name: str | None = None) -> None:
    """Remove what killed writers of `name` left in `folder`, or of anything at any depth. Nobody else may write now."""
    names = re.compile(rf"\.{'.+' if name is None else re.escape(name)}(\.\w+{PARTIAL}|{REPLACED})")
    for path in list(Path(folder).rglob(".*") if name is None else Path(folder).glob(".*")):
        if not names.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
