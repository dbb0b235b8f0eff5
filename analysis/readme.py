"""Copy the measured tables into README.md, between `<!-- table:PROFILE -->` and `<!-- /table:PROFILE -->`.

`python -m analysis.readme` writes, `--check` only says whether README.md shows what the committed runs hold.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.records import load_profile
from analysis.results import result_rows
from analysis.tables import results_block, to_markdown
from replication.errors import DataError
from replication.fileio import write_text

MARKED = re.compile(r"(?P<open><!-- table:(?P<profile>[a-z-]+) -->\n).*?(?P<close><!-- /table:(?P=profile) -->)", re.S)


def with_tables(text: str, runs: str | Path = "runs") -> str:
    """`text` with the table of every marked profile; DataError for a profile without runs."""

    def table(found: re.Match[str]) -> str:
        profile = found["profile"]
        folder = Path(runs) / profile
        if not folder.is_dir():
            raise DataError(f"{folder}: no runs for the table marked {profile!r}; `dvc repro` makes them")
        block = to_markdown([results_block(result_rows(load_profile(folder)), profile)])
        return f"{found['open']}{block.strip()}\n{found['close']}"

    return MARKED.sub(table, text)


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
