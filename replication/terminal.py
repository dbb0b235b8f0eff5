"""What every command shares: examples in its help, a sign of life while it works, a console of 80 columns in a pipe."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from replication.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDTH = 80
QUIET_SECONDS = 2.0
TITLE, CONTINUED = "Examples:", " \\"


def examples(*commands: str) -> str:
    """The epilog of a command's help; a newline in a command breaks a long line, as a shell takes it."""
    from rich.markup import escape

    lines = [TITLE, *("  " + command.replace("\n", f"{CONTINUED}\n      ") for command in commands)]
    return escape("\n".join(lines))


def examples_in(epilog: str) -> list[str]:
    """The commands of an epilog, each as one line: the inverse of `examples`."""
    from rich.markup import render

    text = render(epilog).plain.replace(f"{CONTINUED}\n      ", " ")
    return [line.strip() for line in text.splitlines()[1:]]


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """A spinner with `text` on stderr, or without a terminal one line after two seconds; yields a function that changes
    the text.
    """
    if not sys.stderr.isatty():
        line = threading.Timer(QUIET_SECONDS, lambda: print(f"{printable(text)} ...", file=sys.stderr, flush=True))
        line.daemon = True
        line.start()
        try:
            yield lambda text: None
        finally:
            line.cancel()
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True, highlight=False).status(escape(printable(text))) as status:
        yield lambda text: status.update(escape(printable(text)))


def console() -> Console:
    """Standard output: as wide as the terminal, 80 columns in a file or a pipe; texts are made `printable`."""
    from rich.console import Console
    from rich.segment import Segment

    class Printable(Console):
        def render_str(self, text: str, **settings: Any) -> Text:
            return super().render_str(printable(text), **settings)  # before widths are measured

        def render(self, *given: Any, **settings: Any) -> Iterator[Segment]:
            for part in super().render(*given, **settings):  # a Text is no str
                yield part if part.control else Segment(printable(part.text), part.style)

    out = Printable(highlight=False)
    if not out.is_terminal:
        out.width = WIDTH
    return out


def sparkline(values: Sequence[float], width: int = 28) -> str:
    """At most `width` block characters from the smallest (low) to the largest value; empty without values.

    A character is the mean of its part of the values.
    """
    bars = "▁▂▃▄▅▆▇█"
    parts = min(width, len(values))
    if not parts:
        return ""
    edges = [len(values) * part // parts for part in range(parts + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((mean - low) * scale)] for mean in means)
