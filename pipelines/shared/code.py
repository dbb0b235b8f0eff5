"""Which code makes a result: a hash of the code that a stage depends on in dvc.yaml."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import yaml

from replication.fileio import read_json, sha256_file

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipelines/", "replication/")
ACCEPTED = "accepted_code.json"
"""Next to params.yaml: hash of the code now -> of the code whose results `make accept` found equal."""


def stage_code(stage: str, method: str = "", root: Path = ROOT) -> list[str]:
    """The dependencies of a stage that are code, from dvc.yaml: files and folders relative to `root`."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    named = [dep.replace("${item.method}", method) for dep in stages[stage]["do"]["deps"]]
    return sorted({dep for dep in named if dep.startswith(PACKAGES)})


@lru_cache
def code_sha256(stage: str, method: str = "", root: Path = ROOT) -> str:
    """sha256 over the Python and JSON files of a stage's code, with their names. Bytes count, comments included."""
    digest = hashlib.sha256()
    for dep in stage_code(stage, method, root):
        path = root / dep
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in (".py", ".json") and file.is_file():  # a notebook's method has no file
                digest.update(f"{file.relative_to(root).as_posix()} {sha256_file(file)}\n".encode())
    return digest.hexdigest()


def made_by(params_file: str, stage: str, method: str = "") -> str:
    """The code hash of a record: `code_sha256`, or that of earlier code accepted as equal."""
    now, accepted = code_sha256(stage, method), Path(params_file).with_name(ACCEPTED)
    return read_json(accepted).get(now, now) if accepted.is_file() else now
