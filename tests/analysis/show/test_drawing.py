import io
import re
import signal
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from analysis.show.drawing import (
    COLOURS,
    CYCLE,
    STYLE,
    Drawing,
    colour_of,
    heat_map,
    new_figure,
    number_ids,
    panels,
    print_all,
    scale_beside,
    show,
    spread_apart,
    use_style,
)
from replication.errors import printable

POSITIONS = st.lists(st.floats(0, 1), max_size=12)


@given(POSITIONS, st.floats(0.001, 0.3))
def test_names_are_moved_apart_within_the_panel_and_in_order(positions, gap):
    moved = spread_apart(positions, gap, 0, 1)
    assert len(moved) == len(positions)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in moved)
    fitting = min(gap, 1 / max(1, len(positions) - 1))
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    for a, b in pairwise(order):
        assert moved[b] - moved[a] >= fitting - 1e-9


def test_what_is_apart_stays():
    assert spread_apart([0.9, 0.1, 0.5], 0.1, 0, 1) == [0.9, 0.1, 0.5]


@given(st.lists(st.tuples(st.sampled_from("mp"), st.integers(0, 3)), min_size=1, max_size=12))
def test_ids_depend_on_their_order_alone(used):
    """Two machines whose floats differ in the last digit hash the same clip to other ids."""

    def drawn(machine):
        ids = [f"{kind}{(number + 7 * machine):010x}" for kind, number in used]
        return "".join(f'<path id="{name}"/><use href="#{name}"/>' for name in ids)

    assert number_ids(drawn(0)) == number_ids(drawn(1))
    assert len(set(re.findall(r'id="(\w+)"', number_ids(drawn(0))))) == len(set(used))


def test_other_processes_print_the_same_bytes():
    def drawings():
        for name in ("one", "two", "three"):
            figure, (axes,) = new_figure(1, (3, 2))
            axes.plot([1, 2, len(name)])
            axes.set_title(name)
            yield Drawing(name, name, name, name, figure)

    here, there = list(drawings()), list(drawings())
    print_all(here, 1)
    print_all(there, 2)
    assert [drawing.svg for drawing in here] == [drawing.svg for drawing in there]
    assert [drawing.png for drawing in here] == [drawing.png for drawing in there]
    assert len({drawing.png for drawing in there}) == 3


@pytest.fixture(autouse=True)
def notebook_style():
    with mpl.rc_context():
        use_style()
        yield


def labelled(count):
    figure, axes = panels(count)
    for panel in axes:
        panel.plot([0, 1], [1, 0])
        panel.set_xlabel("step")
        panel.set_ylabel("nats")
    return figure, axes


def test_the_style_is_the_reports_with_larger_type():
    changed = {"font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize", "figure.facecolor"}
    assert all(mpl.rcParams[key] == value for key, value in STYLE.items() if key not in changed | {"font.family"})
    assert mpl.rcParams["font.size"] >= 10


def test_a_method_has_its_colour_and_a_new_one_is_told_apart():
    assert colour_of("lora") == COLOURS["lora"]
    assert colour_of("my_method") not in (COLOURS["lora"], COLOURS["solo_connection"])


def test_a_picture_carries_its_description_and_size():
    figure, _ = labelled(2)
    picture = show(figure, "Two falling lines.")
    assert picture.alt == "Two falling lines."
    assert picture.data.startswith(b"\x89PNG")
    assert picture.width == 800


def test_an_axis_without_a_label_is_refused():
    figure, axes = labelled(2)
    axes[1].set_ylabel("")
    axes[1].set_title("Loss")
    with pytest.raises(ValueError, match="'Loss': both axes need a label"):
        show(figure, "A line.")


@settings(max_examples=8)
@given(st.lists(st.floats(-2000, 2000).map(lambda value: float(f"{value:.4g}")), min_size=2, max_size=4, unique=True))
def test_the_labels_of_an_svg_are_those_of_matplotlib_while_coordinates_are_rounded(ticks):
    """A rounding of every number in the file once turned 0.0025 into 0."""
    figure, (axes,) = new_figure(1, (4, 3))
    axes.plot([0, 1], [min(ticks), max(ticks)])
    axes.set_xticks([0, 0.0125, 1])
    axes.set_yticks(ticks)
    axes.yaxis.set_major_formatter("{x:.6f}")
    svg = Drawing("small", "", "", "", figure).svg
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    expected = [label.get_text() for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()]
    assert [text.replace("−", "-") for text in shown] == [text.replace("−", "-") for text in expected if text]
    assert not re.search(r'd="[^"]*\.\d{3}', svg)


def luminance(colour):
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("ground", ["#ffffff", "#15161f"])
def test_every_colour_shows_on_the_light_and_on_the_dark_page(ground):
    """WCAG 1.4.11: 3 to 1 for what must be seen to understand a figure."""
    for colour in (*COLOURS.values(), *CYCLE):
        dark, light = sorted((luminance(colour), luminance(ground)))
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_a_heat_map_is_one_small_picture_from_the_top_left():
    figure, (axes,) = new_figure(1, (4, 3))
    values = np.arange(1200.0).reshape(30, 40)
    values[0, 0] = np.nan
    heat_map(axes, values, 0.0, 1199.0, 40.0)
    scale_beside(axes, 0.0, 1199.0, "weight")
    svg = Drawing("map", "", "", "", figure).svg
    assert svg.count("<image") == 2
    assert len(svg) < 12_000
    assert "pixelated" in svg
    assert (axes.get_ylim(), axes.get_xlim()) == ((30, 0), (0, 40))


def test_a_picture_has_a_palette():
    figure, (axes,) = new_figure(1, (3, 2))
    axes.plot([0, 1])
    assert Image.open(io.BytesIO(Drawing("small", "", "", "", figure).png)).mode == "P"


KILLED = """
import os, signal
from analysis.show import drawing
drawing.WATCH_SECONDS = 0.01
drawing._rendered = lambda index: None if index else os.kill(os.getppid(), signal.SIGKILL)
drawing._rendered.__module__, drawing._rendered.__qualname__ = drawing.__name__, "_rendered"  # it is sent by name
drawing.print_all([None] * 4, 2)
"""


def test_the_processes_end_with_a_killed_report(project_root):
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, cwd=project_root, stdout=subprocess.PIPE) as report:
        assert report.stdout.read() == b""  # until the last process has closed it
    assert report.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", [r"a $\frac{b$ c", "$<script>^$", "a\x1b[31m\0b", "<b>&amp;"])
def test_a_name_is_text_in_a_figure(name):
    figure, (axes,) = panels()
    axes.set(xlabel=name, title=name)
    axes.plot([1, 2], label=name)
    axes.legend()
    root = ElementTree.fromstring(Drawing("figure", name, name, name, figure).svg)
    shown = printable(name)
    assert [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")].count(shown) == 3


def test_a_picture_keeps_the_colour_of_every_method():
    """Thin lines and small markers among much text, as in the figure of all methods' scores."""
    figure, (axes,) = new_figure(1, (7.6, 7.4))
    for place, colour in enumerate(COLOURS.values()):
        axes.errorbar(place, place, xerr=0.5, color=colour, fmt="o", capsize=3)
        axes.text(len(COLOURS), place, "some method (r=4, K=3)")
    drawing = Drawing("all", "All", "Every method.", "Markers.", figure)
    with Image.open(io.BytesIO(drawing.png)) as picture:
        assert picture.mode == "P"
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255), "the ground stays white"
        drawn = {colour for _, colour in picture.convert("RGB").getcolors(picture.width * picture.height)}
    wanted = {tuple(bytes.fromhex(colour[1:])) for colour in COLOURS.values()}
    assert wanted <= drawn, f"lost: {wanted - drawn}"
