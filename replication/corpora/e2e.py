"""The E2E NLG corpus: official release v1.0.0 (Novikova, Dusek and Rieser 2017; CC BY-SA 4.0).

Deviation from the LoRA recipe: its files hold word-tokenised completions ("family - friendly ."). Here models
train on the release's own references and raw text is scored against raw text; the linearised meaning
representations are equal, line by line (see `replication.corpora.schema.linearise`).
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path, PurePosixPath

from replication.corpora.fetch import Progress, fetch
from replication.corpora.schema import Row, read_csv, task_rows
from replication.corpora.task_corpus import CorpusCard, TaskCorpus, corpus_of
from replication.errors import DataError
from replication.fileio import DAMAGED_ARCHIVE, sha256_bytes

LABEL = "E2E NLG, official release v1.0.0"
NAME = "e2e-dataset.zip"
URL = "https://github.com/tuetschek/e2e-dataset/releases/download/v1.0.0/e2e-dataset.zip"
SHA256 = "1261064c01907af27e8cc39e0a29a81541f6ab69208c1cbfc1be95afbb49dfac"
SIZE_BYTES = 1_528_421
MEMBER_BYTES = 64 << 20
MEMBERS = {"train": "trainset.csv", "dev": "devset.csv", "test": "testset_w_refs.csv"}
DEVIATION = (
    "Completions are the release's own references, not the word-tokenised ones of the recipe; "
    "raw text is scored against raw text."
)

CARD = CorpusCard("e2e", LABEL, "generation", "e2e", None, "test", True, "CC BY-SA 4.0", DEVIATION)


def load(folder: str | Path | None = None) -> TaskCorpus:
    """The corpus as rows of the form `generation`; the zip is looked up in `folder` first."""
    return corpus_of(CARD, task_rows(load_e2e(mirror=folder)), {NAME: SHA256})


def load_e2e(
    cache_dir: str | Path | None = None,
    *,
    mirror: str | Path | None = None,
    archive: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, list[Row]]:
    """Rows of "train", "dev" and "test" (42,061, 4,672, 4,693; 4,862, 547, 630 meaning representations).

    The zip comes from `archive` if given, else from the mirror, the cache or its home, always verified by
    sha256. DataError names the file, and inside it the row, that cannot be used; all three splits are
    returned or none.
    """
    path = Path(archive) if archive else fetch(NAME, SHA256, URL, mirror, cache_dir, SIZE_BYTES, progress)
    return read_archive(path)


def read_archive(path: str | Path, sha256: str = SHA256) -> dict[str, list[Row]]:
    """Parse one release zip whose bytes have this `sha256`; DataError names both hashes if they differ."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); pass the path of {NAME}") from error
    if (found := sha256_bytes(data)) != sha256:
        size = f"; it has {len(data)} bytes, the release {SIZE_BYTES}" if sha256 == SHA256 else ""
        raise DataError(
            f"{path}: sha256 is {found}, expected {sha256}{size}. The file is cut off, damaged or another: "
            f"remove it and fetch it again from {URL}"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {split: _member(archive, name, path) for split, name in MEMBERS.items()}
    except DataError:
        raise
    except DAMAGED_ARCHIVE as error:
        raise DataError(f"{path}: not a readable zip file ({error}); fetch it again from {URL}") from error
    return {split: read_csv(data, source=f"{path}: {name}") for split, (name, data) in members.items()}


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> tuple[str, bytes]:
    inside = [entry for entry in archive.namelist() if PurePosixPath(entry).name == name]
    if len(inside) != 1:
        raise DataError(f"{path}: holds {len(inside)} files named {name}, expected one; fetch it again from {URL}")
    if archive.getinfo(inside[0]).file_size > MEMBER_BYTES:  # zipfile reads no more than it says
        raise DataError(f"{path}: {name} unpacks to more than {MEMBER_BYTES} bytes; fetch it again from {URL}")
    return inside[0], archive.read(inside[0])
