"""How time and memory grow: a training step against K, rank, depth and length; beam search against beams; the report
against its records. `make bench-growth` writes results/growth.json.

Shapes are small, since the slope counts and not the size: GPT-2 blocks of width 256 and a vocabulary of 1,024.
"""

from __future__ import annotations

import gc
import importlib.util
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import RESULTS, ROOT, Work, in_turn, machine, say
from replication.errors import ConfigError
from replication.fileio import read_json, write_json

SHAPE = {"n_embd": 256, "n_head": 4, "n_layer": 6, "vocab_size": 1024}
RECORDS = (50, 500, 5000)


@dataclass(frozen=True)
class Curve:
    """`make(x)` prepares the call at size x. `needs`: the exponent that the method itself has at large sizes."""

    about: str
    sizes: tuple[int, ...]
    make: Callable[[int], Work]
    needs: float
    counts: bool = True


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Slope between the two largest sizes on logarithmic axes: 1 is linear, 2 is quadratic."""
    return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def curves() -> dict[str, Curve]:
    """Everything but the report."""
    from benchmarks.decoding import search
    from benchmarks.steps import ours, selected

    def lora(rank: int = 8, length: int = 64, depth: int = 6) -> Work:
        shape = {**SHAPE, "n_layer": depth, "length": length}
        return ours("gpt2", "lora", shape, rank=rank, targets=("c_attn",))

    def solo(depth: int) -> Work:
        return ours("gpt2", "solo_connection", {**SHAPE, "n_layer": depth}, rank=60, skip_length=2)

    def kept(number: int) -> Work:
        return selected(lambda block, role: role == "value" and block < number, "gpt2", **{**SHAPE, "n_layer": 16})

    return {
        "K": Curve("WeightLoRA after selection, values of blocks 0 to K-1 of 16", (1, 2, 4, 8, 16), kept, 1),
        "rank": Curve("LoRA on c_attn", (4, 16, 64, 256), lambda rank: lora(rank=rank), 1),
        "depth": Curve("LoRA on c_attn, blocks", (3, 6, 12, 24), lambda depth: lora(depth=depth), 1),
        "depth, Solo": Curve("Solo Connection k=2, blocks", (4, 8, 16, 32), solo, 1),
        "length": Curve("LoRA on c_attn, tokens", (64, 128, 256, 512), lambda length: lora(length=length), 2),
        "beams": Curve("beam search of 4 prompts, 16 tokens", (1, 2, 4, 8, 16), lambda n: search(n, 16, 4), 1, False),
    }


def grown(name: str, curve: Curve, rounds: int = 3) -> dict[str, Any]:
    """Median processor seconds at each size, in turn, and bytes saved for backward."""
    from benchmarks.steps import counted

    say(f"growth: {name}: {curve.about}")
    works = {str(size): curve.make(size) for size in curve.sizes}
    taken = in_turn(works, rounds, clocks={"processor": time.process_time})["processor"]
    result = described(curve.about, curve.sizes, [float(np.median(taken[size])) for size in works], curve.needs)
    if curve.counts:
        saved = [counted(work)["saved_bytes"] for work in works.values()]
        result |= {"saved_bytes": saved, "saved_exponent": round(exponent(curve.sizes, saved), 2)}
    return result


def described(about: str, sizes: Sequence[int], seconds: Sequence[float], needs: float) -> dict[str, Any]:
    """One curve's numbers."""
    return {
        "about": about,
        "sizes": list(sizes),
        "seconds": [float(f"{value:.4g}") for value in seconds],
        "exponent": round(exponent(sizes, seconds), 2),
        "needs": needs,
    }


def report(records: Sequence[int] = RECORDS) -> dict[str, Any]:
    """Processor seconds of the whole report of made-up runs, five seeds an experiment."""
    say("growth: report")
    seconds = []
    for number in records:
        with tempfile.TemporaryDirectory() as folder:
            runs = made_up_runs(Path(folder) / "runs", number)
            gc.collect()
            started = time.process_time()
            build(runs, Path(folder) / "report")
            seconds.append(time.process_time() - started)
        say(f"  {number} records: {seconds[-1]:.1f} s")
    return described("building the report, records (seeds of experiments)", records, seconds, 1)


def build(runs: Path, output: Path) -> None:
    """All of the report but the sections that other files feed."""
    from analysis.show.report import build_report

    build_report(profile=runs.name, runs=runs, output=output, sections=())


def made_up_runs(root: Path, records: int, seeds: int = 5) -> Path:
    """A runs folder with `records` / `seeds` experiments, LoRA and Solo Connection of many ranks beside one another."""
    spec = importlib.util.spec_from_file_location("synthetic_runs", ROOT / "tests/analysis/synthetic_runs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    methods: dict[str, str] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    for number in range(records // seeds):
        name = f"run-{number}"
        methods[name] = ("lora", "solo_connection")[number % 2]
        settings[name] = {"rank": 1 + number // 2}
    made: Path = module.write_runs(
        root, experiments=list(methods), methods=methods, settings=settings, seeds=range(seeds), items=5
    )
    return made


def measure_growth(only: Sequence[str] = (), output: Path = RESULTS) -> dict[str, Any]:
    """Run all, or those named, and update results/growth.json; ConfigError for a name that is none."""
    path = output / "growth.json"
    result = read_json(path) if path.is_file() else {"curves": {}}
    load = [round(value, 2) for value in os.getloadavg()]
    wanted = {name: lambda name=name, curve=curve: grown(name, curve) for name, curve in curves().items()}
    wanted["report"] = report
    if wrong := [name for name in only if name not in wanted]:
        raise ConfigError(f"--only {wrong[0]}: no such curve; curves: {'; '.join(wanted)}")
    for name, run in wanted.items():
        if not only or name in only:
            result["curves"][name] = run()
            result["machine"] = machine(load)
            write_json(path, result)  # a run that is stopped leaves the curves it has
    return result


def table(result: Mapping[str, Any]) -> str:
    """For reading, as Markdown."""
    lines = [
        "| against | sizes | processor seconds | exponent, time | exponent, saved bytes | needed |",
        "|---|---|---|---|---|---|",
    ]
    for name, curve in result["curves"].items():
        sizes, seconds = (", ".join(f"{value:g}" for value in curve[key]) for key in ("sizes", "seconds"))
        saved = curve.get("saved_exponent", "")
        needs = f"{curve['needs']:g}"
        lines.append(f"| {name}: {curve['about']} | {sizes} | {seconds} | {curve['exponent']} | {saved} | {needs} |")
    missing = [name for name in (*curves(), "report") if name not in result["curves"]]
    return "\n".join([*lines, *(f"| {name} | not measured | | | | |" for name in missing)])
