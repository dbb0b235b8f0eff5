"""The forest and the published differences: what they draw is what the rule and the tables say."""

import numpy as np
import pytest

from analysis.judge.claims import load_bench
from analysis.judge.decision import CONFIDENCE
from analysis.judge.published_vs_measured import lora_differences
from analysis.load.paper_folder import load_published
from analysis.load.runs import load_profile
from analysis.show.authors_logs import halved
from analysis.show.forest import OVER_ITEMS, OVER_SEEDS, forest, published_against_measured


@pytest.fixture(scope="module")
def bench(task_runs):
    return load_bench("cpu", load_profile(task_runs))


@pytest.fixture(scope="module")
def paper(paper_runs):
    return load_bench("paper", load_profile(paper_runs))


def drawn_findings(bench):
    findings = [(judged, f) for judged in bench.verdicts for case in judged.primary for f in case.findings]
    return [(judged, finding) for judged, finding in findings if finding.difference.mean_test is not None]


def test_every_primary_comparison_is_a_row_with_its_verdict(bench, paper):
    for found in (bench, paper):
        drawing = forest(found)
        (axes,) = drawing.figure.axes
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert len(labels) == len(drawn_findings(found))
        for judged, finding in drawn_findings(found):
            assert any(finding.question.name in label and judged.verdict_shown in label for label in labels)
            assert f"{finding.question.name}: {finding.difference.effect:+.3f}" in drawing.alternative
    legend = {text.get_text() for legend in drawing.figure.legends for text in legend.get_texts()}
    assert {"published", "measured", "over seeds alone", "over test examples alone"} <= legend


def test_both_intervals_and_the_one_that_decides_are_drawn_where_the_rule_has_them(bench):
    (axes,) = forest(bench).figure.axes
    differences = [finding.difference for _, finding in drawn_findings(bench)]
    for colour, intervals in (
        (OVER_SEEDS, [difference.over_seeds for difference in differences]),
        (OVER_ITEMS, [difference.over_items for difference in differences]),
    ):
        lines = [line.get_xdata() for line in axes.lines if line.get_color() == colour and len(line.get_xdata()) == 2]
        assert np.allclose(sorted(map(tuple, lines)), sorted((i.low, i.high) for i in intervals if i is not None))
    bars = sorted(tuple(bar.lines[2][0].get_segments()[0][:, 0]) for bar in axes.containers if hasattr(bar, "lines"))
    deciding = [difference.mean_test.interval(CONFIDENCE) for difference in differences]
    assert np.allclose(bars, sorted((interval.low, interval.high) for interval in deciding))


def test_published_and_measured_differences_are_points_of_one_axis(quick_runs, authors):
    study = load_bench("quick", load_profile(quick_runs)).study
    differences, halves = lora_differences(study, load_published()), halved(study, authors)
    drawing = published_against_measured(differences, halves, "quick")
    left, right = drawing.figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["CIDEr", "ROUGE-L", "METEOR", "NIST", "BLEU"]
    entry = next(e for e in differences if (e.method, e.metric) == ("solo_connection", "BLEU"))
    points = {round(float(line.get_ydata()[0])): line.get_xdata()[0] for line in left.lines if line.get_marker() == "D"}
    assert points[4] == pytest.approx(100 * float(entry.published) / 0.6745)
    measured = {round(float(b.lines[0].get_ydata()[0])): b.lines[0].get_xdata()[0] for b in left.containers}
    assert measured[4] == pytest.approx(100 * entry.measured.effect / entry.levels[1])
    assert len([line for line in right.lines if line.get_marker() == "D"]) == len(authors.logs.tasks)
    assert "published +0.0025" in drawing.alternative


def test_without_comparisons_there_is_no_figure(authors):
    assert forest(load_bench("cpu", [])) is None
    assert published_against_measured([], [], "cpu") is None
