"""The report's figure style in a notebook: the same colours, fonts and grid, and pictures that carry a description.

A thin layer over `analysis.drawing`: `use_style()` once at the top of a notebook, then `panels`, matplotlib's own
calls, and `show` as the last line of a cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import COLOURS, SPARE_COLOURS, STYLE, Drawing, new_figure

if TYPE_CHECKING:
    from IPython.display import Image

# Okabe and Ito's palette again, for lines that belong to no method.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
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


def show(figure: Figure | Drawing, description: str) -> Image:
    """The figure as a picture for the notebook; `description` is read out where it cannot be seen.

    ValueError for an axis without a label: a plot says what it shows and in which unit.
    """
    from IPython.display import Image

    drawn = figure.figure if isinstance(figure, Drawing) else figure
    for axes in drawn.axes if figure is drawn else ():
        if axes.axison and not (axes.get_xlabel() and axes.get_ylabel()):
            raise ValueError(f"panel {axes.get_title(loc='left')!r}: both axes need a label, with its unit")
    picture = figure if isinstance(figure, Drawing) else Drawing("figure", "", "", description, figure)
    width = round(100 * drawn.get_size_inches()[0])
    return Image(data=picture.png, format="png", width=width, alt=description)
