"""Keep notebooks as they are committed: no outputs, no execution counts, no metadata of the machine they ran on.

python notebooks/strip.py            # strip every notebook of this folder, in place
python notebooks/strip.py --check    # change nothing; exit with 1 and the names of those that are not stripped
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

from replication.fileio import write_text

FOLDER = Path(__file__).resolve().parent
# What Jupyter needs to open the file; a version of Python or the name of a local kernel is the machine's.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebooks(folder: Path = FOLDER) -> list[Path]:
    """The notebooks and their solutions, in order; checkpoints of Jupyter are none."""
    return sorted(path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def stripped(text: str) -> str:
    """The notebook in `text` as it is to be committed: the same cells, and stable ids for them."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cell.pop("attachments", None)
    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when every notebook is stripped (now, or with --check already)."""
    parser = argparse.ArgumentParser(description="Strip outputs and machine metadata from the notebooks.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where something is left")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of notebooks (default: this one)")
    options = parser.parse_args(arguments)
    left = []
    for path in notebooks(options.folder):
        text = path.read_text(encoding="utf-8")
        if (clean := stripped(text)) != text:
            left.append(path)
            if not options.check:
                write_text(path, clean)
    for path in left:
        done = "is not stripped: run `python notebooks/strip.py`" if options.check else "stripped"
        print(f"{path.name}: {done}", file=sys.stderr if options.check else sys.stdout)
    return 1 if options.check and left else 0


if __name__ == "__main__":
    sys.exit(main())
