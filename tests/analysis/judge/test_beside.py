import dataclasses

import pytest

from analysis.judge.published_vs_measured import compared_cells, comparison_block, judge_cells
from analysis.judge.study import Study
from analysis.load.paper_files import METRICS
from analysis.load.paper_folder import load_published
from analysis.load.runs import load_profile

PUBLISHED = load_published()
TABLES = PUBLISHED.tables


@pytest.fixture
def study(quick_runs):
    return Study.of(load_profile(quick_runs))


def test_a_profile_that_may_not_be_compared_never_is(study):
    reason = PUBLISHED.tolerances.why_not_comparable("quick")
    cells = compared_cells(study, PUBLISHED)
    assert {cell.verdict for cell in cells} == {"not_comparable"}
    assert {cell.method for cell in cells if cell.measured == "not measured"} == {"tgen"}  # never run here
    block = comparison_block(cells, TABLES, reason)
    assert reason in block.caption
    assert all(len(row) == len(block.headers) for row in block.rows)


def test_published_figures_keep_their_digits_and_show_their_standing(study):
    block = comparison_block(compared_cells(study, PUBLISHED), TABLES, "why")
    solo = next(row for row in block.rows if row[0] == "Solo Connection GPT-2 Medium")
    shown = dict(zip(block.headers, solo, strict=True))
    assert [shown[f"{name} published"] for name in ("BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr")] == [
        "0.677", "8.64", "0.4595", "0.6913", "2.3?",
    ]  # fmt: skip
    assert shown["CIDEr published"].standing == "unreadable"
    assert "±" in shown["BLEU here"]
    assert shown["Verdict"] == "not comparable"
    published = [
        cell for row in block.rows for cell, header in zip(row, block.headers, strict=True) if "published" in header
    ]
    assert all(cell == "not stated" or cell.standing for cell in published)
    assert block.standings
    assert any("Standing of a published figure" in line for line in block.legend)


def test_only_methods_that_were_run_and_the_challenges_baseline_stand_there(study):
    cells = compared_cells(Study.of([e for e in study.experiments if e.name == "lora"]), PUBLISHED)
    assert {cell.method for cell in cells} == {"lora", "tgen"}
    baseline = [cell for cell in cells if cell.method == "tgen"]
    assert [cell.published for cell in baseline] == ["0.6593", "8.6094", "0.4483", "0.6850", "2.2338"]
    assert {(cell.measured, cell.experiment) for cell in baseline} == {("not measured", None)}
    assert compared_cells(Study.of([]), PUBLISHED) == []


def test_the_paper_profile_is_judged_by_its_cells(paper_runs):
    study = Study.of(load_profile(paper_runs))
    judged = judge_cells(study, PUBLISHED)
    cells = compared_cells(study, PUBLISHED)
    verdicts = {(entry.table, entry.row, entry.metric): entry for entry in judged}
    ids = {(table.location, row.label): (table.id, row.id) for table in TABLES for row in table.rows}
    assert cells
    for cell in cells:
        entry = verdicts[(*ids[cell.source, cell.row], cell.metric)]
        assert cell.verdict == entry.verdict
        if entry.measured is not None:  # the figure shown is the one that was judged
            assert cell.experiment == entry.experiment
    assert any(entry.measured is not None for entry in judged)
    assert all(cell.verdict in ("not_run", "unreadable") for cell in cells if "Small" in cell.row)


def test_the_judged_run_is_shown_where_another_scores_higher(paper_runs):
    loaded = load_profile(paper_runs)
    better = {seed: {**scores, "BLEU": 0.99} for seed, scores in loaded[0].metrics.seeds.items()}
    best = [
        dataclasses.replace(run, metrics=run.metrics.model_copy(update={"seeds": better}))
        if run.name == "solo-none"
        else run
        for run in loaded
    ]
    cells = compared_cells(Study.of(best), PUBLISHED)
    shown = {cell.experiment for cell in cells if cell.row == "Solo Connection GPT-2 Medium" and cell.metric == "BLEU"}
    assert shown == {"solo-k2"}


def test_a_run_with_a_part_taken_out_never_stands_for_the_method(write_runs, tmp_path):
    base = {"rank": 120, "skip_length": 2}
    runs = write_runs(
        tmp_path,
        profile="cpu",
        experiments=("lora", "solo-none", "solo-k2", "solo-k6"),
        items=8,
        settings={
            "solo-none": {**base, "homotopy_parameter": None},
            "solo-k2": base,
            "solo-k6": {**base, "skip_length": 6},
        },
        quality={"solo-none": 0.99, "solo-k2": 0.6, "solo-k6": 0.9},
    )
    study = Study.of(load_profile(runs, ["lora", "solo-none", "solo-k2", "solo-k6"]))
    assert {row.experiment: row.plain for row in study.rows} == {
        "lora": True, "solo-none": False, "solo-k2": True, "solo-k6": True,
    }  # fmt: skip
    cells = compared_cells(study, PUBLISHED)
    assert {cell.experiment for cell in cells if cell.method == "solo_connection"} == {"solo-k2"}


def test_json_has_stable_keys(study):
    for cell in compared_cells(study, PUBLISHED):
        value = cell.as_json()
        assert list(value) == [
            "published_row", "method", "metric", "published", "published_spread", "standing", "standing_means",
            "source",
            "measured", "experiment", "verdict",
        ]  # fmt: skip
        assert value["metric"] in METRICS
