"""Importance weights, map, overlap, score against parameters, memory, rank growth."""

import dataclasses
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from analysis.judge.study import Study
from analysis.load.runs import load_profile
from analysis.load.searches import read_memory
from analysis.show.drawing import COLOURS
from analysis.show.figures import _apart, memory_against_adapters, score_against_parameters
from analysis.show.selection_figures import importance_weights, overlap, rank_growth, selected_map, variants

METHODS = ("weight_lora", "weight_lora_plus")


@pytest.fixture(scope="module")
def found(task_study):
    return {variant.label: variant for variant in variants(task_study.experiments, METHODS)}


@pytest.fixture(scope="module")
def memory(tasks_module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    tasks_module.write_memory(folder)
    return read_memory(folder)[0]


@pytest.fixture(scope="module")
def drawings(task_study, found, authors, memory):
    plus = [found["WeightLoRA+ (K=12→3, r=4→16)"]]
    drawn = [
        *(importance_weights(variant) for variant in found.values()),
        selected_map(list(found.values()), authors),
        overlap(list(found.values()), authors),
        score_against_parameters(task_study),
        memory_against_adapters(memory, authors, "cpu"),
        rank_growth(plus, {"minilm-l6": 110_592}),
    ]
    return {drawing.name: drawing for drawing in drawn}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_variants_gather_the_tasks_of_one_method(found):
    assert list(found) == ["WeightLoRA (r=8, K=3)", "WeightLoRA+ (K=12→3, r=4→16)"]
    assert len(found["WeightLoRA (r=8, K=3)"].experiments) == 2
    assert found["WeightLoRA+ (K=12→3, r=4→16)"].name == "minilm_l6_weightlora_plus_k_12_3_r_4_16"


def test_every_figure_has_a_source_and_words_for_those_who_do_not_see_it(drawings):
    assert len(drawings) == 7
    for drawing in drawings.values():
        assert "ource" in drawing.caption or "Logs: " in drawing.caption
        assert len(drawing.alternative) > 30
        assert not re.search(r'(?:href|src)="(?!#)', drawing.svg)
        ET.fromstring(drawing.svg)


def test_png_is_a_picture_with_something_on_it(drawings):
    for drawing in drawings.values():
        image = np.asarray(Image.open(io.BytesIO(drawing.png)).convert("RGB"))
        assert image.shape[1] == 1216
        assert 0.01 < (image != 255).any(axis=2).mean() < 0.7


def test_the_same_runs_give_the_same_bytes(drawings, task_study, found):
    again = importance_weights(found["WeightLoRA (r=8, K=3)"])
    assert again.svg == drawings[again.name].svg
    again = score_against_parameters(task_study)
    assert again.svg == drawings[again.name].svg


def test_nothing_is_cut_off(drawings):
    """Every text of every figure lies inside the picture."""
    for drawing in drawings.values():
        figure = drawing.figure
        figure.draw_without_rendering()
        width, height = figure.get_size_inches() * figure.dpi
        renderer = figure.canvas.get_renderer()
        shown = [text for legend in figure.legends for text in legend.get_texts()]
        for axes in figure.axes:
            shown += [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title, *axes.texts]
        for text in shown:
            if text.get_text() and text.get_visible():
                box = text.get_window_extent(renderer)
                assert box.x0 >= -1, (drawing.name, text)
                assert box.x1 <= width + 1, (drawing.name, text)
                assert box.y0 >= -1, (drawing.name, text)
                assert box.y1 <= height + 1, (drawing.name, text)


def test_a_score_axis_never_magnifies_thousandths(drawings):
    for axes in drawings["task_parameters_score"].figure.axes:
        if axes.get_visible():
            low, high = axes.get_ylim()
            assert high - low >= 0.1


def test_importance_weights_name_the_kept_and_mark_the_projections(found):
    variant = found["WeightLoRA (r=8, K=3)"]
    axes = importance_weights(variant).figure.axes[0]
    selection = variant.experiments[0].selections[18]
    assert sorted(texts(axes)) == sorted(
        f"{a.role[0]}{a.block}" for a in selection.adapters if a.index in selection.survivors
    )
    ticks = next(line for line in axes.lines if line.get_marker() == "|")
    assert list(ticks.get_xdata()) == list(selection.projections)
    labels = axes.get_legend_handles_labels()[1]
    assert {"dropped", "projection", "losers removed"} <= set(labels)
    weights = np.array(selection.trace.weights)
    kept = next(line for line in axes.lines if line.get_label().startswith("kept"))
    assert any(np.allclose(kept.get_ydata(), weights[:, index]) for index in selection.survivors)


def test_a_single_task_is_shown_seed_by_seed(write_task_runs, tmp_path):
    runs = write_task_runs(tmp_path, tasks=("cola",), methods=("weight_lora-k3",), items=10, seeds=(18, 52))
    (variant,) = variants(load_profile(runs), METHODS)
    drawing = importance_weights(variant)
    assert [axes.get_title(loc="left") for axes in drawing.figure.axes] == ["CoLA, seed 18", "CoLA, seed 52"]


def test_the_map_counts_seeds_and_shows_the_logs(drawings, found, authors):
    figure = drawings["selected_map"].figure
    ours = next(axes for axes in figure.axes if axes.get_title(loc="left").startswith("WeightLoRA (r=8, K=3)"))
    counted = sum(int(text) for text in texts(ours))
    assert counted == 2 * 3 * 3  # tasks x seeds x K
    titles = [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes]
    assert titles[-3:] == ["Authors' logs, K=1", "Authors' logs, K=5", "Authors' logs, K=10"]
    logs = [axes for axes in figure.axes if axes.get_title(loc="left").startswith("Authors")]
    for axes, keep in zip(logs, authors.logs.keeps, strict=True):
        filled = len(axes.collections[0].get_paths())
        assert filled == 8 * keep


def test_overlap_shows_sets_beside_positions_and_says_why_they_differ(drawings):
    drawing = drawings["overlap"]
    assert "CoLA and MNLI at K=5 share 4 of 5 adapters (0.8)" in drawing.caption
    assert "by position the same two lists agree in 0.4" in drawing.caption
    assert "understates agreement" in drawing.caption
    by_title = {axes.get_title(loc="left"): axes for axes in drawing.figure.axes}
    sets, positions = (by_title[f"Authors' logs, K=5, {way}"] for way in ("as sets", "by position"))
    assert texts(sets)[1] == ".80"  # CoLA and MNLI
    assert texts(positions)[1] == ".40"
    ours = next(axes for title, axes in by_title.items() if title.startswith("WeightLoRA (r=8, K=3)"))
    assert len(texts(ours)) == 4


def test_a_model_that_predicts_one_class_is_a_hollow_point(task_study):
    def markers(study):
        axes = score_against_parameters(study).figure.axes[0]
        return [bars[0].get_fillstyle() for bars in axes.containers]

    changed = []
    for experiment in task_study.experiments:
        if experiment.name == "my-cola-lora":
            found = {seed: [{**r, "prediction": 1} for r in rows] for seed, rows in experiment.predictions.items()}
            experiment = dataclasses.replace(experiment, predictions=found)
        changed.append(experiment)
    assert set(markers(task_study)) == {"full"}
    assert markers(Study.of(changed)).count("none") == 1


def test_a_long_title_above_a_panel_is_broken(write_task_runs, tmp_path):
    runs = write_task_runs(
        tmp_path, backbone="microworld-deberta", tasks={"microworld_qa_unanswerable": "squad_v1"},
        methods=("frozen", "lora"), items=12, seeds=(18, 52, 1917),
    )  # fmt: skip
    axes = score_against_parameters(Study.of(load_profile(runs))).figure.axes[0]
    lines = axes.get_title(loc="left").split("\n")
    assert " ".join(lines) == "restaurant questions, some unanswerable on small DeBERTa"
    assert max(map(len, lines)) <= 34


def test_points_are_named_and_frozen_is_a_level(task_study, drawings):
    axes = drawings["task_parameters_score"].figure.axes[0]
    assert set(texts(axes)) == {row.label for row in task_study.rows}
    level = next(line for line in axes.lines if line.get_linestyle() == "--")
    frozen = next(row for row in task_study.rows if row.experiment == "my-cola-frozen")
    assert level.get_ydata()[0] == pytest.approx(frozen.scores["matthews_correlation"].mean)
    assert COLOURS["weight_lora"].lower() in drawings["task_parameters_score"].svg.lower()


def test_equal_counts_are_moved_apart_and_zero_stays():
    positions = _apart([100, 102, 0, 5000])
    assert positions[2] == 0
    assert positions[3] == 5000
    assert positions[1] / positions[0] > 1.1
    assert positions[0] < 100 < positions[1]


def test_memory_is_ours_beside_the_authors_without_the_constant(drawings, authors, memory):
    left, right = drawings["memory_adapters"].figure.axes
    assert list(left.lines[0].get_xdata()) == [1, 3, 6, 12, 18]
    assert len(right.lines) == 5
    assert right.lines[0].get_ydata()[0] == 11.738
    caption = drawings["memory_adapters"].caption
    assert "adds a constant 3.5 GB to the measured values" in caption
    assert "fresh process" in caption
    absent = memory_against_adapters(None, authors, "quick")
    assert "not measured in the quick profile" in absent.caption
    assert texts(absent.figure.axes[0]) == ["not measured\nin this profile"]


def test_rank_growth_follows_the_expansions(found):
    drawing = rank_growth([found["WeightLoRA+ (K=12→3, r=4→16)"]], {"minilm-l6": 110_592})
    left, right = drawing.figure.axes
    assert list(left.lines[0].get_xdata()) == [0, 60, 90, 120, 200]
    assert list(left.lines[0].get_ydata()) == [4, 4, 8, 16, 16]
    assert texts(left) == ["K=18", "K=12", "K=6", "K=3"]
    assert list(right.lines[0].get_ydata()) == [55_296, 36_864, 36_864, 36_864, 36_864]
    assert rank_growth([found["WeightLoRA (r=8, K=3)"]], {}) is None


def test_an_encoder_decoder_is_drawn_too(write_task_runs, tmp_path, authors):
    runs = write_task_runs(
        tmp_path, profile="quick", backbone="microworld-bart", tasks={"microworld_headlines": "rouge"},
        methods=("weight_lora-k3",), items=10,
    )  # fmt: skip
    found = variants(load_profile(runs), METHODS)
    axes = selected_map(found, authors).figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()][:2] == ["enc q 0–1", "enc k 0–1"]


def test_without_runs_only_the_authors_are_drawn(authors):
    assert variants([], METHODS) == []
    assert "nothing was run" in selected_map([], authors).caption
    assert "No run of this profile has two sets" in overlap([], authors).caption
    assert score_against_parameters(Study.of([])) is None
