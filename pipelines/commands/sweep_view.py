"""Output of `replicate sweep`: a live table on a terminal, otherwise plain lines or JSON lines. Imports no runner."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.shared.stage import say
from replication.errors import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

LINE_SECONDS = 60.0  # between two progress lines without a terminal
FRAME_SECONDS = 1.0  # between two frames on a terminal


@dataclass(frozen=True)
class Running:
    """A running cell: elapsed time and its stage's progress."""

    name: str
    seconds: float
    progress: Mapping[str, Any]


@dataclass(frozen=True)
class Status:
    """A sweep at one moment; `left` is the estimated number of seconds to its end."""

    running: tuple[Running, ...]
    counts: Mapping[str, int]
    total: int
    elapsed: float
    left: float | None

    def summary(self) -> str:
        """Counts and times in one line."""
        parts = [f"{self.counts['done']} of {self.total} done", f"{self.counts['pending']} pending"]
        parts += [f"{self.counts[state]} {state}" for state in ("failed", "skipped") if self.counts[state]]
        left = "time left unknown" if self.left is None else f"about {duration(self.left)} left"
        return ", ".join([*parts, f"{duration(self.elapsed)} elapsed", left])


class View(Protocol):
    """Shows a sweep."""

    def say(self, text: str) -> None:
        """One line for the reader."""

    def event(
        self, cell: str, state: str, *, seconds: float | None = None, error: str | None = None, log: Path | None = None
    ) -> None:
        """A cell has entered a state."""

    def tick(self, status: Status) -> None:
        """Called several times a second while cells run."""

    def close(self) -> None:
        """No cell runs any more."""


class PlainLines:
    """One line per event, and one a minute between them."""

    def __init__(self) -> None:
        self.shown = time.monotonic()

    def say(self, text: str) -> None:
        """Print the line."""
        say(text)

    def event(
        self, cell: str, state: str, *, seconds: float | None = None, error: str | None = None, log: Path | None = None
    ) -> None:
        """Print the event."""
        self.say(event_line(cell, state, seconds, error, log))

    def tick(self, status: Status) -> None:
        """Print a line when a minute has passed since the last."""
        if time.monotonic() - self.shown >= LINE_SECONDS:
            self.shown = time.monotonic()
            self.say("; ".join([status.summary(), *(f"{cell.name}: {progress_text(cell)}" for cell in status.running)]))

    def close(self) -> None:
        """Nothing to end."""


class JsonLines:
    """Events as JSON lines on standard output; lines for a reader go to standard error."""

    def say(self, text: str) -> None:
        """Print the line to standard error."""
        print(printable(text), file=sys.stderr, flush=True)

    def event(
        self, cell: str, state: str, *, seconds: float | None = None, error: str | None = None, log: Path | None = None
    ) -> None:
        """Print the event as one JSON object."""
        rounded = None if seconds is None else round(seconds, 1)
        shown = {"cell": cell, "state": state, "seconds": rounded, "error": error}
        print(json.dumps({**shown, **({"log": log.as_posix()} if log else {})}, ensure_ascii=False), flush=True)

    def tick(self, status: Status) -> None:
        """Only events are shown."""

    def close(self) -> None:
        """Nothing to end."""


class LiveView:
    """A table of the running cells that stays at the foot of the terminal; ended cells scroll by above it."""

    def __init__(self) -> None:
        self.live: Live | None = None
        self.shown = 0.0

    def say(self, text: str) -> None:
        """Print the line, above the table while there is one."""
        if self.live:
            self.live.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
        else:
            say(text)

    def event(
        self, cell: str, state: str, *, seconds: float | None = None, error: str | None = None, log: Path | None = None
    ) -> None:
        """Print the event; the table shows which cells start."""
        self.shown = 0.0
        if state != "running":
            self.say(event_line(cell, state, seconds, error, log))

    def tick(self, status: Status) -> None:
        """Draw the table again."""
        if time.monotonic() - self.shown < FRAME_SECONDS:
            return
        self.shown = time.monotonic()
        if self.live is None:
            from rich.live import Live

            self.live = Live(frame(status), auto_refresh=False, transient=True)
            self.live.start()
        self.live.update(frame(status), refresh=True)

    def close(self) -> None:
        """Take the table away."""
        if self.live:
            self.live.stop()
            self.live = None


def frame(status: Status) -> RenderableType:
    """The table of running cells over the summary."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Cell", overflow="fold")
    for header in ("Stage", "Seed", "Step", "Loss", "Running", "Left"):
        table.add_column(header, justify="left" if header == "Stage" else "right", no_wrap=True)
    for cell in status.running:
        fields = progress_fields(cell.progress)
        shown = [fields.get(name, "–") for name in ("stage", "seed", "step", "loss")]
        row = (cell.name, *shown, duration(cell.seconds), fields.get("left", "–"))
        table.add_row(*(Text(field) for field in row))
    return Group(table, Text(status.summary()))


def progress_fields(progress: Mapping[str, Any]) -> dict[str, str]:
    """stage, seed, step, loss and left, as far as the running stage reports them."""
    fields = {"stage": str(progress["stage"])} if "stage" in progress else {}
    if seed := re.search(r"\bseed (\d+)", str(progress.get("title", ""))):
        fields["seed"] = seed[1]
    if "step" in progress:
        fields["step"] = f"{progress['step']}/{progress.get('total', '?')}"
    loss = (progress.get("figures") or {}).get("loss")
    if loss is not None:
        fields["loss"] = f"{loss:.4g}" if isinstance(loss, float) else str(loss)
    if progress.get("seconds_left") is not None:
        fields["left"] = duration(progress["seconds_left"])
    return fields


def progress_text(cell: Running) -> str:
    """A running cell's progress, short."""
    fields = progress_fields(cell.progress)
    parts = [
        fields.get("stage", ""),
        *(f"{name} {fields[name]}" for name in ("seed", "step", "loss") if name in fields),
    ]
    parts += [f"{fields['left']} left"] if "left" in fields else []
    return ", ".join(filter(None, parts)) or f"running for {duration(cell.seconds)}"


def event_line(cell: str, state: str, seconds: float | None, error: str | None, log: Path | None) -> str:
    """An event in one line."""
    line = f"{state:9} {cell}" + (f", {seconds:.0f} s" if seconds is not None else "")
    return line + (f": {error}" if error else "") + (f" (log: {log})" if log else "")


def duration(seconds: float) -> str:
    """Seconds below a minute, then minutes, then hours and minutes."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
