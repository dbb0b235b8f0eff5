"""The cells that `replicate accept` compares: shortened settings, runs with one version of the code, differences."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from replication.errors import ReplicationError
from replication.fileio import read_json, read_jsonl, sha256_bytes, write_text

LENGTHS = {
    "steps": 6,
    "batch_size": 4,
    "warmup_steps": 1,
    "eval_every": 3,
    "checkpoint_every": 3,
    "log_every": 1,
    "selection_steps": 3,
    "expand_every": 1,
    "max_new_tokens": 6,
}
ROWS = {"train_examples": 64, "dev_examples": 8, "test_items": 12}
WRITTEN = ("checkpoints", "gold", "logs", "prepared", "reports", "runs", "searches", "weights")
"""Folders of the project that stages write to: a cell has its own."""

PROGRAM = """
import importlib, json, sys
from pathlib import Path

cells, failed = json.loads(sys.argv[1]), {}
for stage, key in cells:
    try:
        importlib.import_module(f"pipelines.{stage}").main(Path("shortened.yaml"), key)
    except Exception as error:
        failed[f"{stage}@{key}"] = f"{type(error).__name__}: {error}"
Path("failed.json").write_text(json.dumps(failed))
"""


def shorten(content: Mapping[str, Any], experiments: Sequence[str]) -> dict[str, Any]:
    """params.yaml with only these experiments, one seed, few rows and few steps; made to suit every version of it."""
    short = {name: _short(value) for name, value in content.items() if name != "memory"}
    for task in short["tasks"].values():
        task.update(ROWS)
    kept = {key: content["experiments"][key] for key in experiments}
    short["experiments"] = {key: {**_short(row), "seeds": row["seeds"][:1]} for key, row in kept.items()}
    return short


def _short(value: Any) -> Any:
    """The value with every length in it replaced."""
    if not isinstance(value, Mapping):
        return value
    fixed = {name: LENGTHS[name] for name, inner in value.items() if name in LENGTHS and inner is not None}
    return {name: _short(inner) for name, inner in value.items()} | fixed


def run_cells(
    tree: Path, params_file: str, experiments: Sequence[str], home: Path, tell: Callable[[str], None]
) -> dict[str, str]:
    """Run every stage of these experiments, shortened, with the code in `tree`, in the new folder `home`.

    One process for all, which imports torch once. Returns the stages that failed, each with its error.
    """
    home.mkdir(parents=True)
    for path in tree.iterdir():
        if path.name not in (*WRITTEN, "data", ".git"):
            (home / path.name).symlink_to(path.resolve())
    if Path("data").is_dir():  # no part of a commit: DVC's files
        (home / "data").symlink_to(Path("data").resolve())
    content = shorten(yaml.safe_load((tree / params_file).read_text(encoding="utf-8")), experiments)
    write_text(home / "shortened.yaml", yaml.safe_dump(content, sort_keys=False))
    rows = [content["experiments"][key] for key in experiments]
    cells = [("prepare", task) for task in dict.fromkeys(row["task"] for row in rows)]
    cells += [("pretrain", backbone) for backbone in dict.fromkeys(row["backbone"] for row in rows)]
    cells += [(stage, key) for key in experiments for stage in ("finetune", "predict", "score")]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", PROGRAM, json.dumps(cells)]
    errors = home / "stderr.txt"  # a file: a full pipe would stop the process
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command, cwd=home, env=environment, text=True, stdout=subprocess.PIPE, stderr=stderr
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                tell(f"  {line.rstrip()}")
        except BaseException:  # a signal: the block would wait for the cells
            process.kill()
            raise
    if process.returncode != 0:
        said = errors.read_text(errors="replace")[-500:]
        raise ReplicationError(f"{home.name}: the sampled cells ended with {process.returncode}: {said}")
    failed: dict[str, str] = read_json(home / "failed.json")
    return failed


def source_differences(old: Path, new: Path) -> list[str]:
    """Prepared rows, gold answers and backbone weights that differ, of all that the old home has."""
    readers = {"prepared/**/*.jsonl": read_jsonl, "gold/**/*.jsonl": read_jsonl, "weights/**/*.safetensors": _tensors}
    found = []
    for name, read in readers.items():
        for path in sorted(old.glob(name)):
            inside = path.relative_to(old)
            if not (new / inside).is_file():
                found.append(f"{inside}: only in the old run")
            elif (difference := first_difference(read(path), read(new / inside))) is not None:
                found.append(f"{inside}: {difference}")
    return found


def differences(old: Path, new: Path, profile: str, experiment: str) -> list[str]:
    """Files of one experiment whose values differ between two homes, each with the first difference."""
    runs = [home / "runs" / profile / experiment for home in (old, new)]
    found = []
    for name, read in READERS.items():
        paths = [{str(path.relative_to(run)): path for path in sorted(run.glob(name))} for run in runs]
        for inside in sorted(set(paths[0]) | set(paths[1])):
            here, there = (side.get(inside) for side in paths)
            if here is None or there is None:
                found.append(f"{experiment}/{inside}: only in the {'new' if here is None else 'old'} run")
            elif (difference := first_difference(*_comparable(name, read(here), read(there)))) is not None:
                found.append(f"{experiment}/{inside}: {difference}")
    difference = first_difference(_scores(runs[0]), _scores(runs[1]))
    return found if difference is None else [*found, f"{experiment}/scores.json: {difference}"]


def _comparable(name: str, old: Any, new: Any) -> tuple[Any, Any]:
    """Of two descriptions of an adapter the fields that both have: a release may add one. Other values as they are."""
    return _shared(old, new) if name == DESCRIPTION else (old, new)


def _shared(old: Any, new: Any) -> tuple[Any, Any]:
    """Two JSON values without the fields, at any depth, that only one of them has."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return old, new
    pairs = {name: _shared(old[name], new[name]) for name in old if name in new}
    return {name: a for name, (a, _) in pairs.items()}, {name: b for name, (_, b) in pairs.items()}


def first_difference(old: Any, new: Any, where: str = "") -> str | None:
    """The first place at which two JSON-like values differ, with both values; None if they are equal."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if one_sided := set(old) ^ set(new):
            name = min(one_sided)
            return f"{where}{name} is only in the {'new' if name not in old else 'old'} run"
        found = (first_difference(old[name], new[name], f"{where}{name}: ") for name in old)
        return next(filter(None, found), None)
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        if len(old) != len(new):
            return f"{where}{len(old)} and {len(new)} values"
        pairs = enumerate(zip(old, new, strict=True))
        return next(filter(None, (first_difference(*pair, f"{where}{number}: ") for number, pair in pairs)), None)
    both_nan = old != old and new != new
    same = old == new and isinstance(old, bool) == isinstance(new, bool)
    return None if both_nan or same else f"{where}{old!r} and {new!r}"


def _tensors(path: Path) -> dict[str, Any]:
    """Every tensor by name: its type, its shape and a hash of its bytes."""
    import torch
    from safetensors.torch import load_file

    return {
        name: [str(value.dtype), list(value.shape), sha256_bytes(value.reshape(-1).view(torch.uint8).numpy().tobytes())]
        for name, value in load_file(path).items()
    }


def _description(path: Path) -> dict[str, Any]:
    """An adapter's description without the hash of its file: tensors are compared one by one."""
    return {name: value for name, value in read_json(path).items() if name != "sha256"}


def _curves(path: Path) -> dict[str, Any]:
    from analysis.load.runs import read_curves

    return {str(name): column.tolist() for name, column in read_curves(path).items()}


def _record(path: Path) -> dict[str, Any]:
    """What a record says of the result; other fields may get another form."""
    content = read_json(path)
    return {name: content.get(name) for name in ("counts", "counts_at_start", "result", "adapter", "seed")}


def _predictions(path: Path) -> list[Any]:
    from replication.predictions import full_rows

    return [dict(row) for row in full_rows(path)]


def _scores(run: Path) -> dict[str, Any]:
    from analysis.load.runs import read_metrics, scores_file

    metrics = read_metrics(scores_file(run))
    return {"items": metrics.items, "seeds": {str(seed): dict(values) for seed, values in metrics.seeds.items()}}


DESCRIPTION = "adapter/*/adapter_config.json"
READERS: dict[str, Callable[[Path], Any]] = {
    "adapter/*/*.safetensors": _tensors,
    DESCRIPTION: _description,
    "adapter/*/baseline.json": read_json,
    "training/*/curves.csv": _curves,
    "training/*/selection.json": read_json,
    "training/*/record.json": _record,
    "predictions/seed-*.jsonl": _predictions,
}
