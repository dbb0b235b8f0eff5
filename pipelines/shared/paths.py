"""Where the stages read and write, relative to the project's root, where every stage runs. Light: imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.shared.settings import BASELINE
from replication.errors import DataError
from replication.fileio import read_json, read_jsonl, sha256_file

Rows = Sequence[Mapping[str, Any]]
BASELINE_FILE = "baseline.json"


def adapter_file(method: str) -> str:
    """Name of the file in adapter/seed-<s>/ that holds what a method has learned."""
    return BASELINE_FILE if method == BASELINE else "adapter_model.safetensors"


def prepared_directory(profile: str, task: str) -> Path:
    """Folder the prepare stage writes for `task`."""
    return Path("prepared") / profile / task


def gold_path(profile: str, task: str) -> Path:
    """File the prepare stage writes with the truth of each reported item of `task`."""
    return Path("gold") / profile / f"{task}.jsonl"


def weights_directory(backbone: str) -> Path:
    """Folder the pretrain stage writes for `backbone`."""
    return Path("weights") / backbone


def search_path(profile: str, case: str) -> Path:
    """File the search stage writes for `case`."""
    return Path("searches") / profile / f"{case}.json"


def weights_sha256(folder: Path) -> str:
    """sha256 of a backbone's weights, read once as long as the file stays the same; DataError names what makes it."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise DataError(f"{path}: no such file; `dvc repro pretrain@{folder.name}` makes it")
    state = path.stat()
    return _sha256(path.resolve(), (state.st_ino, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=8)
def _sha256(path: Path, state: tuple[int, int, int]) -> str:
    return sha256_file(path)


def prepared_hashes(directory: Path) -> dict[str, str]:
    """sha256 of each prepared file; DataError names the command that makes them."""
    names = ("train.jsonl", "dev.jsonl", "test.jsonl")
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise DataError(f"{directory / missing[0]}: no such file; `dvc repro prepare` makes it")
    return {name: sha256_file(directory / name) for name in names}


def corpus_of(directory: Path) -> dict[str, Any]:
    """The prepared task's own description (name, label, counts, hashes of its source)."""
    return read_json(directory / "corpus.json")


def read_rows(prepared: Path, split: str) -> list[dict[str, Any]]:
    """Rows of a prepared split: train, dev (losses while training), test (what is reported)."""
    return list(read_jsonl(prepared / f"{split}.jsonl"))
