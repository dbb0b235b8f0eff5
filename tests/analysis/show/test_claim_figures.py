"""Figures behind the verdicts: what they show equals what the rule computes, and absent data gives none."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.judge.claims import load_bench
from analysis.judge.decision import ALPHA, CONFIDENCE, LEAST_SEEDS, POWER
from analysis.judge.solo_claims import ablation, smoothness_differences
from analysis.load.runs import load_profile
from analysis.show.claim_figures import (
    LOOKS,
    design_sections,
    detectable,
    detectable_block,
    detectable_differences,
    draw_judged,
    power_curves,
    smoothness_against_window,
    write_judged_plots,
)
from analysis.stats.power import Spread, power, smallest_detectable
from analysis.stats.smoothness import MEASURES, WINDOWS
from replication.fileio import read_json, write_json


@pytest.fixture(scope="module")
def bench(task_runs):
    return load_bench("cpu", load_profile(task_runs))


@pytest.fixture(scope="module")
def designs(bench):
    return detectable(bench)


@pytest.fixture(scope="module")
def paper(paper_runs):
    return load_bench("paper", load_profile(paper_runs))


def texts_inside(figure):
    """Whether every title, label and legend lies inside the picture."""
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    renderer = figure.canvas.get_renderer()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    texts += [text for axes in shown for text in (axes.xaxis.label, axes.yaxis.label, axes._left_title, *axes.texts)]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    return all(b.x0 >= -1 and b.x1 <= width + 1 and b.y0 >= -1 and b.y1 <= height + 1 for b in boxes)


# --- what a design can detect ------------------------------------------------------


def test_every_primary_comparison_has_a_panel_with_its_own_numbers(bench, designs):
    findings = [f for judged in bench.verdicts for case in judged.primary for f in case.findings]
    assert [one.finding for one in designs] == [f for f in findings if f.difference.spread is not None]
    assert designs
    figure = detectable_differences(designs, "cpu").figure
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == len(designs)
    for axes, one in zip(panels, designs, strict=True):
        curve, dot = axes.lines[0], axes.lines[1]
        assert list(curve.get_ydata()) == [
            pytest.approx(smallest_detectable(one.spread, count, one.level, POWER)) for count in curve.get_xdata()
        ]
        assert dot.get_xdata() == [len(one.finding.difference.seeds)]
        assert dot.get_ydata()[0] == pytest.approx(one.finding.detectable)
        levels = [line.get_ydata()[0] for line in axes.lines[2:]]
        assert one.target is None or pytest.approx(one.target) in levels
        assert axes.get_title(loc="left") == one.finding.question.name
    assert texts_inside(figure)


def test_a_family_is_judged_at_its_own_level(designs):
    for one in designs:
        assert one.level == pytest.approx(ALPHA / (one.finding.family or 1))


def test_the_curve_falls_to_the_limit_of_the_examples(designs):
    for one in designs:
        values = [one.curve[count] for count in sorted(one.curve)]
        assert all(np.diff(values) < 0)
        assert values[-1] > one.limit
        assert min(one.curve) == LEAST_SEEDS


def test_the_figure_is_described_and_a_picture(designs):
    drawing = detectable_differences(designs, "cpu")
    assert "cpu profile" in drawing.caption
    assert f"{designs[0].curve[designs[0].seeds]:.3f} with {designs[0].seeds} seeds" in drawing.alternative
    image = np.asarray(Image.open(io.BytesIO(drawing.png)).convert("RGB"))
    assert 0.01 < (image != 255).any(axis=2).mean() < 0.5


def test_the_table_gives_power_and_needs_for_the_difference_that_matters(designs):
    block = detectable_block(designs, "cpu")
    assert len(block.rows) == len([one for one in designs if one.target])
    assert all(len(row) == len(block.headers) for row in block.rows)
    one, row = next(one for one in designs if one.target), block.rows[0]
    assert int(row[4].strip("<> %")) == pytest.approx(100 * power(one.target, one.spread, 8, one.level), abs=1)


def test_no_runs_no_section():
    empty = load_bench("cpu", [])
    assert detectable(empty) == []
    assert design_sections([], "cpu") == []
    assert draw_judged(empty) == []


def test_one_seed_has_no_spread_and_no_panel(write_task_runs, tmp_path):
    runs = write_task_runs(tmp_path / "runs", tasks=("cola",), methods=("lora", "weight_lora-k3"), seeds=(18,))
    assert detectable(load_bench("cpu", load_profile(runs))) == []


def test_power_curves_cross_the_target_at_the_smallest_detectable_difference():
    spread = Spread(0.01, 0.004, 0.005, 800)
    drawing = power_curves(spread, 8, ALPHA)
    left, right = drawing.figure.axes
    lines = {line.get_label(): line for line in left.lines}
    for count in (3, 5, 8, 12, 20):
        x, y = (np.asarray(part) for part in lines[f"{count} seeds"].get_data())
        reached = x[np.searchsorted(y, POWER)]
        assert reached == pytest.approx(smallest_detectable(spread, count, ALPHA, POWER), abs=2 * (x[1] - x[0]))
    assert right.lines[1].get_xdata() == [8]
    assert texts_inside(drawing.figure)


def test_without_noise_of_examples_there_is_no_limit():
    labels = [line.get_label() for line in power_curves(Spread(0.01), 3, ALPHA).figure.axes[0].lines]
    assert "any number of seeds" not in labels


# --- the smoothing window ----------------------------------------------------------


def test_every_window_and_measure_stands_with_its_interval(paper):
    figure = smoothness_against_window(paper).figure
    found = smoothness_differences(paper, *ablation(paper))
    shown = [container for axes in figure.axes for container in axes.containers]
    assert len(shown) == len(found) == len(WINDOWS) + len(MEASURES)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == [str(window) for window in sorted(WINDOWS)]
    effects = sorted(float(container.lines[0].get_ydata()[0]) for container in shown)
    assert effects == pytest.approx(sorted(difference.effect for difference in found))
    drawn = sorted(tuple(container.lines[2][0].get_segments()[0][:, 1]) for container in shown)
    intervals = [difference.mean_test.interval(CONFIDENCE) for difference in found]
    for ends, interval in zip(drawn, sorted((i.low, i.high) for i in intervals), strict=True):
        assert ends == pytest.approx(interval)
    assert texts_inside(figure)


def test_the_look_says_on_which_side_of_zero_an_interval_lies(paper):
    figure = smoothness_against_window(paper).figure
    for container in (container for axes in figure.axes for container in axes.containers):
        low, high = container.lines[2][0].get_segments()[0][:, 1]
        kind = 0 if low > 0 else 1 if high < 0 else 2
        assert container.get_label() == f"interval {LOOKS[kind][0]}"
        assert container.lines[0].get_color() == LOOKS[kind][1]


def test_different_processors_are_told_in_the_caption(write_runs, tmp_path):
    base = {"rank": 120, "skip_length": 2}
    runs = write_runs(
        tmp_path / "runs",
        profile="paper",
        experiments=("solo-k2", "solo-none"),
        items=6,
        settings={"solo-k2": base, "solo-none": {**base, "homotopy_parameter": None}},
    )
    alike = smoothness_against_window(load_bench("paper", load_profile(runs)))
    assert "processor" not in alike.caption
    for path in (runs / "solo-none").glob("training/seed-*/record.json"):
        record = read_json(path)
        record["conditions"]["cpu"] = "another processor"
        write_json(path, record)
    confounded = smoothness_against_window(load_bench("paper", load_profile(runs)))
    assert "different types of processor" in confounded.caption
    assert "no verdict is drawn from it" in confounded.caption


def test_runs_without_the_ablation_give_no_figure(bench):
    assert smoothness_against_window(bench) is None


# --- files ---------------------------------------------------------------------------


def test_the_numbers_stand_beside_the_figures(paper, designs, bench, tmp_path):
    write_judged_plots(tmp_path, designs, paper)
    curves, windows = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("detectable", "smoothness_windows"))
    one = designs[0]
    first = curves[(curves["comparison"] == one.finding.question.name) & (curves["case"] == one.case.title)]
    assert dict(zip(first["seeds"], first["smallest_detectable"], strict=True)) == pytest.approx(one.curve)
    assert sorted(windows["window"].dropna()) == sorted(WINDOWS)
    assert (windows["low"] <= windows["high"]).all()
    write_judged_plots(tmp_path / "none", [], bench)
    assert not (tmp_path / "none").exists()
