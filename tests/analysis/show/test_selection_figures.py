"""Importance weights, map, overlap, score against parameters, memory."""

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
from analysis.show.figures import ALIKE, ONE_SEED, memory_against_adapters, score_against_parameters
from analysis.show.selection_figures import importance_weights, overlap, selected_map, variants

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
    drawn = [
        *(importance_weights(variant) for variant in found.values()),
        selected_map(list(found.values()), authors),
        overlap(list(found.values()), authors),
        score_against_parameters(task_study),
        memory_against_adapters(memory, "cpu"),
    ]
    return {drawing.name: drawing for drawing in drawn}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_variants_gather_the_tasks_of_one_method(found):
    assert list(found) == ["WeightLoRA (r=8, K=3)", "WeightLoRA+ (K=12→3, r=4→16)"]
    assert len(found["WeightLoRA (r=8, K=3)"].experiments) == 2
    assert found["WeightLoRA+ (K=12→3, r=4→16)"].name == "minilm_l6_weightlora_plus_k_12_3_r_4_16"


def test_every_figure_has_a_source_and_words_for_those_who_do_not_see_it(drawings):
    assert len(drawings) == 6
    for drawing in drawings.values():
        assert "ource" in drawing.caption or "Logs: " in drawing.caption
        assert len(drawing.alternative) > 30
        assert not re.search(r'(?:href|src)="(?!#|data:)', drawing.svg)
        ET.fromstring(drawing.svg)


def test_png_is_a_picture_with_something_on_it(drawings):
    for drawing in drawings.values():
        image = np.asarray(Image.open(io.BytesIO(drawing.png)).convert("RGB"))
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
    for axes in drawings["task_scores"].figure.axes:
        if axes.get_visible():
            low, high = axes.get_xlim()
            assert high - low >= 0.1


def test_importance_weights_are_a_row_an_adapter_and_the_kept_are_marked(found):
    variant = found["WeightLoRA (r=8, K=3)"]
    axes = importance_weights(variant).figure.axes[0]
    selection = variant.experiments[0].selections[18]
    weights = np.array(selection.trace.weights, dtype=float)
    order = sorted(
        range(18), key=lambda index: ("qkv".index(selection.adapters[index].role[0]), selection.adapters[index].block)
    )
    shown = np.ma.filled(axes.images[0].get_array(), 0.0)
    assert shown.shape[0] == 18
    assert np.nan_to_num(shown[:, -1]) == pytest.approx(weights[-1][order])
    marks = next(line for line in axes.lines if line.get_label() == "kept")
    assert sorted(order[int(y)] for y in marks.get_ydata()) == sorted(selection.survivors)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["q 0–5", "k 0–5", "v 0–5"]
    assert len(importance_weights(variant).svg) < 40_000


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


def test_one_seed_and_equal_predictions_have_marks_of_their_own(task_study):
    def labels(study):
        axes = score_against_parameters(study).figure.axes[0]
        return [bars.get_label() for bars in axes.containers]

    changed = []
    for experiment in task_study.experiments:
        if experiment.name == "my-cola-lora":
            found = {seed: [{**r, "prediction": 1} for r in rows] for seed, rows in experiment.predictions.items()}
            experiment = dataclasses.replace(experiment, predictions=found)
        changed.append(experiment)
    assert ALIKE not in labels(task_study)
    assert ONE_SEED not in labels(task_study)
    assert labels(Study.of(changed)).count(ALIKE) == 1


def test_a_long_title_above_a_panel_is_broken(write_task_runs, tmp_path):
    runs = write_task_runs(
        tmp_path, backbone="microworld-deberta", tasks={"microworld_qa_unanswerable": "squad_v1"},
        methods=("frozen", "lora"), items=12, seeds=(18,),
    )  # fmt: skip
    axes = score_against_parameters(Study.of(load_profile(runs))).figure.axes[0]
    lines = axes.get_title(loc="left").split("\n")
    assert " ".join(lines) == "restaurant questions, some unanswerable on small DeBERTa"
    assert max(map(len, lines)) <= 26
    assert ONE_SEED in [bars.get_label() for bars in axes.containers]


def test_every_method_is_named_with_what_it_trains(task_study, drawings):
    axes = drawings["task_scores"].figure.axes[0]
    names = [label.get_text().replace("\n", " ").partition(" [")[0] for label in axes.get_yticklabels()]
    assert set(names) == {row.label for row in task_study.rows}
    assert COLOURS["weight_lora"].lower() in drawings["task_scores"].svg.lower()


def test_memory_is_drawn_from_zero_and_only_where_it_was_measured(drawings, memory):
    (axes,) = drawings["memory_adapters"].figure.axes
    assert list(axes.lines[0].get_xdata()) == [1, 3, 6, 12, 18]
    assert axes.get_ylim()[0] == 0
    assert "fresh process" in drawings["memory_adapters"].caption
    assert memory_against_adapters(None, "quick") is None


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
