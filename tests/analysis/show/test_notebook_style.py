"""Notebook figures share the report's style, carry a description, and label their axes."""

import matplotlib as mpl
import pytest

from analysis.show.drawing import COLOURS, STYLE, colour_of, panels, show, use_style


@pytest.fixture(autouse=True)
def style():
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
