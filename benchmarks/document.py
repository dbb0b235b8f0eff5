"""docs/benchmarks.md: its tables from the results and the goals. `python -m benchmarks document` refreshes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import growth
from benchmarks.goals import GOALS, check, load_goals
from benchmarks.harness import RESULTS, ROOT
from replication.fileio import read_json

DOCUMENT = ROOT / "docs" / "benchmarks.md"
_TABLE = re.compile(r"(<!-- table:(\w+) -->\n).*?(<!-- /table:\2 -->)", re.DOTALL)


def with_tables(text: str, results: Path = RESULTS, goals: Path = GOALS) -> str:
    """The text with every marked table made anew."""
    grown = results / "growth.json"
    made: dict[str, Callable[[], str]] = {
        "goals": lambda: goals_table(results, goals),
        "ratios": lambda: ratios_table(results),
        "growth": lambda: (
            growth.table(read_json(grown)) if grown.is_file() else "Not measured: run `make bench-growth`."
        ),
    }
    return _TABLE.sub(lambda found: f"{found[1]}{made[found[2]]()}\n{found[3]}", text)


def goals_table(results: Path, goals: Path) -> str:
    """Each goal with what was measured."""
    lines = ["| what | measured | goal | tolerance | |", "|---|---|---|---|---|"]
    for one in check(load_goals(goals), results):
        measured = "" if one.measured is None else f"{one.measured:.3f}"
        met = "not measured" if one.measured is None else "met" if one.met else "missed"
        lines.append(f"| {one.what} | {measured} | {one.goal:g} | {one.tolerance:g} | {met} |")
    return "\n".join(lines)


def ratios_table(results: Path) -> str:
    """Every contender of every benchmark over its base: median (quartiles) of each clock, and counts."""
    lines = [
        "| benchmark, contender | processor | wall | bytes saved | products | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    conditions = []
    for path in sorted(results.glob("*.json")):
        result = read_json(path)
        if "ratios" not in result:
            continue
        for name in result["ratios"]["processor"]:
            if name != result["base"]:
                lines.append(f"| {path.stem}, {name} | {' | '.join(_cells(result, name))} |")
        machine = result["machine"]
        conditions.append(
            f"{path.stem}: {result['about']}; divided by {result['base']}; {result['rounds']} rounds, "
            f"{machine['date']}, {machine['cpu']}, {machine['threads']} threads on {machine['cores']} cores, load "
            f"{machine['load_before'][0]:g} before and {machine['load_after'][0]:g} after, torch {machine['torch']}, "
            f"transformers {machine['transformers']}, peft {machine['peft']}."
        )
    return "\n".join([*lines, "", *(f"- {line}" for line in conditions)])


def _cells(result: dict[str, Any], name: str) -> list[str]:
    cells = []
    for clock in ("processor", "wall"):
        found = result["ratios"][clock][name]
        cells.append(f"{found['median']:.3f} ({found['q1']:.3f} to {found['q3']:.3f})")
    for quantity in ("saved_bytes", "matmul_operations", "peak_memory_bytes"):
        counts = result["counts"].get(quantity)
        cells.append(f"{counts[name] / counts[result['base']]:.3f}" if counts else "")
    return cells
