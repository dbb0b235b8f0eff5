"""Keep the IMPLEMENTATION_DETAILS files true: their line numbers, and the tables of measured faults.

A reference is `path:line` followed by the symbol that stands there, both in code style: `` `a/b.py:12` (`name`) ``. A
table stands between `<!-- ablation:NAME -->` and `<!-- /ablation:NAME -->` and comes from measurements/ablations.
`python -m analysis.details` renews both, `--check` only says what has moved.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.ablations import DIRECTORY, ablation_block, read_ablation
from analysis.tables import to_markdown
from replication.errors import DataError
from replication.fileio import write_text

DOCUMENTS = (Path("IMPLEMENTATION_DETAILS_SOLO_CONNECTION.md"), Path("IMPLEMENTATION_DETAILS_WEIGHTLORA.md"))
REFERENCE = re.compile(r"`(?P<path>[\w./-]+\.[a-z]+):(?P<line>\d+)`(?P<gap>\s+)\(`(?P<symbol>[^`\n]+)`\)")
MARKED = re.compile(
    r"(?P<open><!-- ablation:(?P<name>[a-z_]+) -->\n).*?(?P<close><!-- /ablation:(?P=name) -->)", re.DOTALL
)
NOT_MEASURED = "Not measured yet: `make ablations` does it."


def with_lines(text: str, root: str | Path = ".") -> str:
    """`text` with every reference at the line, nearest to the old one, that holds its symbol.

    DataError names a file that is not there and a symbol that no line of it holds.
    """

    def renewed(found: re.Match[str]) -> str:
        path, symbol, old = Path(root) / found["path"], found["symbol"], int(found["line"])
        if not path.is_file():
            raise DataError(f"`{found['path']}:{old}`: no such file")
        lines = path.read_text(encoding="utf-8").splitlines()
        holding = [number for number, line in enumerate(lines, start=1) if symbol in line]
        if not holding:
            raise DataError(f"`{found['path']}:{old}`: no line of the file holds {symbol!r}")
        line = min(holding, key=lambda number: abs(number - old))
        return f"`{found['path']}:{line}`{found['gap']}(`{symbol}`)"

    return REFERENCE.sub(renewed, text)


def with_tables(text: str, directory: str | Path = DIRECTORY) -> str:
    """`text` with every marked table as the committed result has it, or a line that says there is none."""

    def table(found: re.Match[str]) -> str:
        path = Path(directory) / f"{found['name']}.json"
        shown = to_markdown([ablation_block(read_ablation(path))]).strip() if path.is_file() else NOT_MEASURED
        return f"{found['open']}{shown}\n{found['close']}"

    return MARKED.sub(table, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the documents, or with --check return 1 when one is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", type=Path, default=Path())
    options = parser.parse_args(arguments)
    stale = []
    for name in DOCUMENTS:
        path = options.root / name
        before = path.read_text(encoding="utf-8")
        after = with_tables(with_lines(before, options.root), options.root / DIRECTORY)
        if before != after:
            stale.append(str(name))
            if not options.check:
                write_text(path, after)
    if stale and options.check:
        print(f"{', '.join(stale)}: lines or tables have moved; `python -m analysis.details` renews them")
    return int(bool(stale) and options.check)


if __name__ == "__main__":
    sys.exit(main())
