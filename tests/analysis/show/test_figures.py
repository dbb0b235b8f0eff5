import io
import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from analysis.judge.study import Study
from analysis.load.judgement import load_judgement
from analysis.load.runs import experiment_labels, load_profile
from analysis.show.drawing import COLOURS
from analysis.show.figures import draw_all, homotopy, loss_curves, score_against_parameters, scores_at_a_glance


@pytest.fixture(scope="module")
def quick(quick_runs):
    return load_profile(quick_runs)


@pytest.fixture(scope="module")
def drawings(quick):
    study = Study.of(quick)
    return {drawing.name: drawing for drawing in (*draw_all(study), scores_at_a_glance(study))}


def test_runs_of_an_earlier_grid_are_not_drawn_beside_the_others(quick):
    judgement = load_judgement().model_copy(update={"roles": {"quick": {"earlier": ("solo_connection",)}}})
    (curves,) = draw_all(Study.of(quick, judgement=judgement))
    assert curves.name == "loss_curves"
    assert COLOURS["lora"].lower() in curves.svg.lower()
    assert COLOURS["solo_connection"].lower() not in curves.svg.lower()


def test_every_figure_is_drawn_and_says_where_it_comes_from(drawings):
    assert list(drawings) == ["loss_curves", "homotopy_solo_connection", "scores"]
    for drawing in drawings.values():
        assert "quick profile" in drawing.caption
        assert "embedded synthetic corpus" in drawing.caption
        assert "seeds 18, 52, 1917" in drawing.caption


def test_the_same_runs_give_the_same_bytes(quick, drawings):
    for again in draw_all(Study.of(quick)):
        assert again.svg == drawings[again.name].svg
        assert again.png == drawings[again.name].png


def test_the_process_settings_do_not_change_a_figure(quick, drawings):
    with mpl.rc_context({"font.size": 20, "axes.grid": False, "svg.hashsalt": None}):
        again = loss_curves(quick)
        assert again.svg == drawings["loss_curves"].svg


def test_no_date_no_outside_reference(drawings):
    for drawing in drawings.values():
        svg = drawing.svg
        assert not re.search(r"<dc:date>", svg)
        assert not re.search(r'(?:href|src)="(?!#|data:)', svg)
        ET.fromstring(svg)


def test_png_is_a_picture_with_something_on_it(drawings):
    for drawing in drawings.values():
        image = np.asarray(Image.open(io.BytesIO(drawing.png)).convert("RGB"))
        assert image.shape[1] == 1216
        assert (image[0, 0] == 255).all()
        assert 0.01 < (image != 255).any(axis=2).mean() < 0.5


def test_a_method_has_one_colour_in_every_figure(drawings):
    for name, methods in (
        ("loss_curves", ("full", "frozen", "lora", "solo_connection")),
        ("scores", ("full", "lora", "solo_connection")),
    ):
        svg = drawings[name].svg.lower()
        assert all(COLOURS[method].lower() in svg for method in methods), name


def test_curves_show_each_seed_and_their_mean(quick):
    axes = loss_curves(quick).figure.axes[0]
    lora = [line for line in axes.lines if line.get_color() == COLOURS["lora"]]
    assert len(lora) == 4
    seeds, mean = lora[:3], lora[3]
    assert mean.get_linewidth() > seeds[0].get_linewidth()
    assert mean.get_ydata() == pytest.approx(np.mean([line.get_ydata() for line in seeds], axis=0))


def test_a_frozen_backbone_is_a_level_in_the_dev_panel(quick):
    axes = loss_curves(quick).figure.axes[1]
    frozen = [line for line in axes.lines if line.get_color() == COLOURS["frozen"]]
    assert len(frozen) == 1
    assert frozen[0].get_ydata() == [pytest.approx(4.1)] * 2


def picture(axes):
    """A heat map's values (rows, columns)."""
    return np.asarray(axes.images[0].get_array())


def test_a_row_is_a_connection_and_a_column_a_step_of_the_mean_over_seeds(quick, paper_runs):
    solo = next(e for e in quick if e.name == "solo_connection")
    left, right = homotopy(solo, experiment_labels(quick)).figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["2→4", "4→6", "6→8"]
    for axes, kind in ((left, "homotopy_parameter"), (right, "homotopy_vector_norm")):
        curves = [curve[f"{kind}[4->6]"].dropna().to_numpy() for curve in solo.curves.values()]
        assert picture(axes)[1] == pytest.approx(np.mean(curves, axis=0))
    paper = load_profile(paper_runs)
    k2 = next(e for e in paper if e.name == "solo-k2")
    labels = homotopy(k2, experiment_labels(paper)).figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == [f"{end - 2}→{end}" for end in range(4, 25, 2)]


def test_a_caption_names_what_the_variant_has(quick, paper_runs):
    paper = load_profile(paper_runs)
    none = next(e for e in paper if e.name == "solo-none")
    drawing = homotopy(none, experiment_labels(paper))
    assert len(drawing.figure.axes) == 1
    assert "homotopy parameter (free" not in drawing.caption
    assert "norm of the homotopy vector" in drawing.caption


def test_other_methods_have_no_trajectories(quick):
    labels = experiment_labels(quick)
    assert [homotopy(e, labels) for e in quick if e.name != "solo_connection"] == [None] * 3


def test_a_row_is_a_method_in_the_order_of_its_trained_parameters(quick):
    rows = Study.of(quick).rows
    (axes,) = score_against_parameters(Study.of(quick)).figure.axes
    labels = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    assert labels == [
        "Frozen backbone", "Solo Connection (r=12, k=2) [2.74k]", "LoRA (r=4) [12.3k]", "Full fine-tuning [952k]",
    ]  # fmt: skip
    bars = [container.lines[2][0].get_segments()[0][:, 0] for container in axes.containers]
    trained = [next(row for row in rows if row.method == method) for method in ("solo_connection", "lora", "full")]
    for row, ends in zip(trained, bars, strict=True):
        summary = row.scores["BLEU"]
        spread = summary.standard_deviation
        assert tuple(ends) == pytest.approx((summary.mean - spread, summary.mean + spread))
    frozen = next(row for row in rows if row.method == "frozen").scores["BLEU"].mean
    low, high = axes.get_xlim()
    assert frozen < low
    assert [text.get_text() for text in axes.texts] == [f"◂ {frozen:.3f}"]
    assert high - low >= 0.1


@pytest.mark.parametrize("name", ["loss_curves", "homotopy_solo-k2"])
def test_nothing_is_cut_off_with_many_experiments(paper_runs, name):
    """Every text of the figure, legends included, lies inside the picture."""
    experiments = load_profile(paper_runs)
    drawing = next(d for d in draw_all(Study.of(experiments)) if d.name == name)
    figure = drawing.figure
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    renderer = figure.canvas.get_renderer()
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    texts += [text for axes in figure.axes for text in (axes.xaxis.label, axes.yaxis.label, axes.title)]
    for text in texts:
        box = text.get_window_extent(renderer)
        if text.get_text():
            assert box.x0 >= -1, text
            assert box.x1 <= width + 1, text
            assert box.y0 >= -1, text
            assert box.y1 <= height + 1, text


def test_no_runs_no_figures():
    assert draw_all(Study.of([])) == []
