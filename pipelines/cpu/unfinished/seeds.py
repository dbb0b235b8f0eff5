"""Run the E2E grid seed by seed, and put its cells together. At the root of the work tree at the commit in README.md:

    export PYTHONPATH=$PWD                                  # its code, not that of an installed project
    python <this file> train e2e-long-lora:65537            # goes on from a checkpoint
    python <this file> decode e2e-long-lora:65537
    python <this file> pack <this folder>/e2e_grid.tar.xz   # all but the adapters, of which it keeps hashes
    python <this file> assemble                             # once all seeds are decoded: runs/, dvc.lock

With both cells started side by side each takes one core. A stop (SIGTERM) writes a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from dvc.utils.serialize import modify_yaml

from pipelines import finetune, predict
from pipelines.shared import signals
from pipelines.shared.cost import write_cost
from pipelines.shared.experiment import Experiment, resolve
from pipelines.shared.settings import load_settings
from replication.errors import Stopped
from replication.fileio import read_json, sha256_json, write_json, write_text
from replication.predictions import gold_file
from replication.records import versions

PARAMS, LOCK = Path("pipelines/cpu/params.yaml"), Path("pipelines/cpu/dvc.lock")
CELLS = ("e2e-long-lora", "e2e-long-solo-k2")
CHECKPOINTS = Path("checkpoints/cpu")
HASHES = CHECKPOINTS / "adapters.json"


def cell(name: str) -> Experiment:
    """One experiment of the profile."""
    return resolve(load_settings(PARAMS), name)


def finished(plan: Experiment, seed: int) -> Path:
    """Where a trained seed lies."""
    return finetune.scratch_of(plan, seed, plan.identity(seed)) / "finished"


def train(job: str) -> None:
    """Train one seed, `<cell>:<seed>`."""
    name, _, seed = job.partition(":")
    finetune.finished_seed(cell(name), int(seed))


def decode(job: str) -> None:
    """Decode one trained seed."""
    name, _, seed = job.partition(":")
    plan = cell(name)
    target = plan.run / "adapter" / f"seed-{seed}"
    if not target.is_dir():
        shutil.copytree(finished(plan, int(seed)) / "adapter", target)
    predict.checked_gold(plan)
    predict.finished_seed(plan, int(seed))


def decoded_of(plan: Experiment, seed: int, adapter: str) -> Path:
    """Where the predictions of the adapter with this hash lie, by the name that `predict` gives them."""
    identity = {**plan.identity(seed, "predict"), "decoding": plan.options.recorded(), "adapter": adapter}
    return plan.scratch / "predict" / f"seed-{seed}-{sha256_json(identity)[:12]}"


def files(folder: Path) -> list[Path]:
    """All files below, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def adapters() -> dict[str, dict[str, Any]]:
    """Size and hashes of every file of an adapter that is here, or that the last pack knew."""
    known: dict[str, dict[str, Any]] = read_json(HASHES) if HASHES.is_file() else {}
    for folder in CHECKPOINTS.glob("*/finetune/seed-*/finished/adapter"):
        name, seed = folder.parents[3].name, folder.parents[1].name.split("-")[1]
        for path in files(folder):
            data = path.read_bytes()
            known[f"{name}/adapter/seed-{seed}/{path.relative_to(folder)}"] = {
                "size": len(data),
                "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
    return dict(sorted(known.items()))


def pack(target: str) -> None:
    """Everything that another machine needs to go on, without adapters."""
    write_text(HASHES, json.dumps(adapters(), indent=1) + "\n")
    kept = [HASHES, *(Path("searches/cpu") / f"{name}.json" for name in CELLS)]
    for folder in sorted(CHECKPOINTS.glob("*/finetune/seed-*/finished")):
        kept += [path for path in files(folder) if path.relative_to(folder).parts[0] != "adapter"]
    kept += [path for folder in sorted(CHECKPOINTS.glob("*/predict/seed-*")) for path in files(folder)]

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        info.mode = 0o644
        return info

    with tarfile.open(target, "w:xz", preset=9) as tar:
        for path in kept:
            tar.add(path, filter=plain)
    print(f"{len(kept)} files, {Path(target).stat().st_size:,} bytes")


def assemble(name: str) -> None:
    """The outputs of `finetune` and `predict` of one cell as the stages write them, and their entries in dvc.lock. The
    hash of adapters that are on another machine is made from those of their files.
    """
    plan = cell(name)
    planned = tuple(f"{name}/adapter/seed-{seed}/" for seed in plan.seeds)
    known = {path: found for path, found in adapters().items() if path.startswith(planned)}
    tuned: dict[int, Any] = {}
    decoded: dict[int, Any] = {}
    sha256: dict[str, str] = {}
    for seed in plan.seeds:
        mine = {path: found for path, found in known.items() if path.startswith(f"{name}/adapter/seed-{seed}/")}
        sha256[str(seed)] = next(found["sha256"] for path, found in mine.items() if path.endswith(".safetensors"))
        for path in mine:  # what is not here has a stand-in, whose hash the lock gets
            if not (plan.run.parent / path).is_file():
                write_text(plan.run.parent / path, "on another machine")
        shutil.copytree(finished(plan, seed) / "training", plan.run / "training" / f"seed-{seed}", dirs_exist_ok=True)
        done = decoded_of(plan, seed, sha256[str(seed)])
        (plan.run / "predictions").mkdir(exist_ok=True)
        shutil.copy(done / "predictions.jsonl", plan.run / "predictions" / f"seed-{seed}.jsonl")
        tuned[seed], decoded[seed] = read_json(finished(plan, seed) / "cost.json"), read_json(done / "cost.json")
    made_with = {"code_sha256": plan.code("predict"), "versions": versions()}
    decoding = {"decoding": plan.options.recorded(), "adapter_sha256": sha256, **gold_file(plan.gold).to_dict()}
    write_json(plan.run / "predictions" / "decoding.json", {**decoding, **made_with})
    write_cost(plan.run, "training", tuned, threads=plan.threads)
    write_cost(plan.run, "prediction", decoded, threads=plan.threads)
    stages = [f"pipelines/cpu/dvc.yaml:{stage}@{name}" for stage in ("finetune", "predict")]
    subprocess.run([sys.executable, "-m", "dvc", "commit", "--force", *stages], check=True)
    correct_lock(name, known)


def correct_lock(name: str, known: dict[str, dict[str, Any]]) -> None:
    """The hash of the cell's adapters in dvc.lock, from those of their files."""
    start = f"{name}/adapter/"
    rows = [
        {"md5": found["md5"], "relpath": p.removeprefix(start)} for p, found in known.items() if p.startswith(start)
    ]
    listing = json.dumps(sorted(rows, key=lambda row: row["relpath"]), sort_keys=True)
    right = {
        "md5": hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + ".dir",
        "size": sum(found["size"] for path, found in known.items() if path.startswith(start)),
        "nfiles": len(rows),
    }
    with modify_yaml(LOCK) as lock:
        for stage, part in (("finetune", "outs"), ("predict", "deps")):
            for entry in lock["stages"][f"{stage}@{name}"][part]:
                if entry["path"].endswith(f"/{name}/adapter"):
                    entry.update(right)


COMMANDS = {"train": train, "decode": decode, "pack": pack, "assemble": assemble}


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"{__doc__}\ncommands: {', '.join(COMMANDS)}")
    if not Path(finetune.__file__).is_relative_to(Path.cwd()):
        sys.exit(f"this would run the code of {finetune.__file__}, not of this work tree: export PYTHONPATH=$PWD")
    signals.obey()
    try:
        for argument in sys.argv[2:] or (CELLS if sys.argv[1] == "assemble" else ()):
            print(sys.argv[1], argument, flush=True)
            COMMANDS[sys.argv[1]](argument)
    except Stopped as stopped:
        print(stopped, flush=True)
        sys.exit(128 + stopped.number)
