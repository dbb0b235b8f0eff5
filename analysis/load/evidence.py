"""Whether the files of one experiment belong together: adapter, record, predictions, answers, scores, means.

Each stage writes the hash of what it read: a record the adapter's, decoding.json the adapters' and the gold file's,
scores.json the predictions'. The profile's dvc.lock has the hash of what each stage read and wrote, so it also covers
files without such fields. `differences` compares all of them. A file that is absent is no difference here: adapters are
in no repository. Without a dvc.lock the hashes in the files are all there is.

While `dvc repro` runs, its entries in dvc.lock follow the files, so a cell that is being renewed has differences.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from replication.errors import DataError
from replication.fileio import read_json
from replication.records import RunRecord

if TYPE_CHECKING:
    from analysis.load.runs import Metrics

OUTPUTS = {"finetune": ("training",), "predict": ("predictions",), "score": ("scores.json", "metrics.json")}
"""Stage -> what it writes in the experiment's folder, apart from the adapter."""
LINKS = (("adapter", "finetune", "predict"), ("predictions", "predict", "score"))
"""What one stage writes and the next one reads."""
_HEX = re.compile(r"[0-9a-f]{32,}(\.dir)?")


@dataclass(frozen=True)
class Mismatch:
    """`file` has `found` in `field` where `expected` should be. `source`: who says so, with its verb."""

    file: Path
    field: str
    expected: object
    found: object
    source: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}, {self.field}: {_short(self.found)}, but {self.source} {_short(self.expected)}; {self.fix}"


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return f"{text[:12]}..." if _HEX.fullmatch(text) else text


def repro(directory: Path, stage: str) -> str:
    """The command that runs a stage of the experiment in `directory` again; scoring needs its predictions alone."""
    profile = directory.absolute().parent.name
    definitions = "" if profile == "quick" else f"pipelines/{profile}/dvc.yaml:"
    return f"dvc repro {'-s ' if stage == 'score' else ''}{definitions}{stage}@{directory.name}"


def read_decoding(directory: Path) -> Mapping[str, Any]:
    """predictions/decoding.json; empty if there is none. DataError if it holds no object."""
    path = directory / "predictions" / "decoding.json"
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object; `{repro(directory, 'predict')}` writes it again")
    return content


def gold_difference(directory: Path, decoding: Mapping[str, Any]) -> Mismatch | None:
    """Whether the gold file has changed since the predictions; None where either is absent."""
    name, wanted = decoding.get("gold"), decoding.get("gold_sha256")
    if not isinstance(name, str) or not isinstance(wanted, str):
        return None
    path = Path(os.path.normpath(directory / "../../.." / name))
    if not path.is_file() or (found := _sha256(path)) == wanted:
        return None
    source = f"{directory / 'predictions' / 'decoding.json'} has"
    fix = f"the task was prepared again after this run; `{repro(directory, 'predict')}` predicts again"
    return Mismatch(path, "sha256", wanted, found, source, fix)


def differences(
    directory: Path, records: Mapping[int, RunRecord], decoding: Mapping[str, Any], metrics: Metrics | None
) -> list[Mismatch]:
    """Everything that does not belong together, from the hashes in the files and those in dvc.lock."""
    found = _adapter_differences(directory, records, decoding)
    found += _score_differences(directory, metrics)
    lock = read_lock(directory.parent)
    return found if lock is None else [*found, *lock_differences(directory, lock)]


def _adapter_differences(
    directory: Path, records: Mapping[int, RunRecord], decoding: Mapping[str, Any]
) -> list[Mismatch]:
    """Predictions of another adapter than the record's; none where decoding.json names no adapters (older runs)."""
    named = decoding.get("adapter_sha256")
    if not isinstance(named, dict):
        return []
    found = []
    for seed, record in records.items():
        predicted = directory / "predictions" / f"seed-{seed}.jsonl"
        if record.adapter is None or not predicted.is_file() or named.get(str(seed)) == record.adapter.sha256:
            continue
        found.append(
            Mismatch(
                directory / "predictions" / "decoding.json",
                f"adapter_sha256.{seed}",
                record.adapter.sha256,
                named.get(str(seed)),
                f"{directory / 'training' / f'seed-{seed}' / 'record.json'} has",
                f"the predictions are another adapter's; `{repro(directory, 'predict')}` predicts again",
            )
        )
    return found


def _score_differences(directory: Path, metrics: Metrics | None) -> list[Mismatch]:
    """Predictions that changed after scoring, and means in metrics.json that are not those in scores.json."""
    scores, means = directory / "scores.json", directory / "metrics.json"
    if metrics is None:
        return []
    source = f"{scores if scores.is_file() else means} has"
    fix = f"`{repro(directory, 'score')}` scores again"
    found = []
    for seed, wanted in metrics.predictions_sha256.items():
        path = directory / "predictions" / f"seed-{seed}.jsonl"
        if path.is_file() and (now := _sha256(path)) != wanted:
            found.append(Mismatch(path, "sha256", wanted, now, source, f"it has changed since; {fix}"))
    if not (scores.is_file() and means.is_file()):
        return found
    shown, expected = read_json(means), {name: mean for name, mean in metrics.means.items() if mean is not None}
    if not isinstance(shown, dict):
        return [*found, Mismatch(means, "content", "an object", type(shown).__name__, source, fix)]
    for name in sorted({*shown, *expected}):
        if name not in shown or name not in expected or shown[name] != expected[name]:
            found.append(Mismatch(means, name, expected.get(name), shown.get(name), source, fix))
    return found


# --- dvc.lock


@dataclass(frozen=True)
class Lock:
    """Stage -> path from the project's root -> md5 of what it wrote (`outs`) and of the runs and gold files it read."""

    path: Path
    root: Path
    outs: Mapping[str, Mapping[str, str]]
    deps: Mapping[str, Mapping[str, str]]


def lock_file(profile_directory: Path) -> Path:
    """The dvc.lock of the profile whose runs are in `profile_directory`, as `<root>/runs/<profile>`."""
    root = Path(os.path.normpath(profile_directory / "../.."))
    own = root / "pipelines" / profile_directory.absolute().name
    return (own if (own / "dvc.yaml").is_file() else root) / "dvc.lock"


def read_lock(profile_directory: Path) -> Lock | None:
    """The profile's dvc.lock, read once as long as it stays the same; None without one. DataError if it is broken."""
    path = lock_file(profile_directory)
    try:
        state = path.stat()
    except OSError:
        return None
    return _read_lock(path, profile_directory.absolute().parents[1], (state.st_ino, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=16)
def _read_lock(path: Path, root: Path, state: tuple[int, int, int]) -> Lock:
    fix = f"run `git checkout {path}`, or wait for the `dvc repro` that writes it"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {fix}") from error
    try:
        content = _parsed(without_code(text))
    except (yaml.YAMLError, ValueError, RecursionError):
        try:
            content = _parsed(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())}); {fix}") from error
    stages = content.get("stages") if isinstance(content, dict) else None
    stages = stages if isinstance(stages, dict) else {}
    outs, deps = (
        {str(name): _hashes(stage.get(part)) for name, stage in stages.items() if isinstance(stage, dict)}
        for part in ("outs", "deps")
    )
    return Lock(path, root, outs, deps)


def _parsed(text: str) -> Any:
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _hashes(entries: Any) -> dict[str, str]:
    return {
        str(entry["path"]): str(entry["md5"])
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and "path" in entry and "md5" in entry
    }


_OTHER = re.compile(r"    - path: (?!['\"]?(runs|gold)/)")


def without_code(text: str) -> str:
    """dvc.lock without commands, parameters and the hashes of code: a tenth of the text, which takes long to parse.

    Only entries that begin as DVC writes them and name another folder are left out; of any other form all is kept.
    """
    kept, wanted, entry = [], False, True
    for line in text.splitlines():
        if not line.strip():
            continue
        if not line.startswith("    "):
            wanted, entry = False, True
            kept.append(line)
        elif line[4] not in " -":
            wanted, entry = line.strip() in ("deps:", "outs:"), True
            if wanted:
                kept.append(line)
        elif wanted:
            if line[4] == "-":
                entry = _OTHER.match(line) is None
            if entry:
                kept.append(line)
    return "\n".join(kept)


def lock_differences(directory: Path, lock: Lock) -> list[Mismatch]:
    """Files that are not those dvc.lock names, and a stage that read something else than the one before it wrote."""
    directory = directory.absolute()
    inside = directory.relative_to(lock.root).as_posix()
    entries = {stage: f"{stage}@{directory.name}" for stage in OUTPUTS}
    source = f"{lock.path} has"
    found = []
    for stage, names in OUTPUTS.items():
        for name in names:
            wanted = lock.outs.get(entries[stage], {}).get(f"{inside}/{name}")
            if wanted and (now := content_md5(directory / name)) not in (None, wanted):
                command = repro(directory, stage)
                keep = command.replace("repro", "commit")
                fix = f"it was edited or made outside DVC: `{command}` makes it again, `{keep}` keeps it"
                found.append(Mismatch(_shown(directory / name), "md5", wanted, now, source, fix))
    for name, writer, reader in LINKS:
        wrote = lock.outs.get(entries[writer], {}).get(f"{inside}/{name}")
        read = lock.deps.get(entries[reader], {}).get(f"{inside}/{name}")
        if wrote and read and wrote != read:
            field, fix = f"{entries[reader]}, {name}", f"`{repro(directory, reader)}` reads the present one"
            found.append(Mismatch(lock.path, field, wrote, read, f"{entries[writer]} wrote", fix))
    return [*found, *_gold_in_lock(directory, lock, entries)]


def _gold_in_lock(directory: Path, lock: Lock, entries: Mapping[str, str]) -> list[Mismatch]:
    found = []
    for stage in ("predict", "score"):
        for name, wanted in lock.deps.get(entries[stage], {}).items():
            if name.startswith("gold/") and (now := content_md5(lock.root / name)) not in (None, wanted):
                fix = f"the task was prepared again after this run; `{repro(directory, stage)}`"
                found.append(Mismatch(_shown(lock.root / name), "md5", wanted, now, f"{lock.path} has", fix))
    return found


def content_md5(path: Path) -> str | None:
    """DVC's hash of a file, or of a folder: that of the sorted list of its files' names and hashes; None if absent."""
    if path.is_file():
        return _md5(path)
    if not path.is_dir():
        return None
    files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    entries = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listed = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(listed.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _md5(path: Path) -> str:
    return _digest(path, "md5", _state(path))


def _sha256(path: Path) -> str:
    return _digest(path, "sha256", _state(path))


def _state(path: Path) -> tuple[int, ...]:
    state = path.stat()
    return state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size


@lru_cache(maxsize=8192)
def _digest(path: Path, algorithm: str, state: tuple[int, ...]) -> str:
    """Hash of a file, computed once as long as `state` stays the same: a gold file belongs to many experiments."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _shown(path: Path) -> Path:
    """Relative to the working directory where it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
