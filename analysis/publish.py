"""Replace the parts of a folder together: all of them are written aside first, and a failure leaves the old ones."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_parts(folder: str | Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; its `parts` take their places only when the block has succeeded.

    Each part is a file or a folder directly inside; whatever else `folder` holds stays. Where a rename fails half way,
    what was moved is put back.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    fresh, old = aside / "fresh", aside / "old"
    fresh.mkdir()
    old.mkdir()
    try:
        yield fresh
        folder.mkdir(exist_ok=True)
        _swap(folder, fresh, old, [part for part in parts if (fresh / part).exists()])
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(folder: Path, fresh: Path, old: Path, parts: Sequence[str]) -> None:
    moved: list[str] = []
    try:
        for part in parts:
            moved.append(part)
            if (folder / part).exists():
                (folder / part).rename(old / part)
            (fresh / part).rename(folder / part)
    except BaseException:
        for part in reversed(moved):
            if (old / part).exists():
                if (folder / part).exists():
                    (folder / part).rename(fresh / part)
                (old / part).rename(folder / part)
        raise
