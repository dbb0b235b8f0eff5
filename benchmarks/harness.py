"""One way to measure: contenders in turn (A B A B ...), the first rounds discarded, ratios within a round.

A machine whose speed drifts, or that others use too, slows neighbours of one round alike; so what counts is the ratio
of two contenders in the same round, and its median and quartiles over the rounds. Memory is read in a fresh process for
each contender, since a process's peak never falls.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from replication.fileio import write_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
"""Wall time is what a user waits; the processor time of all threads hardly depends on what else the machine does."""
PACKAGES = ("torch", "transformers", "peft", "numpy")

Work = Callable[[], Any]


@dataclass(frozen=True)
class Benchmark:
    """`contenders`: what prepares each one and returns the call to time. `base` is what the others are divided by.

    `same_results`: what the calls return must be equal. `count`: exact numbers that no clock gives (bytes saved for
    backward), of a prepared contender, by their name.
    """

    about: str
    base: str
    contenders: Mapping[str, Callable[[], Work]]
    rounds: int = 7
    warmup: int = 1
    memory: bool = False
    same_results: bool = False
    count: Callable[[Work], Mapping[str, int]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def in_turn(
    works: Mapping[str, Work],
    rounds: int,
    warmup: int = 1,
    clocks: Mapping[str, Callable[[], float]] = CLOCKS,
    progress: Callable[[str], None] = say,
    after: Callable[[int, Mapping[str, Mapping[str, list[float]]]], None] = lambda rounds, taken: None,
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each round by clock and contender; `warmup` rounds before them are not kept. `after` each kept round
    it is called with how many there are, and the seconds.
    """
    taken: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in works} for clock in clocks}
    for turn in range(warmup + rounds):
        progress(f"  round {turn - warmup + 1} of {rounds}" if turn >= warmup else "  warm-up")
        for name, work in works.items():
            started = {clock: read() for clock, read in clocks.items()}
            work()
            spent = {clock: read() - started[clock] for clock, read in clocks.items()}
            if turn >= warmup:
                for clock, seconds in spent.items():
                    taken[clock][name].append(seconds)
        if turn >= warmup:
            after(turn - warmup + 1, taken)
    return taken


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles, to four significant digits."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {name: float(f"{value:.4g}") for name, value in (("median", middle), ("q1", low), ("q3", high))}


def paired_ratios(seconds: Mapping[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """Spread over the rounds of each contender's seconds over those of `base` in the same round."""
    return {
        name: spread([own / other for own, other in zip(taken, seconds[base], strict=True)])
        for name, taken in seconds.items()
    }


def measure(name: str, benchmark: Benchmark, rounds: int | None = None, output: Path = RESULTS) -> dict[str, Any]:
    """Run one benchmark; what is written to `output`/<name>.json, from the third round on after every round: a run that
    is stopped leaves the rounds it has.
    """
    rounds = rounds or benchmark.rounds
    say(f"{name}: {benchmark.about}")
    load = [round(value, 2) for value in os.getloadavg()]
    memory = {one: peak_of(name, one) for one in benchmark.contenders} if benchmark.memory else {}
    works = {one: prepare() for one, prepare in benchmark.contenders.items()}
    if benchmark.same_results:
        works = _compared(name, works)
    counted = {one: dict(benchmark.count(work)) for one, work in works.items()} if benchmark.count else {}
    exact = {quantity: {one: counted[one][quantity] for one in works} for quantity in next(iter(counted.values()), {})}
    if memory:
        exact["peak_memory_bytes"] = memory
    result: dict[str, Any] = {}

    def write(done: int, taken: Mapping[str, Mapping[str, list[float]]]) -> None:
        if done < min(3, rounds):
            return
        result.update(
            about=benchmark.about,
            settings=dict(benchmark.settings),
            base=benchmark.base,
            rounds=done,
            machine=machine(load),
            seconds={clock: {one: spread(values) for one, values in by.items()} for clock, by in taken.items()},
            ratios={clock: paired_ratios(by, benchmark.base) for clock, by in taken.items()},
            counts=exact,
        )
        write_json(output / f"{name}.json", result)

    in_turn(works, rounds, benchmark.warmup, CLOCKS, say, write)
    return result


def _compared(name: str, works: Mapping[str, Work]) -> dict[str, Work]:
    """The same calls; an AssertionError at the first that returns something else than the first one did."""
    first: list[Any] = []

    def checked(one: str, work: Work) -> Work:
        def call() -> None:
            found = work()
            first[:] = first or [found]
            assert found == first[0], f"{name}: {one} does not return what the other contenders return"

        return call

    return {one: checked(one, work) for one, work in works.items()}


def machine(load: list[float]) -> dict[str, Any]:
    """Processor, cores, threads, versions, day, and the load averages before and after."""
    from importlib.metadata import version

    from replication.records import machine_conditions

    return {
        "cpu": machine_conditions().cpu,
        "cores": os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "load_before": load,
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": sys.version.split()[0],
        **{package: version(package) for package in PACKAGES},
    }


def peak_of(benchmark: str, contender: str) -> int:
    """Peak resident bytes of a fresh process that prepares one contender and calls it twice."""
    command = [sys.executable, "-m", "benchmarks", "memory-of", benchmark, contender]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout)


def table(name: str, result: Mapping[str, Any]) -> str:
    """A result for reading."""
    base, ratios = result["base"], result["ratios"]
    lines = [f"{name}: {result['about']}", f"ratios to {base}: median (quartiles) of {result['rounds']} rounds"]
    heads = [*(f"{clock} time" for clock in ratios), *result["counts"]]
    lines.append(f"{'':<34}" + "".join(f"{head:>24}" for head in heads))
    for one in next(iter(ratios.values())):
        cells = [f"{by[one]['median']:.3f} ({by[one]['q1']:.3f}-{by[one]['q3']:.3f})" for by in ratios.values()]
        cells += [f"{values[one] / values[base]:.3f}" for values in result["counts"].values()]
        lines.append(f"{one:<34}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)
