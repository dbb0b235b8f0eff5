"""Keep the tables and line numbers of the repository's documents true: `python -m analysis.show.documents`.

README.md and RESULTS.md: a table is between `<!-- table:PROFILE -->` and `<!-- /table:PROFILE -->`. `table:quick` is
the Solo Connection table of the quick profile and `table:quick:solo` the verdicts on its claims; `table:quick:glue` is
one of WeightLoRA's: glue, qa, summaries, choice, learned, parameters, selected, logs, or claims (the verdicts as
sentences, without the cases that test nothing). `table:cpu:answer` is a line for each claim of both papers.

IMPLEMENTATION_DETAILS: a reference is `path:line` followed by the symbol on that line, both in code style:
`` `a/b.py:12` (`name`) ``. A table is between `<!-- ablation:NAME -->` and `<!-- /ablation:NAME -->` and comes from
measurements/ablations. `--check` writes nothing and only lists what is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from analysis.judge.claims import JudgedBench, load_bench, verdict_list
from analysis.load.judgement import load_judgement
from analysis.load.runs import load_profile
from analysis.show.ablations import DIRECTORY, ablation_block, read_ablation
from analysis.show.blocks import Block, to_markdown
from analysis.show.claim_tables import answer_block, claim_rows
from analysis.show.tables import DAGGER, results_block
from analysis.show.weightlora import WeightLora
from replication.errors import DataError
from replication.fileio import write_text

LEFT_OUT = ("Importance weights", "Head parameters", "Steps", "Learning rate", "How the rate was found")
RESULT_TABLE = re.compile(
    r"(?P<open><!-- table:(?P<name>[a-z-]+(?::[a-z]+)?) -->\n).*?(?P<close><!-- /table:(?P=name) -->)", re.S
)


Benches = Callable[[str], JudgedBench]


def benches(root: str | Path = ".") -> Benches:
    """The judged runs of a profile under `root`, by its name; each profile is read once."""
    role = load_judgement().role

    @cache
    def bench(profile: str) -> JudgedBench:
        runs, searches, measurements = (Path(root) / name / profile for name in ("runs", "searches", "measurements"))
        there = [run for run in load_profile(runs) if run.status != "removed"]
        kept = [run for run in there if role(profile, run.name) != "earlier"]  # the report has those too
        return load_bench(profile, kept, searches, measurements)

    return bench


def with_result_tables(text: str, root: str | Path = ".", bench: Benches | None = None) -> str:
    """`text` with every marked table, from runs/, searches/ and measurements/ under `root`; each note once.

    `bench` is what documents share (`benches(root)` unless given). DataError for a profile without runs, and for a
    table that is not known.
    """
    bench = bench or benches(root)
    seen: set[str] = set()

    def told_once(block: Block) -> Block:
        """Without the notes of an earlier table, which most tables share; the explanation of † stays with it."""
        new = tuple(note for note in block.notes if note not in seen or note.startswith(DAGGER))
        rules = tuple(rule for rule in block.rules if rule not in seen)
        seen.update((*new, *rules))
        return replace(block, notes=new, rules=rules)

    def table(found: re.Match[str]) -> str:
        profile, _, name = found["name"].partition(":")
        folder = Path(root) / "runs" / profile
        if not folder.is_dir():
            raise DataError(f"{folder}: no runs for the table marked {found['name']!r}; `dvc repro` makes them")
        if not name:
            block = to_markdown([told_once(results_block(bench(profile).study))])
        elif name == "answer":
            block = to_markdown([answer_block(claim_rows(bench(profile).verdicts, profile), profile)])
        elif name == "solo":
            block = verdict_list(bench(profile).of_paper("solo"))
        elif name == "claims":
            block = verdict_list(bench(profile).of_paper("weightlora"), brief=True)
        else:
            parts = sorted(
                WeightLora(bench(profile)).block(name), key=lambda part: -len(part.rows)
            )  # the table with most first
            blocks = [told_once(shortened(part, profile)) for part in parts if part.rows]
            block = to_markdown(blocks) if blocks else "Not run yet."
        return f"{found['open']}{block.strip()}\n{found['close']}"

    return RESULT_TABLE.sub(table, text)


def shortened(block: Block, profile: str) -> Block:
    """A table of scores without the columns of conditions, which the report has, and with a note about them."""
    kept = [index for index, header in enumerate(block.headers) if header not in LEFT_OUT]
    if len(kept) == len(block.headers):
        return block
    note = f"For steps, head and learning rates see the {profile} report."
    return replace(
        block,
        headers=tuple(block.headers[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in block.rows),
        notes=(*block.notes, note),
    )


RESULTS = (Path("README.md"), Path("RESULTS.md"))
DOCUMENTS = (*RESULTS, Path("IMPLEMENTATION_DETAILS_SOLO_CONNECTION.md"), Path("IMPLEMENTATION_DETAILS_WEIGHTLORA.md"))
REFERENCE = re.compile(r"`(?P<path>[\w./-]+\.[a-z]+):(?P<line>\d+)`(?P<gap>\s+)\(`(?P<symbol>[^`\n]+)`\)")
ABLATION_TABLE = re.compile(
    r"(?P<open><!-- ablation:(?P<name>[a-z_]+) -->\n).*?(?P<close><!-- /ablation:(?P=name) -->)", re.DOTALL
)
NOT_MEASURED = "Not measured yet: `make ablations` does it."


def with_lines(text: str, root: str | Path = ".") -> str:
    """`text` with every reference at the line, nearest to the old one, that holds its symbol.

    DataError names a missing file or a symbol that is on no line of it.
    """

    def renewed(found: re.Match[str]) -> str:
        path, symbol, old = Path(root) / found["path"], found["symbol"], int(found["line"])
        if not path.is_file():
            raise DataError(f"`{found['path']}:{old}`: no such file")
        lines = path.read_text(encoding="utf-8").splitlines()
        holding = [number for number, line in enumerate(lines, start=1) if symbol in line]
        if not holding:
            raise DataError(f"`{found['path']}:{old}`: no line of the file contains {symbol!r}")
        line = min(holding, key=lambda number: abs(number - old))
        return f"`{found['path']}:{line}`{found['gap']}(`{symbol}`)"

    return REFERENCE.sub(renewed, text)


def with_ablation_tables(text: str, directory: str | Path = DIRECTORY) -> str:
    """`text` with every marked table as the committed result has it, or a line that there is none."""

    def table(found: re.Match[str]) -> str:
        path = Path(directory) / f"{found['name']}.json"
        shown = to_markdown([ablation_block(read_ablation(path))]).strip() if path.is_file() else NOT_MEASURED
        return f"{found['open']}{shown}\n{found['close']}"

    return ABLATION_TABLE.sub(table, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the documents, or with --check return 1 when one is out of date."""
    parser = argparse.ArgumentParser(description="Renew the tables and line numbers of the documents.")
    parser.add_argument("--check", action="store_true", help="write nothing; return 1 when a document is out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository")
    parser.add_argument("--only", choices=("readme", "details"), help="only one kind of document")
    options = parser.parse_args(arguments)
    root, stale = options.root, []
    bench = benches(root)
    for name in DOCUMENTS:
        path = root / name
        if options.only is not None and (name in RESULTS) != (options.only == "readme"):
            continue
        before = path.read_text(encoding="utf-8")
        if name in RESULTS:
            after = with_result_tables(before, root, bench)
        else:
            after = with_ablation_tables(with_lines(before, root), root / DIRECTORY)
        if before != after:
            stale.append(str(name))
            if not options.check:
                write_text(path, after)
    if stale and options.check:
        print(f"{', '.join(stale)}: tables or lines are out of date; `python -m analysis.show.documents` renews them")
    return int(bool(stale) and options.check)


if __name__ == "__main__":
    sys.exit(main())
