"""What every figure shares: style, colours, layout, and saving that repeats byte for byte.

Colours belong to methods (Okabe and Ito's palette, which colour-blind readers tell apart) and are the same in
every figure; variants of a method share its colour and differ in line and marker.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import IO, Any, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from replication.fileio import write_bytes, write_text

INK = "#1a1a2e"  # a page may replace it by its own text colour
COLOURS = {"full": "#0072B2", "frozen": "#888888", "lora": "#D55E00", "solo_connection": "#009E73"}
SPARE_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P")
LEGEND_CHARACTERS = 104  # that fit side by side below a figure
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#888888",
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "replication",
    "svg.fonttype": "path",
    "lines.linewidth": 1.8,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
}


_Drawn = TypeVar("_Drawn")


def styled(draw: Callable[..., _Drawn]) -> Callable[..., _Drawn]:
    """Draw with this module's style, whatever the process has set."""

    @wraps(draw)
    def drawn(*arguments: Any, **named: Any) -> _Drawn:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(STYLE)
            return draw(*arguments, **named)

    return drawn


@dataclass(frozen=True)
class Drawing:
    """A figure with what a reader needs beside it."""

    name: str
    title: str
    caption: str
    alternative: str
    figure: Figure

    @cached_property
    def svg(self) -> str:
        """The figure as SVG text."""
        buffer = io.StringIO()
        self._save(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"

    @cached_property
    def png(self) -> bytes:
        """The figure as PNG on white, 160 dots per inch."""
        buffer = io.BytesIO()
        self._save(buffer, format="png", dpi=160, facecolor="white", metadata={"Software": None})
        return buffer.getvalue()

    @styled
    def _save(self, buffer: IO[Any], **options: Any) -> None:
        if isinstance(self.figure.get_layout_engine(), ConstrainedLayoutEngine):
            # Laid out once: a layout engine that runs again moves what it has placed by fractions of a point.
            self.figure.draw_without_rendering()
            self.figure.set_layout_engine("none")
        self.figure.savefig(buffer, **options)

    def write(self, directory: Path) -> None:
        """`<name>.svg` and `<name>.png` in `directory`."""
        write_text(directory / f"{self.name}.svg", self.svg)
        write_bytes(directory / f"{self.name}.png", self.png)


def new_figure(panels: int, size: tuple[float, float]) -> tuple[Figure, tuple[Axes, ...]]:
    """A figure of `size` inches with panels side by side."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False, gridspec_kw={"wspace": 0.06})[0]
    return figure, tuple(axes)


def add_legend(figure: Figure, panels: Sequence[Axes], title: str | None = None) -> None:
    """One legend below all panels, each label once, in the columns that fit; the figure grows by its rows."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    fitting = max(1, LEGEND_CHARACTERS // (max(map(len, entries)) + 8))
    columns = min(len(entries), fitting, 6)
    rows = -(-len(entries) // columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.19 * (rows - 1))
    figure.legend(entries.values(), entries.keys(), title=title, loc="outside lower center", ncols=columns)


def looks_of(pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str, str]]:
    """Experiment -> (colour, line, marker): the colour is the method's, the rest from the order within it."""
    seen: dict[str, int] = {}
    others = [method for method in dict.fromkeys(method for _, method in pairs) if method not in COLOURS]
    looks = {}
    for name, method in pairs:
        variant = seen[method] = seen.get(method, -1) + 1
        colour = COLOURS.get(method) or SPARE_COLOURS[others.index(method) % len(SPARE_COLOURS)]
        looks[name] = (colour, LINES[variant % len(LINES)], MARKERS[variant % len(MARKERS)])
    return looks
