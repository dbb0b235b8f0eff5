"""Kill stages of a tiny profile at random moments and run them again: do they end in the bytes of an undisturbed run?

`python tests/pipelines/kills.py FOLDER [SEED]`, in the environment of the tests. Every start is a fork of this
process, which has imported everything and run nothing. Half of the moments are shares of the processor time that the
undisturbed stage took (so a busy machine does not shift them), half are its n-th call that touches a file, where
half-written things are.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

from pipelines import finetune, predict, prepare, pretrain, report, score, search

ROOT = Path(__file__).resolve().parents[2]
PARAMS, TASK, BACKBONE, KEY, CASE = (
    Path("params.yaml"),
    "sentiment",
    "microworld-deberta",
    "sentiment-weight-lora",
    "lora",
)
RUN = Path("runs/quick") / KEY
SHORT = {"steps": 6, "batch_size": 2, "warmup_steps": 1, "eval_every": 2, "checkpoint_every": 2, "log_every": 1}
FILES = ("open", "os.", "shutil.", "tempfile.")
Stage = tuple[Callable[[], object], list[Path], int]
STAGES: dict[str, Stage] = {  # what runs, what it writes, how often it is killed
    "prepare": (lambda: prepare.main(PARAMS, TASK), [Path("prepared"), Path("gold")], 2),
    "pretrain": (lambda: pretrain.main(PARAMS, BACKBONE), [Path("weights")], 7),
    "search": (lambda: search.main(PARAMS, CASE), [Path("searches")], 5),
    "finetune": (lambda: finetune.main(PARAMS, KEY), [RUN / "adapter", RUN / "training"], 8),
    "predict": (lambda: predict.main(PARAMS, KEY), [RUN / "predictions"], 4),
    "score": (lambda: score.main(PARAMS, KEY), [RUN / "scores.json", RUN / "metrics.json"], 2),
    "report": (lambda: report.main(PARAMS), [Path("reports")], 2),
}


def write_profile() -> None:
    """The quick profile cut down to one experiment of two seeds and one search, in this folder."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    rows = str(ROOT / "data/microworld-tasks")
    content["tasks"] = {TASK: content["tasks"][TASK]}
    content["tasks"][TASK].update(source=rows, train_examples=16, dev_examples=4, test_items=6)
    content["tasks"][TASK]["training"].update(SHORT)
    content["backbones"] = {BACKBONE: content["backbones"][BACKBONE]}
    content["backbones"][BACKBONE]["source"] = rows
    content["backbones"][BACKBONE]["pretraining"]["training"].update(SHORT)
    content["experiments"] = {KEY: {**content["experiments"][KEY], "seeds": [18, 52], "search": None}}
    content["methods"]["weight_lora"]["k3"].update(keep=2, selection_steps=3)
    lora = content["searches"]["deberta-lora"]
    content["searches"] = {CASE: lora}
    content["search"][lora["plan"]].update(steps=4, held_out_examples=2, learning_rates=[0.001, 0.004], extensions=0)
    PARAMS.write_text(yaml.safe_dump({**content, "memory": None}))
    shutil.copytree(ROOT / "paper_results", "paper_results")


def start(work: Callable[[], object], at_event: int = 0, measure: Path | None = None) -> int:
    """Fork, run `work` in a session of its own, kill it at its n-th event; returns the process's id."""
    if pid := os.fork():
        return pid
    os.setsid()
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    events = 0

    def count(event: str, _: object) -> None:
        nonlocal events
        events += event.startswith(FILES)
        if events == at_event:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    status = 1
    try:
        work()
        if measure:
            found = {"events": events, "seconds": time.process_time(), "modules": sorted(sys.modules)}
            measure.write_text(json.dumps(found))
        status = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


def undisturbed(work: Callable[[], object], outputs: list[Path]) -> dict:
    """Events and processor seconds of a whole run, once all that it imports is imported here."""
    for _ in range(2):
        remove(outputs)
        if status := ended(start(work, measure=Path("measured.json"))):
            raise SystemExit(f"exit status {status}: {Path('log.txt').read_text()}")
        measured = json.loads(Path("measured.json").read_text())
        for name in measured.pop("modules"):
            with suppress(Exception):
                importlib.import_module(name)
    return measured


def killed(pid: int, seconds: float) -> bool:
    """Wait for the end; kill the process once it has used so much processor time. Whether it was killed."""
    process = psutil.Process(pid)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if sum(process.cpu_times()[:2]) >= seconds:
            os.killpg(pid, signal.SIGKILL)
            return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        time.sleep(0.002)
    return False


def ended(pid: int) -> int:
    """The exit status, or minus the signal."""
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):  # what the stage started goes with it
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def written(paths: list[Path]) -> dict[str, bytes]:
    """Every file, hidden ones too, but what the run cost."""
    files = [path for top in paths for path in ([top] if top.is_file() else sorted(top.rglob("*"))) if path.is_file()]
    return {path.as_posix(): path.read_bytes() for path in files if not path.name.startswith("cost.")}


def remove(paths: list[Path]) -> None:
    """Outputs and whatever the stage keeps of its work."""
    for path in [*paths, Path("checkpoints")]:
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)


def moment(name: str, stage: Stage, before: dict[str, bytes], usual: dict[str, float], chance: random.Random) -> dict:
    """Kill the stage once, run it again; what differs from the undisturbed run."""
    work, outputs, _ = stage
    remove(outputs)
    by_event = chance.random() < 0.5
    at = chance.randint(1, int(usual["events"])) if by_event else chance.uniform(0, usual["seconds"])
    pid = start(work, at_event=int(at) if by_event else 0)
    was_killed = ended(pid) == -signal.SIGKILL if by_event else killed(pid, at)
    status = ended(start(work))
    after = written(outputs)
    differing = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    hidden = [str(path) for path in Path().rglob(".*.*") if path.name.endswith((".partial", ".replaced"))]
    where = f"event {at:.0f} of {usual['events']:.0f}" if by_event else f"{at:.2f} of {usual['seconds']:.2f} s"
    return {
        "stage": name, "moment": where, "killed": was_killed, "status": status, "differing": differing, "hidden": hidden
    }  # fmt: skip


def main(folder: str, seed: str = "7") -> int:
    """Every stage undisturbed, then the kills, one line of JSON each."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    write_profile()
    usual, before, chance = {}, {}, random.Random(int(seed))
    for name, (work, outputs, _) in STAGES.items():
        usual[name], before[name] = undisturbed(work, outputs), written(outputs)
    faults = 0
    for name, stage in STAGES.items():
        for _ in range(stage[2]):
            found = moment(name, stage, before[name], usual[name], chance)
            faults += bool(found["status"] or found["differing"] or found["hidden"])
            print(json.dumps(found), flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
