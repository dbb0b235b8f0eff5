"""One table a paper: what it leaves out, and that its cells are those of the full tables."""

import pytest

from analysis.judge.study import Study
from analysis.load.runs import load_profile
from analysis.show.overview import solo_overview, tasks_overview
from analysis.show.tables import results_block, score_blocks


def cells(block):
    return {(row[0], header): cell for row in block.rows for header, cell in zip(block.headers, row, strict=True)}


def test_solo_keeps_scores_and_seeds_and_leaves_the_rest_to_its_page(quick_runs):
    whole = results_block(Study.of(load_profile(quick_runs)))
    short = solo_overview(whole)
    assert short.headers[1:3] == ("BLEU", "95 % over items")
    assert set(cells(short).items()) <= set(cells(whole).items())
    assert (short.notes, short.headers[-1]) == ((), "Seeds")
    assert len(short.headers) == len(whole.headers) - 3


def test_every_task_is_a_column_with_the_scores_of_its_table(task_study, authors):
    (whole,) = score_blocks(task_study, authors, "glue")
    block = tasks_overview(task_study)
    assert block.headers[1:-1] == ("CoLA, Matthews correlation", "RTE, accuracy")
    found, scores = cells(block), cells(whole)
    for row in whole.rows:
        for short, long in (("CoLA, Matthews correlation",) * 2, ("RTE, accuracy", "RTE †, accuracy")):
            assert found[row[0], short] == scores[row[0], long]
            assert found[row[0], short].best == scores[row[0], long].best
    assert found["LoRA (r=8)", "Adapter parameters"] == "110,592"


@pytest.mark.parametrize("experiments", [(), None])
def test_without_task_runs_there_are_no_rows(quick_runs, experiments):
    study = Study.of(load_profile(quick_runs) if experiments is None else [])
    assert tasks_overview(study).rows == ()
