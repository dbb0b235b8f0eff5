from types import SimpleNamespace

import pytest

from analysis.beside import beside_block, beside_cells
from analysis.cells import compare_cells
from analysis.published import METRICS, load_tables, load_tolerances
from analysis.records import load_profile
from analysis.results import result_rows

TABLES = load_tables()


@pytest.fixture
def rows(quick_runs):
    return result_rows(load_profile(quick_runs))


def test_a_profile_that_may_not_be_compared_never_is(rows):
    reason = load_tolerances().why_not_comparable("quick")
    cells = beside_cells(TABLES, rows, reason)
    assert {cell.word for cell in cells} == {"not_comparable"}
    assert all(cell.measured != "not measured" for cell in cells)
    block = beside_block(cells, TABLES, reason)
    assert reason in block.caption
    assert all(len(row) == len(block.headers) for row in block.rows)


def test_printed_figures_keep_their_digits_and_show_their_standing(rows):
    block = beside_block(beside_cells(TABLES, rows, "why"), TABLES, "why")
    solo = next(row for row in block.rows if row[0] == "Solo Connection GPT-2 Medium")
    shown = dict(zip(block.headers, solo, strict=True))
    assert [shown[f"{name} printed"] for name in ("BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr")] == [
        "0.677", "8.64", "0.4595", "0.6913", "2.3?",
    ]  # fmt: skip
    assert shown["CIDEr printed"].standing == "unreadable"
    assert "±" in shown["BLEU here"]
    assert shown["Verdict"] == "not comparable"
    printed = [
        cell for row in block.rows for cell, header in zip(row, block.headers, strict=True) if "printed" in header
    ]
    assert all(cell == "not stated" or cell.standing for cell in printed)
    assert block.standings
    assert any("Standing of a printed figure" in line for line in block.legend)


def test_only_methods_that_were_run_stand_there(rows):
    methods = {cell.method for cell in beside_cells(TABLES, [row for row in rows if row.method == "lora"], None)}
    assert methods == {"lora"}


def test_the_paper_profile_is_judged_by_its_cells(paper_runs):
    loaded = load_profile(paper_runs)
    judged = compare_cells(loaded, TABLES, load_tolerances())
    cells = beside_cells(TABLES, result_rows(loaded), None, judged)
    words = {(cell.row, cell.source, cell.metric): cell.word for cell in cells}
    for cell in judged:
        row, _, source = cell.printed_row.rpartition(" (")
        found = words[row, source.removesuffix(")"), cell.metric]
        assert found not in ("not_comparable", "not_run")
    assert all(cell.word in ("not_run", "unreadable") for cell in cells if "Small" in cell.row)


def test_words_of_the_cells_are_taken_over(rows):
    first = next(row for row in TABLES[0].rows if row.method == "lora")
    judged = [SimpleNamespace(printed_row=f"{first.label} ({TABLES[0].place})", metric="BLEU", word="direction_only")]
    cells = beside_cells(TABLES, rows, None, judged)
    assert next(cell.word for cell in cells if (cell.row, cell.metric) == (first.label, "BLEU")) == "direction_only"


def test_json_has_stable_keys(rows):
    for cell in beside_cells(TABLES, rows, "why"):
        value = cell.as_json()
        assert list(value) == [
            "printed_row", "method", "metric", "published", "published_spread", "standing", "standing_means", "source",
            "measured", "experiment", "verdict",
        ]  # fmt: skip
        assert value["metric"] in METRICS
