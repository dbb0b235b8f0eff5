"""The authors' differences between values of K beside ours: digits of the logs, intervals of ours, dashes, marks."""

import csv
import dataclasses
import io

import pytest

from analysis.judge.study import Study
from analysis.load.runs import load_profile
from analysis.show.authors_logs import (
    NONE,
    UNTRAINED,
    against_logs_block,
    differences_block,
    halved,
    logs_block,
    logs_csv,
)


@pytest.fixture(scope="module")
def study(write_task_runs, tmp_path_factory):
    methods = ("frozen", "lora", "weight_lora-k3", "weight_lora-k6", "random_lora-k3")
    root = tmp_path_factory.mktemp("differences") / "runs"
    write_task_runs(root, tasks=("cola", "rte", "squad_v1"), methods=methods)
    return Study.of(load_profile(root / "cpu"))


@pytest.fixture
def rows(study, authors):
    return {(row[0], row[1], row[5]): row for row in differences_block(study, authors).rows}


def test_the_difference_of_two_logs_has_the_digits_of_the_logs(rows):
    """CoLA's logs: 0.5624, 0.6491 and 0.6703."""
    assert rows["CoLA", "K=5 − K=10", "K=3 − K=6"][2:4] == ("−0.0212", "Matthews correlation")
    alone = rows["CoLA", "K=1 − K=10", NONE]
    assert alone[2] == "−0.1079"
    assert alone[4:] == (NONE, NONE, NONE)
    assert alone[2].standing == "authors_code"


def test_ours_is_the_study_s_difference_with_its_intervals(rows, study):
    first, second = (study.named(f"my-cola-weight_lora-k{keep}") for keep in (3, 6))
    difference = study.difference(first, second)
    text = rows["CoLA", "K=5 − K=10", "K=3 − K=6"][6]
    assert text.startswith(f"{difference.effect:+.3f}".replace("-", "−"))
    assert "(95 % " in text
    assert "seeds" in text


def test_a_side_that_has_no_such_pair_is_a_dash(rows):
    assert rows["CoLA", NONE, "K=6 − all"][1:4] == (NONE, NONE, NONE)
    assert rows["SQuAD v1.1", NONE, "K=3 − K=6"][1:4] == (NONE, NONE, NONE)
    assert {key[2] for key in rows if key[0] == "MNLI"} == {NONE}


def test_logs_that_did_not_train_are_marked(rows, study, authors):
    assert rows["RTE", "K=5 − K=10", "K=3 − K=6"][2] == f"+0.0217 {UNTRAINED}"
    assert not any(UNTRAINED in row[2] for key, row in rows.items() if key[0] != "RTE")
    notes = differences_block(study, authors).notes
    assert any(note.startswith(f"{UNTRAINED} The RTE runs did not train") for note in notes)


def test_backbone_split_and_limits_are_said(rows, study, authors):
    block = differences_block(study, authors)
    assert rows["MNLI", "K=5 − K=10", NONE][3] == "accuracy (mismatched split)"
    text = " ".join(block.notes)
    assert "DeBERTaV3-base, 36 adapters (query, key, value), r=8" in text
    assert "without any spread" in text
    assert "scores themselves may not be compared" in text
    assert all(path.startswith("runs/cpu/") for path in block.records)


def test_a_single_k_is_set_against_lora_alone(write_task_runs, tmp_path, authors):
    root = tmp_path / "runs"
    write_task_runs(root, tasks=("cola",), methods=("lora", "weight_lora-k3"))
    study = Study.of(load_profile(root / "cpu"))
    found = {row[5] for row in differences_block(study, authors).rows}
    assert found == {NONE, "K=3 − all"}


def test_without_runs_the_authors_stand_alone(authors):
    rows = differences_block(Study("quick", ()), authors).rows
    assert len(rows) == 2 * len(authors.logs.tasks)
    assert {row[4:] for row in rows} == {(NONE, NONE, NONE)}


def test_runs_of_another_length_are_no_pair(write_task_runs, tmp_path, authors):
    root = tmp_path / "runs"
    write_task_runs(root, tasks=("cola",), methods=("lora", "weight_lora-k3"))
    write_task_runs(root, tasks=("cola",), methods=("weight_lora-k6",), training={"steps": 400})
    found = {row[5] for row in differences_block(Study.of(load_profile(root / "cpu")), authors).rows}
    assert found == {NONE, "K=3 − all"}


def test_half_the_adapters_stand_beside_the_logs_of_every_task(study, authors):
    found = {half.task: half for half in halved(study, authors)}
    assert list(found) == ["CoLA", "MNLI", "MRPC", "QNLI", "QQP", "RTE", "SST-2", "STS-B"]
    first, second = (study.named(f"my-cola-weight_lora-k{keep}") for keep in (3, 6))
    assert found["CoLA"].ours.difference.effect == study.difference(first, second).effect
    assert (found["MNLI"].ours, found["RTE"].theirs.trained) == (None, False)


def test_the_authors_logs_are_a_table_of_their_own(authors):
    block = logs_block(authors)
    assert len(block.rows) == 24
    assert block.rows[1][0:3] == ("cola", "validation", "5")
    assert "no table of the paper" in block.caption


@pytest.mark.parametrize(
    ("profile", "corpus", "comparable", "rows"),
    [("paper", "cola", True, 1), ("paper", "cola", False, 0), ("cpu", "cola", True, 0), ("paper", "rte", True, 0),
     ("paper", "mnli", True, 1)],
)  # fmt: skip
def test_a_run_stands_beside_a_log_only_if_all_say_so(
    write_task_runs, tmp_path, authors, profile, corpus, comparable, rows
):
    runs = write_task_runs(
        tmp_path, profile=profile, backbone="deberta-v3-base", tasks=(corpus,), methods=("weight_lora-k3",), items=30,
        settings={"weight_lora-k3": {"keep": 5}}, comparable=comparable,
    )  # fmt: skip
    block = against_logs_block(Study.of(load_profile(runs)), authors)
    assert len(block.rows) == rows
    if corpus == "mnli":
        assert block.rows[0][2] == "accuracy, mismatched"  # the split they evaluated


def test_the_logs_as_csv_have_every_figure_with_unit_and_standing(authors):
    logged = list(csv.DictReader(io.StringIO(logs_csv(authors))))
    assert {row["part"] for row in logged} == {"log", "memory", "inner product", "learning rate", "setting"}
    assert all(row["standing"] and row["unit"] for row in logged)


def test_a_difference_names_its_own_task_where_a_corpus_has_several(study, authors, altered):
    frozen = study.named("my-cola-frozen")
    other = altered(dataclasses.replace(frozen, name="short-frozen"), lambda record: {"task": "cola-short"})
    found = differences_block(Study.of([*study.experiments, other]), authors).rows
    assert {row[0] for row in found if row[4] != NONE and row[0].startswith("CoLA")} == {"CoLA [cola]"}
