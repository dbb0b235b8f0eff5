"""`python -m benchmarks`: run benchmarks, or compare their committed results with the goals."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.goals import GOALS, check, load_goals
from benchmarks.harness import RESULTS, Benchmark, measure, table
from replication.errors import ReplicationError, printable

BENCHMARKS = {
    "gpt2": "steps",
    "deberta": "steps",
    "llama": "steps",
    "decoding": "decoding",
    "batching": "batching",
    "bootstrap": "bootstrap",
    "precision": "precision",
}
"""Each benchmark with the module of its function: only what is run is imported."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
Results = Annotated[Path, typer.Option(help="Folder of the results.")]


def build(name: str) -> Benchmark:
    """The benchmark of this name."""
    if name not in BENCHMARKS:
        raise typer.BadParameter(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    made: Benchmark = getattr(importlib.import_module(f"benchmarks.{BENCHMARKS[name]}"), name)()
    return made


@app.command("run")
def run(
    only: Annotated[list[str] | None, typer.Option(help="Names; all without it.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds that count; each benchmark has its own.")] = None,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Measure, and write one JSON file a benchmark."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    chosen = {name: build(name) for name in only or BENCHMARKS}
    done = {name: measure(name, benchmark, rounds, results) for name, benchmark in chosen.items()}
    print(json.dumps(done, indent=2) if as_json else "\n\n".join(table(*one) for one in done.items()))


@app.command("check")
def check_goals(
    goals: Annotated[Path, typer.Option(help="File of the goals.")] = GOALS,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Compare the results with the goals; exit status 1 if one is missed."""
    found = check(load_goals(goals), results)
    lines: Any = [one.to_dict() for one in found] if as_json else [one.line() for one in found]
    print(json.dumps(lines, indent=2) if as_json else "\n".join(lines))
    missed = sum(not one.met for one in found)
    if missed:
        print(f"{missed} of {len(found)} goals missed", file=sys.stderr)
        raise typer.Exit(1)


@app.command("growth")
def measure_growth(
    only: Annotated[list[str] | None, typer.Option(help="Names of curves; all without it.")] = None,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Measure how time and memory grow, and write growth.json."""
    from benchmarks import growth

    done = growth.measure_growth(only or (), results)
    print(json.dumps(done, indent=2) if as_json else growth.table(done))


@app.command("document")
def document() -> None:
    """Refresh the tables of docs/benchmarks.md."""
    from benchmarks.document import DOCUMENT, with_tables
    from replication.fileio import write_text

    write_text(DOCUMENT, with_tables(DOCUMENT.read_text(encoding="utf-8")))


@app.command("memory-of", hidden=True)
def memory_of(benchmark: str, contender: str) -> None:
    """Peak bytes of this process after two calls."""
    from replication.records import peak_memory

    work = build(benchmark).contenders[contender]()
    for _ in range(2):
        work()
    print(peak_memory()[0])


def main() -> None:
    """Run the command line; an expected error is one line and exit status 2, so that 1 is a missed goal."""
    try:
        app()
    except ReplicationError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
