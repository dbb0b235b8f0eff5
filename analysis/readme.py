"""Copy the measured tables into README.md, between `<!-- table:PROFILE -->` and `<!-- /table:PROFILE -->`.

`table:quick` is the Solo Connection table of the quick profile and `table:quick:solo` the verdicts on its claims;
`table:quick:glue` is one of WeightLoRA's: glue, qa, summaries, choice, learned, parameters, selected, logs, or claims
(the verdicts as sentences, without the cases that test nothing).
`python -m analysis.readme` writes, `--check` only says whether README.md shows what the committed runs hold.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from analysis.blocks import Block
from analysis.cases import verdict_list
from analysis.costs import training_costs
from analysis.judgement import load_judgement
from analysis.published import load_claims, load_tolerances
from analysis.records import load_profile
from analysis.results import result_rows
from analysis.tables import results_block, to_markdown
from analysis.task_tables import DAGGER
from analysis.verdicts import judge
from analysis.weightlora_section import WeightLora, load_weightlora
from replication.errors import DataError
from replication.fileio import write_text

LEFT_OUT = ("Importance weights", "Head parameters", "Steps", "Learning rate", "How the rate was found")
MARKED = re.compile(
    r"(?P<open><!-- table:(?P<name>[a-z-]+(?::[a-z]+)?) -->\n).*?(?P<close><!-- /table:(?P=name) -->)", re.S
)


def with_tables(text: str, root: str | Path = ".") -> str:
    """`text` with every marked table, from runs/, searches/ and measurements/ under `root`; each note once.

    DataError for a profile without runs, and for a table that is not known.
    """

    @cache
    def section(profile: str) -> WeightLora:
        folders = (Path(root) / name / profile for name in ("runs", "searches", "measurements"))
        runs, searches, measurements = folders
        role = load_judgement().role
        kept = [run for run in load_profile(runs) if role(profile, run.name) != "earlier"]  # the report has those too
        return load_weightlora(profile, kept, searches, measurements)

    said: set[str] = set()

    def told_once(block: Block) -> Block:
        """Without the notes of an earlier table, which most tables share; what a mark means stays beside it."""
        new = tuple(note for note in block.notes if note not in said or note.startswith(DAGGER))
        said.update(new)
        return replace(block, notes=new)

    def table(found: re.Match[str]) -> str:
        profile, _, name = found["name"].partition(":")
        folder = Path(root) / "runs" / profile
        if not folder.is_dir():
            raise DataError(f"{folder}: no runs for the table marked {found['name']!r}; `dvc repro` makes them")
        if not name:
            loaded = load_profile(folder)
            block = to_markdown([told_once(results_block(result_rows(loaded), profile, training_costs(loaded)))])
        elif name == "solo":
            block = verdict_list(judge(load_profile(folder), load_claims(), load_tolerances()))
        elif name == "claims":
            block = verdict_list(section(profile).verdicts, brief=True)
        else:
            parts = sorted(section(profile).block(name), key=lambda part: -len(part.rows))  # the table with most first
            blocks = [told_once(shortened(part, profile)) for part in parts if part.rows]
            block = to_markdown(blocks) if blocks else "Not run yet."
        return f"{found['open']}{block.strip()}\n{found['close']}"

    return MARKED.sub(table, text)


def shortened(block: Block, profile: str) -> Block:
    """A table of scores without the columns of conditions, which the report has, and with a note that says so."""
    kept = [index for index, header in enumerate(block.headers) if header not in LEFT_OUT]
    if len(kept) == len(block.headers):
        return block
    note = f"Steps, head, learning rates and how they were found stand in the {profile} report."
    return replace(
        block,
        headers=tuple(block.headers[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in block.rows),
        notes=(*block.notes, note),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write README.md, or with --check return 1 when it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    options = parser.parse_args(arguments)
    before = options.readme.read_text(encoding="utf-8")
    after = with_tables(before)
    if options.check:
        if before != after:
            print(f"{options.readme}: its tables are not those of the runs; `python -m analysis.readme` renews them")
        return int(before != after)
    write_text(options.readme, after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
