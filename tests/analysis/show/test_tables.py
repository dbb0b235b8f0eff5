import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.judge.number_format import format_interval, format_ratio, format_score, spread_decimals
from analysis.judge.published_vs_measured import compared_cells, comparison_block
from analysis.judge.study import Study
from analysis.load.paper_folder import load_published
from analysis.load.published import load_tables
from analysis.load.runs import load_profile
from analysis.show.blocks import to_latex, to_markdown
from analysis.show.run_tables import COST_HEADER
from analysis.show.tables import published_csv, results_block, scores_csv
from analysis.stats.bootstrap import Interval
from analysis.stats.seeds import SeedSummary


@pytest.fixture
def study(quick_runs):
    return Study.of(load_profile(quick_runs))


@pytest.mark.parametrize(
    ("mean", "spread", "text"),
    [
        (0.72034, None, "0.7203"),
        (0.72034, 0.0213, "0.720 ± 0.021"),
        (0.72034, 0.00213, "0.7203 ± 0.0021"),
        (0.72034, 0.000021, "0.7203 ± 0.0000"),
        (8.68, 0.17, "8.68 ± 0.17"),
        (12.3, 1.7, "12.3 ± 1.7"),
        (123.4, 17.2, "123 ± 17"),
        (0.5, 0.0, "0.5000 ± 0.0000"),
    ],
)
def test_a_spread_sets_the_places_of_its_mean(mean, spread, text):
    assert format_score(SeedSummary(mean, spread, 1 if spread is None else 3)) == text


def test_what_is_not_measured_is_said():
    assert format_score(None) == "not measured"
    assert format_interval(None) == "not measured"
    assert format_ratio(None) == "unknown"


@given(st.floats(0, 20), st.floats(0, 5))
def test_mean_and_spread_have_the_same_places_and_no_more_than_the_scripts(mean, spread):
    value, deviation = format_score(SeedSummary(mean, spread, 3)).split(" ± ")
    decimals = [len(text.partition(".")[2]) for text in (value, deviation)]
    assert decimals[0] == decimals[1] == spread_decimals(spread) <= 4
    assert abs(float(value) - mean) <= 0.5 * 10 ** -decimals[0] + 1e-9


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.65994, "66.0 %"),
        (0.00073135, "0.0731 %"),
        (1.0, "100 %"),
        (77.4766, "7,748 %"),
        (0.0, "0 %"),
        (0.428, "42.8 %"),
    ],
)
def test_ratios_have_three_significant_digits(ratio, text):
    assert format_ratio(ratio) == text


def test_interval_places_follow_its_width():
    assert format_interval(Interval(0.5, 0.4812, 0.5213)) == "0.481 to 0.521"


def test_the_main_table_says_what_it_is(study):
    block = results_block(study)
    assert "quick profile" in block.caption
    assert "embedded synthetic corpus" in block.caption
    assert {row[0] for row in block.rows} >= {"Full fine-tuning", "Frozen backbone", "LoRA (r=4)"}
    assert all(len(row) == len(block.headers) for row in block.rows)
    seeds = {row[0]: row[-1] for row in block.rows}
    assert seeds["Frozen backbone"] == "one seed"
    assert seeds["LoRA (r=4)"] == "3"
    assert any("of adapter parameters" in note for note in block.notes)


def test_the_best_score_is_marked_and_the_frozen_backbone_is_not_the_cheapest(study):
    block = results_block(study)
    best = {
        (row[0], header)
        for row in block.rows
        for header, cell in zip(block.headers, row, strict=True)
        if getattr(cell, "best", False)
    }
    means = {row.label: row.scores["BLEU"].mean for row in study.rows}
    assert (max(means, key=means.get), "BLEU") in best
    assert ("Solo Connection (r=12, k=2)", "Adapter parameters") in best
    assert COST_HEADER in {header for _, header in best}
    assert {name for name, header in best} & {"Frozen backbone"} == set()
    assert any("not a proven difference" in line for line in block.legend)


def test_csv_can_be_read_back(study):
    found = list(csv.DictReader(io.StringIO(scores_csv(study))))
    assert list(dict.fromkeys(entry["experiment"] for entry in found)) == [row.experiment for row in study.rows]
    solo = next(entry for entry in found if (entry["method"], entry["metric"]) == ("solo_connection", "BLEU"))
    row = next(row for row in study.rows if row.method == "solo_connection")
    interval = study.over_items(study.named(row.experiment))
    assert (float(solo["items_low"]), float(solo["items_high"])) == pytest.approx(
        (interval.low, interval.high), abs=1e-6
    )
    assert float(solo["mean"]) == pytest.approx(row.scores["BLEU"].mean, abs=1e-6)
    assert float(solo["spread"]) == pytest.approx(row.scores["BLEU"].standard_deviation, abs=1e-6)
    assert int(solo["adapter"]) == 2_739
    assert solo["seeds"] == "18 52 1917"
    frozen = next(entry for entry in found if entry["method"] == "frozen")
    assert frozen["spread"] == ""


def test_every_published_row_is_in_the_csv():
    found = list(csv.DictReader(io.StringIO(published_csv(load_tables()))))
    assert len(found) == sum(len(table.rows) for table in load_tables()) == 20
    assert {entry["CIDEr"] for entry in found if entry["CIDEr_standing"] == "unreadable"} == {"2.3?"}


def test_without_java_the_table_says_what_is_missing_and_what_is_approximate(write_runs, tmp_path):
    study = Study.of(load_profile(write_runs(tmp_path, java=False, items=6)))
    block = results_block(study)
    text = to_markdown([block])
    meteor = block.headers.index("METEOR")
    assert {row[meteor] for row in block.rows} == {"not measured"}
    assert all(row[block.headers.index("ROUGE-L")].startswith("≈ ") for row in block.rows)
    assert "METEOR not measured" in text
    assert "approximate" in text
    assert {e["mean"] for e in csv.DictReader(io.StringIO(scores_csv(study))) if e["metric"] == "METEOR"} == {""}


def test_markdown_is_a_table(study):
    lines = [line for line in to_markdown([results_block(study)]).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(study.rows)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_latex_rows_have_one_cell_per_column(study):
    blocks = [
        results_block(study),
        comparison_block(compared_cells(study, load_published()), load_tables(), "why"),
    ]
    text = to_latex(blocks)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    for block, part in zip(blocks, text.split(r"\begin{table}")[1:], strict=True):
        body = re.findall(r"^.* \\\\$", part, flags=re.MULTILINE)
        assert len(body) == 1 + len(block.rows)
        assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(block.headers) - 1}
