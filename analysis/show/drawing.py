"""Shared by all figures: style, colours, layout, and reproducible saving.

Colours belong to methods (Okabe and Ito's palette, which colour-blind readers can distinguish, its two lightest
darkened) and are the same in every figure; each has a contrast of 3 or more on the page, light and dark. Variants of a
method share its colour and differ in line and marker.

The report's figure style in a notebook: the same colours, fonts and grid, and pictures that carry a description.

A thin layer over `analysis.show.drawing`: `use_style()` once at the top of a notebook, then `panels`, matplotlib's own
calls, and `show` as the last line of a cell."""

from __future__ import annotations

import io
import multiprocessing
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from PIL import Image

from analysis.load.names import BASELINES
from replication.errors import printable
from replication.fileio import write_bytes, write_text

if TYPE_CHECKING:
    from IPython.display import Image as Picture

INK = "#1a1a2e"  # a page may replace it by its own text colour
GROUND = "#ffffff"  # inside of a hollow point: a page may replace it by its own ground
COLOURS = {
    **dict.fromkeys(BASELINES, "#757575"),
    "full": "#0072B2",
    "frozen": "#888888",
    "lora": "#D55E00",
    "solo_connection": "#009E73",
    "weight_lora": "#CC79A7",
    "weight_lora_plus": "#7A5CD6",
    "random_lora": "#3A8FC7",
    "adalora": "#B97F00",
    "dora": "#D02F6B",
    "rslora": "#B0563B",
    "loha": "#7A8F2A",
    "lokr": "#6C7A89",
    "vera": "#4C9A9A",
    "ia3": "#9A6B4F",
    "adapter_h": "#5C7FB8",
    "adapter_l": "#A0708C",
    "ft_top2": "#5B8C5A",
}
SPARE_COLOURS = ("#CC79A7", "#B97F00", "#3A8FC7")
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
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud, and a page is a fifth of the size
    "lines.linewidth": 1.8,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
}


NO_METADATA = {"Date": None, "Creator": None}
PNG_COLOURS = 256  # of a picture's palette: a third of the bytes
SCALE = ListedColormap(mpl.colormaps["viridis"](np.linspace(0.2, 0.85, 128)))  # its ends show on light and on dark
NOTHING = (0.53, 0.53, 0.53, 0.16)  # ground of a heat map's empty cells
FONTS = "'DejaVu Sans', Verdana, sans-serif"
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_HASHED_ID = re.compile(r"\b([mp])[0-9a-f]{10}\b")

_Drawn = TypeVar("_Drawn")


def with_palette(whole: Image.Image) -> Image.Image:
    """An RGB picture with a palette: its commonest colours exactly, the rest as the nearest of these and of shades.

    Shades alone would merge the thin lines and small markers of one method with another's.
    """
    pixels = np.asarray(whole, dtype=np.int32)
    codes = (pixels[..., 0] << 16) + (pixels[..., 1] << 8) + pixels[..., 2]
    found, inverse, times = np.unique(codes, return_inverse=True, return_counts=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    kept = np.argsort(-times, kind="stable")[: PNG_COLOURS // 2]
    shades = whole.quantize(PNG_COLOURS // 2, dither=Image.Dither.NONE).getpalette() or []
    palette = np.concatenate([colours[kept], np.reshape(shades, (-1, 3))])[:PNG_COLOURS]
    nearest = np.array([int(np.argmin(((palette - colour) ** 2).sum(axis=1))) for colour in colours], dtype=np.uint8)
    picture = Image.fromarray(nearest[inverse.reshape(codes.shape)], "P")
    picture.putpalette(palette.astype(np.uint8).tobytes())
    return picture


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
    """A figure with its caption and description."""

    name: str
    title: str
    caption: str
    alternative: str
    figure: Figure

    @cached_property
    def svg(self) -> str:
        """The figure as SVG text; labels are text in DejaVu Sans or its fallback."""
        buffer = io.StringIO()
        self._print(FigureCanvasSVG, 72, lambda canvas: canvas.print_svg(buffer, metadata=NO_METADATA))
        return tidy_svg(buffer.getvalue())

    @cached_property
    def png(self) -> bytes:
        """The figure as PNG on white, 160 dots per inch, with a palette."""
        buffer = io.BytesIO()

        def save(canvas: FigureCanvasAgg) -> None:
            canvas.draw()
            whole = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba().tobytes())
            with_palette(whole.convert("RGB")).save(buffer, "PNG", optimize=True, dpi=(160, 160))

        self._print(FigureCanvasAgg, 160, save, "white")
        return buffer.getvalue()

    @styled
    def _print(self, canvas: Any, dpi: int, draw: Callable[[Any], Any], ground: str = "none") -> None:
        """Draw once: `savefig` would draw every figure a second time to lay it out again."""
        figure = self.figure
        for text in figure.findobj(Text):
            if text.get_text() != (shown := printable(text.get_text())):
                text.set_text(shown)  # control characters are no XML
            if "$" in shown and not _is_formula(shown):
                text.set_parse_math(False)
        engine = figure.get_layout_engine()
        if isinstance(engine, ConstrainedLayoutEngine):
            # Laid out once: a layout engine that runs again moves what it has placed by fractions of a point.
            engine.execute(figure)
            figure.set_layout_engine("none")
        before = figure.dpi, figure.get_facecolor()
        try:
            figure.dpi = dpi
            figure.set_facecolor(ground)
            draw(canvas(figure))
        finally:
            figure.dpi = before[0]
            figure.set_facecolor(before[1])

    def write(self, directory: Path) -> None:
        """`<name>.svg` and `<name>.png` in `directory`."""
        write_text(directory / f"{self.name}.svg", self.svg)
        write_bytes(directory / f"{self.name}.png", self.png)


def _is_formula(text: str) -> bool:
    """Whether matplotlib can set it: a name with dollars in it need be none."""
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return False
    return True


def print_all(drawings: Sequence[Drawing], processes: int) -> None:
    """Render every drawing, SVG and PNG, in `processes` at a time where the system can fork; the bytes are the same.

    Drawing is most of a report's time. A forked child has the figures already: only the rendered bytes are sent.
    """
    global _printing
    can_fork = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    if processes < 2 or not can_fork:
        return  # each is rendered on first use
    _printing = drawings
    try:
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(processes, fork, initializer=_end_with, initargs=(os.getpid(),)) as pool:
            for drawing, (svg, png) in zip(drawings, pool.map(_rendered, range(len(drawings))), strict=True):
                drawing.__dict__.update(svg=svg, png=png)  # what cached_property looks at
    finally:
        _printing = ()


_printing: Sequence[Drawing] = ()
WATCH_SECONDS = 1.0


def _end_with(parent: int) -> None:
    """End this worker when its parent is killed: it would wait for work for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _rendered(index: int) -> tuple[str, bytes]:
    return _printing[index].svg, _printing[index].png


def tidy_svg(text: str) -> str:
    """SVG as matplotlib wrote it with coordinates of two decimals, fonts to fall back on, and no comments."""
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>\n?", "", text, flags=re.DOTALL)
    text = text.replace("'DejaVu Sans'", FONTS).replace("xlink:href", "href")
    text = re.sub(r'(<image [^>]*?) id="[^"]*"', r"\1", text)  # the same for equal pictures, and nothing names it
    text = re.sub(r' transform="rotate\(-?0 [^)]*\)"|<g id="[^"]*"/>', "", text)
    text = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"\s*([A-Za-z])\s*", r"\1", path[0]), text)
    text = re.sub(r"<[^>]*>", lambda tag: _LONG_NUMBER.sub(_two_decimals, tag[0]), text)  # labels stay as they are
    text = number_ids(text)
    return "\n".join(line.strip() for line in text.splitlines() if line.strip()) + "\n"


def _two_decimals(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".") or "0"


def number_ids(svg: str) -> str:
    """Markers and clips numbered as they appear: matplotlib's ids hash floats whose last digits differ by machine."""
    names: dict[str, str] = {}
    return _HASHED_ID.sub(lambda found: names.setdefault(found[0], f"{found[1]}{len(names) + 1}"), svg)


def new_figure(panels: int, size: tuple[float, float]) -> tuple[Figure, tuple[Axes, ...]]:
    """A figure of `size` inches with panels side by side."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False, gridspec_kw={"wspace": 0.06})[0]
    return figure, tuple(axes)


def new_grid(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, tuple[tuple[Axes, ...], ...]]:
    """A figure of `size` inches with rows of panels; `options` go to matplotlib's `subplots`."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, tuple(tuple(row) for row in grid)


def heat_map(axes: Axes, values: npt.NDArray[np.float64], low: float, high: float, right: float) -> None:
    """A picture of `values` (rows, columns) from the top left, on x from 0 to `right`; NaN is an empty cell.

    One picture, not a path a cell: a map of a thousand cells stays a few kilobytes of SVG.
    """
    rows = values.shape[0]
    axes.set_facecolor(NOTHING)
    axes.imshow(values, SCALE, aspect="auto", interpolation="none", vmin=low, vmax=high, extent=(0, right, rows, 0))
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def scale_beside(axes: Axes, low: float, high: float, label: str = "") -> None:
    """The scale of a heat map, to the right of its panel."""
    beside = axes.inset_axes((1.045, 0.0, 0.03, 1.0))
    ramp = np.linspace(low, high, 64)[:, None]
    beside.imshow(ramp, SCALE, aspect="auto", interpolation="none", origin="lower", extent=(0, 1, low, high))
    beside.grid(visible=False)
    beside.set_xticks([])
    beside.yaxis.tick_right()
    beside.yaxis.set_label_position("right")
    beside.yaxis.set_major_locator(MaxNLocator(5))
    beside.set_ylabel(label)
    for spine in beside.spines.values():
        spine.set_visible(False)


def set_layout(figure: Any, **options: Any) -> None:
    """Options of the figure's constrained layout; nothing to do once it has been laid out."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(**options)


def spread_apart(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """`positions` moved as little as needed to lie `gap` apart between `low` and `high`, in their own order.

    Where there is no room for the gap, they share what room there is.
    """
    count = len(positions)
    if count == 0:
        return []
    gap = min(gap, (high - low) / max(1, count - 1))
    order = sorted(range(count), key=lambda index: positions[index])
    moved = [min(max(positions[index], low), high) for index in order]
    for position in range(1, count):
        moved[position] = max(moved[position], moved[position - 1] + gap)
    moved[-1] = min(moved[-1], high)
    for position in range(count - 2, -1, -1):
        moved[position] = min(moved[position], moved[position + 1] - gap)
    result = [0.0] * count
    for index, value in zip(order, moved, strict=True):
        result[index] = value
    return result


def name_at_right(
    axes: Axes, points: Sequence[tuple[float, float, str, str]], lines: int, size: float = 7.5, leaders: bool = True
) -> None:
    """Names next to the panel, level with their points (x, y, name, colour) and apart where those are close.

    `lines` is how many names fit one below the other; with `leaders` a thin line joins each name to its point. To be
    called when the limits of the axes are set.
    """
    low, high = axes.get_ylim()
    gap = (high - low) / max(lines, 1)
    positions = spread_apart([y for _, y, _, _ in points], gap, low + gap / 4, high - gap / 4)
    set_layout(axes.get_figure(), rect=(0, 0, 0.985, 1))  # the layout measures such names a little too short
    for (x, y, name, colour), position in zip(points, positions, strict=True):
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.7, "shrinkA": 1, "shrinkB": 3,
                "relpos": (0.0, 0.5)}  # fmt: skip
        axes.annotate(
            name,
            (x, y),
            xytext=(1.03, position),
            textcoords=axes.get_yaxis_transform(),
            color=INK,  # coloured letters would be too faint on white or on black
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops=line if leaders else None,
        )


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


# Okabe and Ito's palette again, for lines that belong to no method.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B97F00", "#3A8FC7", "#757575")
WIDTH, HEIGHT = 8.0, 3.5  # inches; about 800 pixels in a page, so that 10 points read as in the text
FONT: dict[Any, Any] = {"font.size": 10, "axes.titlesize": 11, "axes.labelsize": 10, "legend.fontsize": 9}


def use_style() -> None:
    """Draw everything that follows in this process as the report does, with type a little larger."""
    mpl.rcdefaults()
    mpl.rcParams.update({**STYLE, **FONT, "axes.prop_cycle": cycler(color=CYCLE), "figure.facecolor": "white"})


def colour_of(method: str) -> str:
    """The colour that a method has in every figure; one that has none yet gets the report's first spare colour."""
    return COLOURS.get(method, SPARE_COLOURS[0])


def panels(count: int = 1, height: float = HEIGHT, width: float = WIDTH) -> tuple[Figure, tuple[Axes, ...]]:
    """A figure with `count` panels side by side, inches."""
    return new_figure(count, (width, height))


def show(figure: Figure | Drawing, description: str) -> Picture:
    """The figure as a picture for the notebook; `description` is read out where it cannot be seen.

    ValueError for an axis without a label: a plot must state what it shows and in which unit.
    """
    from IPython.display import Image as Picture

    drawn = figure.figure if isinstance(figure, Drawing) else figure
    for axes in drawn.axes if figure is drawn else ():
        if axes.axison and not (axes.get_xlabel() and axes.get_ylabel()):
            raise ValueError(f"panel {axes.get_title(loc='left')!r}: both axes need a label, with its unit")
    picture = figure if isinstance(figure, Drawing) else Drawing("figure", "", "", description, figure)
    width = round(100 * drawn.get_size_inches()[0])
    return Picture(data=picture.png, format="png", width=width, alt=description)
