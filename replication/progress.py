"""Progress of a long step: a bar on a terminal, a plain line at every tenth of the way elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Advance = Callable[..., None]


@contextmanager
def progress_bar(
    description: str | None, total: int, *, completed: int = 0, terminal: bool | None = None
) -> Iterator[Advance]:
    """Yield `advance(amount=1, **figures)`, which moves the bar on and shows `figures` beside it.

        with progress_bar("fine-tune lora seed 18", total=300) as advance:
            advance(1, loss=2.3)

    `description` None shows nothing. `completed` steps were done by an earlier process and do not count
    towards the speed. `terminal` None asks stderr, where all of it is written; standard output stays free
    for results.
    """
    if description is None:
        yield lambda amount=1, **figures: None
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
        elapsed = time.monotonic() - self.began
        left = elapsed / max(1, self.done - self.start) * max(0, self.total - self.done)
        parts = [f"{self.done}/{self.total} ({10 * tenths} %)", _format(figures), f"{left:.0f} s left"]
        print(f"{self.description}: " + ", ".join(filter(None, parts)), file=self.stream, flush=True)

    def _tenths(self) -> int:
        return min(10, 10 * self.done // self.total) if self.total > 0 else 10


def _format(figures: dict[str, object]) -> str:
    def one(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return " ".join(f"{name.replace('_', ' ')} {one(value)}" for name, value in figures.items())
