"""The source files of real corpora: found by sha256 packed or plain, downloaded, unpacked.

A mirror may hold a file as gzip or zip; a download is plain. The plain bytes are always verified, so a loader never
parses anything else.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.corpora.fetch import MIRROR_VARIABLE, fetch, find_local, near_misses
from replication.errors import DataError
from replication.fileio import DAMAGED_ARCHIVE, json_value, sha256_bytes


@dataclass(frozen=True)
class SourceFile:
    """One plain file: its sha256 and bytes, those of a packed copy, and its URL (None if it cannot be downloaded)."""

    name: str
    sha256: str
    size: int
    packed_sha256: str
    packed_size: int
    url: str | None = None

    @property
    def packed_name(self) -> str:
        """Name the packed copy has in a cache."""
        return f"{self.name}.packed"

    def find(self, folder: str | Path | None = None) -> Path | None:
        """The packed or plain file in `folder` (default: REPLICATION_MIRROR) or the cache; no network."""
        packed = find_local(self.packed_name, self.packed_sha256, folder, size=self.packed_size)
        return packed or find_local(self.name, self.sha256, folder, size=self.size)

    def get(self, folder: str | Path | None = None) -> Path:
        """`find`, else a download; DataError names file, hashes and fix if neither succeeds."""
        path = self.find(folder)
        if path is None and self.url is None:
            notes = "".join(f" {note}" for note in near_misses(self.name, self.sha256, folder))
            raise DataError(
                f"{self.name}: not found, and cannot be downloaded.{notes} To fix it: set {MIRROR_VARIABLE} to a "
                f"folder that holds the file (sha256 {self.packed_sha256} packed, {self.sha256} plain, any name)"
            )
        return path or fetch(self.name, self.sha256, str(self.url), folder, size=self.size)

    def read(self, folder: str | Path | None = None) -> tuple[str, bytes]:
        """(Path for messages, verified plain bytes)."""
        path = self.get(folder)
        data = _unpacked(path, self.size)
        if (found := sha256_bytes(data)) != self.sha256:
            raise DataError(
                f"{path}: unpacks to bytes with sha256 {found}, expected {self.sha256}; replace the file or remove it"
            )
        return str(path), data


def read_text(file: SourceFile, folder: str | Path | None = None) -> tuple[str, str]:
    """(Path for messages, text without a byte-order mark); line ends are kept as they are."""
    source, data = file.read(folder)
    try:
        return source, data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{source}, line {line}: not UTF-8 text ({error.reason}); fetch the file again") from error


def parse_json(location: str, text: str) -> Any:
    """The JSON value of a file's text; DataError names `location` and the line."""
    try:
        return json_value(text, repeated=True)
    except ValueError as error:
        line, problem = getattr(error, "lineno", 1), getattr(error, "msg", error)
        raise DataError(f"{location}, line {line}: not valid JSON ({problem}); fetch the file again") from error


def parse_jsonl(location: str, text: str) -> Iterator[tuple[int, Any]]:
    """(line, the first is 1; JSON value) of each line that is not blank; DataError names `location` and the line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json_value(line, repeated=True)
            except ValueError as error:
                problem = getattr(error, "msg", error)
                raise DataError(
                    f"{location}, line {number}: not valid JSON ({problem}); fetch the file again"
                ) from error


def _unpacked(path: Path, size: int) -> bytes:
    """The plain bytes; of a packed file one more than `size` at most, however much it says or would unpack to."""
    data = path.read_bytes()
    try:
        if data.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                return stream.read(size + 1)
        if data.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                inside = [name for name in archive.namelist() if not name.endswith("/")]
                if len(inside) != 1:
                    raise DataError(f"{path}: holds {len(inside)} files, expected one; fetch it again")
                with archive.open(inside[0]) as stream:
                    return stream.read(size + 1)
    except DataError:
        raise
    except DAMAGED_ARCHIVE as error:
        raise DataError(f"{path}: cannot be unpacked ({error}); fetch it again") from error
    return data
