"""Progress of a long step: a bar on a terminal, a plain line at every tenth of the way elsewhere.

If REPLICATION_PROGRESS_FILE names a file, progress is written there instead, as JSON for the program that started this
one (`replicate sweep`): title, step, total, figures, seconds_left.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

Advance = Callable[..., None]
PROGRESS_VARIABLE = "REPLICATION_PROGRESS_FILE"
WRITE_SECONDS = 1.0


@contextmanager
def progress_bar(
    description: str | None, total: int, *, completed: int = 0, terminal: bool | None = None
) -> Iterator[Advance]:
    """Yield `advance(amount=1, **figures)`, which advances the bar and shows `figures` next to it.

        with progress_bar("fine-tune lora seed 18", total=300) as advance:
            advance(1, loss=2.3)

    `description` None shows nothing. `completed` steps were done by an earlier process and do not count
    towards the speed. `terminal` None checks stderr, where all output is written; standard output stays free
    for results. With REPLICATION_PROGRESS_FILE set, the file takes the place of both.
    """
    if description is None:
        yield lambda amount=1, **figures: None
    elif path := os.environ.get(PROGRESS_VARIABLE):
        with _ProgressFile(description, total, completed, Path(path)) as advance:
            yield advance
    elif sys.stderr.isatty() if terminal is None else terminal:
        yield from _rich_bar(description, total, completed)
    else:
        yield _PlainLines(description, total, completed, sys.stderr)


def _rich_bar(description: str, total: int, completed: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, completed=completed, figures="")

        def advance(amount: int = 1, **figures: object) -> None:
            bar.update(task, advance=amount, figures=_format(figures))

        yield advance


class _PlainLines:
    """One line when a further tenth of the way is done."""

    def __init__(self, description: str, total: int, completed: int, stream: TextIO) -> None:
        self.description, self.total, self.stream = description, total, stream
        self.start = self.done = completed
        self.tenths = self._tenths()
        self.began = time.monotonic()

    def __call__(self, amount: int = 1, **figures: object) -> None:
        self.done += amount
        if (tenths := self._tenths()) <= self.tenths:
            return
        self.tenths = tenths
        left = _seconds_left(self.began, self.start, self.done, self.total)
        parts = [f"{self.done}/{self.total} ({10 * tenths} %)", _format(figures), f"{left:.0f} s left"]
        print(f"{self.description}: " + ", ".join(filter(None, parts)), file=self.stream, flush=True)

    def _tenths(self) -> int:
        return min(10, 10 * self.done // self.total) if self.total > 0 else 10


class _ProgressFile:
    """A JSON file written whole, at most once in WRITE_SECONDS, and removed at the end.

    A progress file that cannot be written must not stop the work: every error here is ignored.
    """

    def __init__(self, description: str, total: int, completed: int, path: Path) -> None:
        self.description, self.total, self.path = description, total, path
        self.start = self.done = completed
        self.figures: dict[str, object] = {}
        self.began = time.monotonic()
        self.written = -math.inf

    def __enter__(self) -> _ProgressFile:
        self._write()
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(Exception):
            self.path.unlink(missing_ok=True)

    def __call__(self, amount: int = 1, **figures: object) -> None:
        self.done += amount
        self.figures = figures
        if time.monotonic() - self.written >= WRITE_SECONDS:
            self._write()

    def _write(self) -> None:
        self.written = time.monotonic()
        with suppress(Exception):
            aside = self.path.with_name(f"{self.path.name}.part")
            aside.write_text(json.dumps(self._state(), allow_nan=False), encoding="utf-8")
            aside.replace(self.path)

    def _state(self) -> dict[str, object]:
        left = _seconds_left(self.began, self.start, self.done, self.total) if self.done > self.start else None
        return {
            "title": self.description,
            "step": self.done,
            "total": self.total,
            "figures": {name: _json_value(value) for name, value in self.figures.items()},
            "seconds_left": left,
        }


def _json_value(value: object) -> object:
    """A finite number as it is; anything else as text."""
    return value if isinstance(value, int | float) and math.isfinite(value) else str(value)


def _seconds_left(began: float, start: int, done: int, total: int) -> float:
    """Seconds left at the speed since `began`; steps up to `start` were done before that."""
    return (time.monotonic() - began) / max(1, done - start) * max(0, total - done)


def _format(figures: dict[str, object]) -> str:
    def one(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return " ".join(f"{name.replace('_', ' ')} {one(value)}" for name, value in figures.items())
