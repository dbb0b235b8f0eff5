"""`make rehearse`: the paper profile against a loopback copy of the hub, without a GPU and without a network.

All experiments, settings, repository names, revisions and layouts are the profile's; weights are tiny and random,
corpora have a few rows, odd ones among them. `replicate smoke` runs as on a user's machine; then the hub misbehaves.
Everything runs in child processes, which learn of the hub from HF_ENDPOINT, in a temporary folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from loopback_corpora import publish_tiny_corpora
from loopback_hub import LoopbackHub, publish_tiny_models, serve

ROOT = Path(__file__).resolve().parents[1]
PROFILE = "smoke-paper"
ODD = {
    "qqp": {"empty first text": 1, "empty second text": 1},
    "squad_v1": {"empty question": 1, "answer inside a word": 1},
    "squad_v2": {"empty question": 1, "answer inside a word": 1},
    "xsum": {"empty document": 1},
    "cnn_dailymail": {"empty document": 1, "empty summary": 1},
}
"""Odd rows of a split of each corpus that has some."""
CHUNK = 10 * 2**20
"""Bytes that huggingface_hub keeps at a time: what it resumes from."""


def main(jobs: int) -> None:
    """Everything, in a temporary folder; a failed check ends it with exit code 1."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        published, hub = folder / "published", LoopbackHub()
        publish_tiny_models(hub, published)
        publish_tiny_corpora(hub, published)
        with serve(hub):
            said("hub", started)
            full = hub.environment(folder / "full", published)
            smoke(folder, full, jobs)
            said("every experiment checked, every kind run, report built", started)
            paper_report(folder, full)
            said("the profile's own report built from the same files", started)
            faults(hub, folder, hub.environment(folder / "faults", published))
            said("gated, missing, stalled and cut downloads explained", started)
            offline(folder, full, hub.environment(folder / "empty", published))
            said("offline: the cache is used, and without it the error says so", started)


def said(what: str, started: float) -> None:
    """One line of progress."""
    print(f"rehearsal: {what} ({time.perf_counter() - started:.0f} s)", flush=True)


def check(holds: bool, *what: object) -> None:
    """End the rehearsal if something does not hold."""
    if not holds:
        sys.exit("rehearsal: FAILED: " + " ".join(map(str, what)))


# --- the smoke run


def smoke(folder: Path, environment: Mapping[str, str], jobs: int) -> None:
    """All stages of one experiment of each kind, the preflight of the others, and what they leave behind."""
    output = folder / "smoke"
    options = ["--profile", "paper", "--examples", "6", "--jobs", str(jobs), "--json"]
    places = ["--output", str(output), "--weights", str(folder / "weights")]
    command = [sys.executable, "-m", "pipelines.commands.smoke", *options, *places]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    check(bool(done.stdout), "no answer of the smoke run")
    cells = json.loads(done.stdout)["cells"]
    wrong = [f"{cell['kind']}@{cell['key']}: {cell['error']}" for cell in cells if cell["state"] != "ok"]
    check(not wrong and done.returncode == 0, "\n".join(wrong), logs(output))
    check((output / "reports" / PROFILE / "index.html").is_file(), "no report")
    for task, odd in ODD.items():
        for split in ("train", "test"):
            check(odd_rows(output, task, split) == odd, task, split, odd_rows(output, task, split))
    for key in (cell["key"] for cell in cells if cell["kind"] == "run"):
        run = output / "runs" / PROFILE / key
        record = json.loads(next(run.glob("training/seed-*/record.json")).read_text())
        check(record["profile"] == PROFILE, key, "has a record of the profile", record["profile"])
        gold = (output / "gold" / PROFILE / f"{record['task']}.jsonl").read_text().splitlines()
        predictions = next(run.glob("predictions/seed-*.jsonl")).read_text().splitlines()
        check(len(gold) == len(predictions) > 0, key, len(predictions), "predictions of", len(gold))
        scores = json.loads((run / "scores.json").read_text())
        check(all(scores[name] is not None for name in scores["metrics"]), key, scores["metrics"], scores["missing"])
        rate = record["training"]["learning_rate"]
        check(rate == searched(output, key, rate), key, "has another rate than its search found:", rate)
    check(any(cell["kind"] == "search" for cell in cells), "no search ran")
    selected(output)


def searched(output: Path, key: str, rate: float) -> float:
    """The rate that the experiment's search found; `rate` if it has none."""
    settings = yaml.safe_load((output / "params.yaml").read_text())
    asked = settings["experiments"][key]["learning_rate"]
    if not isinstance(asked, dict):
        return rate
    return float(json.loads((output / "searches" / PROFILE / f"{asked['search']}.json").read_text())["best"])


def selected(output: Path) -> None:
    """Adapters were removed and expanded, and an update followed."""
    for key, method in (("cola-weight-lora", "weight_lora"), ("cola-weight-lora-plus", "weight_lora_plus")):
        training = output / "runs" / PROFILE / key / "training/seed-18"
        choices, record = (json.loads((training / name).read_text()) for name in ("selection.json", "record.json"))
        kept = 10 if method == "weight_lora" else 5
        check(len(choices["survivors"]) == kept, key, choices["survivors"])
        check(record["counts"]["trainable"] < record["counts_at_start"]["trainable"], key, record["counts"])


def paper_report(folder: Path, environment: Mapping[str, str]) -> None:
    """The report that compares with published figures, which a smoke run's does not: from its files, renamed."""
    home = folder / "as-paper"
    with worker(home, environment) as ask:
        for kind in ("runs", "gold"):
            shutil.copytree(folder / "smoke" / kind / PROFILE, home / kind / "paper")
        for path in (home / "runs").rglob("*.json"):
            path.write_text(path.read_text().replace(f'"profile": "{PROFILE}"', '"profile": "paper"'))
        error = ask("report", "report")
        check(error is None, "the report of the profile:", error)
        check((home / "reports/paper/index.html").is_file(), "no report of the profile")


def odd_rows(output: Path, task: str, split: str) -> dict[str, int]:
    """How many odd rows of each kind a prepared split has."""
    from replication.corpora.registry import describe
    from replication.corpora.rows import odd_rows as count

    lines = (output / "prepared" / PROFILE / task / f"{split}.jsonl").read_text().splitlines()
    return count(describe(task)["form"], [json.loads(line) for line in lines])


def logs(output: Path) -> str:
    """The end of every log."""
    found = sorted((output / "logs").glob("*.log"))
    return "".join(f"\n== {path.name}\n" + "\n".join(path.read_text().splitlines()[-40:]) for path in found)


# --- a hub that misbehaves


@contextmanager
def worker(folder: Path, environment: Mapping[str, str]) -> Iterator[Any]:
    """`ask(kind, key)` runs one stage in a process of its own, in `folder`, with the profile's own settings."""
    folder.mkdir()
    settings = (ROOT / "pipelines/paper/params.yaml").read_text()
    (folder / "params.yaml").write_text(settings.replace("pipelines/paper/params.yaml", "params.yaml"))
    for name in ("paper_results", "replication"):
        (folder / name).symlink_to(ROOT / name)
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "pipelines.commands.smoke_worker"]
        process = subprocess.Popen(command, cwd=folder, env=dict(environment), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=log, text=True)  # fmt: skip

        def ask(kind: str, key: str) -> str | None:
            process.stdin.write(json.dumps({"kind": kind, "key": key}) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            check(bool(answer), "the worker ended:", (folder / "log").read_text()[-2000:])
            return json.loads(answer)["error"]

        try:
            yield ask
        finally:
            process.stdin.close()
            process.wait()


def faults(hub: LoopbackHub, folder: Path, environment: Mapping[str, str]) -> None:
    """Each fault is explained, leaves nothing half written, and is over when the hub is well again."""
    home = folder / "with-faults"
    of = {name: hub.repositories[f"{kind}/{hub_id}"] for name, kind, hub_id in (
        ("llama", "models", "meta-llama/Llama-3.1-8B"),
        ("gpt2", "models", "openai-community/gpt2-medium"),
        ("glue", "datasets", "nyu-mll/glue"),
        ("squad", "datasets", "rajpurkar/squad"),
    )}  # fmt: skip

    def explained(error: str | None, *parts: str) -> None:
        check(error is not None and all(part in error for part in parts), "expected", parts, "in", error)

    with worker(home, {**environment, "HF_HUB_DOWNLOAD_TIMEOUT": "1"}) as ask:
        of["llama"].gated = True
        explained(ask("pretrain", "llama-3.1-8b"), "meta-llama/Llama-3.1-8B", "accept the licence", "hf auth login")
        of["llama"].gated = False

        for name, kind, key in (("gpt2", "pretrain", "gpt2-medium"), ("glue", "prepare", "rte")):
            revision, of[name].revision = of[name].revision, "0" * 40
            explained(ask(kind, key), revision, "To fix it")
            of[name].revision = revision

        hub.stall = {"model.safetensors", "train-00000-of-00001.parquet"}
        explained(ask("pretrain", "gpt2-medium"), "gpt2-medium", "To fix it")
        explained(ask("prepare", "squad_v1"), "rajpurkar/squad", "To fix it")
        hub.stall = set()
        check(not any((home / "weights").glob("gpt2*")), "a stalled download left", *(home / "weights").glob("*"))
        check(not any((home / "prepared").rglob("*.jsonl")), "a stalled download left prepared rows")

        hub.cut = {"model.safetensors": [CHUNK + 1000]}
        hub.ranges.clear()
        check(ask("pretrain", "gpt2-medium") is None, "a cut download is not resumed")
        check(bool(hub.ranges), "a cut download began anew")
        check(ask("pretrain", "llama-3.1-8b") is None, "access granted, but not fetched")
        check(ask("prepare", "rte") is None, "the revision is back, but not loaded")


def offline(folder: Path, full: Mapping[str, str], empty: Mapping[str, str]) -> None:
    """Without a network the caches serve what they hold; what they do not is named with the way to get it."""
    off = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    with worker(folder / "from-cache", {**full, **off}) as ask:
        for kind, key in (("pretrain", "deberta-v3-base"), ("prepare", "qqp"), ("prepare", "xsum"), ("prepare", "e2e")):
            error = ask(kind, key)
            check(error is None, "offline with a full cache:", error)
    with worker(folder / "from-nothing", {**empty, **off}) as ask:
        wanted = (
            ("pretrain", "deberta-v3-base", "microsoft/deberta-v3-base"),
            ("prepare", "qqp", "nyu-mll/glue"),
            ("prepare", "xsum", "EdinburghNLP/xsum"),
        )
        for kind, key, named in wanted:
            error = ask(kind, key)
            check(error is not None and named in error and "To fix it" in error, "offline without a cache:", error)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    main(jobs=int(sys.argv[1]) if sys.argv[1:] else 2)
