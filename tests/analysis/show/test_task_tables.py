import csv
import io

import pytest

from analysis.judge.study import Study, unequal
from analysis.load.runs import Planned, load_profile
from analysis.show.blocks import to_latex, to_markdown
from analysis.show.tables import (
    GROUPS,
    against_logs_block,
    counted_block,
    learned_block,
    logs_block,
    logs_csv,
    parameters_block,
    score_blocks,
    scores_csv,
    selected_block,
    selected_csv,
)


def rows_of(block):
    return {row[0]: dict(zip(block.headers, row, strict=True)) for row in block.rows}


def test_the_table_says_what_it_is(task_study, authors):
    (block,) = score_blocks(task_study, authors, "glue")
    assert "cpu profile, MiniLM-L6" in block.caption
    assert "not comparable with the authors' figures" in block.caption
    rows = rows_of(block)
    assert list(rows)[:2] == ["Frozen backbone", "LoRA (r=8)"]
    lora = rows["LoRA (r=8)"]
    assert "±" in lora["CoLA, Matthews correlation"]
    assert (lora["Adapter parameters"], lora["Head parameters"], lora["Importance weights"]) == (
        "110,592",
        "149,762",
        "0",
    )
    assert (lora["Seeds"], lora["Steps"], lora["Learning rate"]) == ("3", "200", "0.001")
    assert "RTE †, accuracy" in block.headers  # did not learn
    notes = " ".join(block.notes)
    assert "CoLA: cola corpus, whole, dev split, 120 examples; licence CC BY 4.0; the whole official split" in notes
    assert "† LoRA does not clearly beat the frozen backbone" in notes


@pytest.fixture
def with_baselines(tasks_module, tmp_path):
    """Two methods on two tasks, and a baseline of each task."""
    runs = tasks_module.write_task_runs(tmp_path / "runs", tasks=("cola", "stsb"), methods=("frozen", "lora"))
    tasks_module.write_baseline(runs, "cola")
    tasks_module.write_baseline(runs, "stsb", "cosine")
    return Study.of(load_profile(runs))


def test_a_baseline_stands_first_without_spread_or_rate_and_not_among_the_parameters(with_baselines, authors):
    (block,) = score_blocks(with_baselines, authors, "glue")
    rows = rows_of(block)
    assert list(rows) == ["Majority class", "Cosine of the untrained backbone", "Frozen backbone", "LoRA (r=8)"]
    majority, cosine = rows["Majority class"], rows["Cosine of the untrained backbone"]
    score = majority["CoLA, Matthews correlation"]
    assert (float(score) != 0, "±" in score) == (True, False)
    assert (majority["STS-B, Spearman"], cosine["CoLA, Matthews correlation"]) == ("not run", "not run")
    shown = [majority[name] for name in ("Adapter parameters", "Seeds", "Steps", "Learning rate")]
    assert [*shown, majority["How the rate was found"]] == ["0", "one seed", "0", "none", "nothing is trained"]
    assert not [note for note in block.notes if "UNEQUAL" in note]
    assert [row[0] for row in parameters_block(with_baselines).rows] == [
        "Frozen backbone, MiniLM-L6", "LoRA (r=8), MiniLM-L6",
    ]  # fmt: skip


def test_a_baseline_has_no_budget_to_compare_a_method_by(with_baselines):
    place = ("minilm-l6", "cola")
    (baseline,), (lora,) = (with_baselines.at(place, method) for method in ("baseline_majority", "lora"))
    assert unequal(lora, baseline) == "unequal steps: my-cola-lora 200, my-cola-baseline 0"


def test_a_part_of_a_corpus_compares_with_nothing(write_task_runs, tmp_path, authors):
    runs = write_task_runs(
        tmp_path, tasks={"mnli_train_subset": "mnli"}, methods=("lora",), items=30, comparable=False, licence=""
    )
    (block,) = score_blocks(Study.of(load_profile(runs)), authors, "glue")
    assert "MNLI (part) †, accuracy, matched" in block.headers  # its own name, never MNLI's
    assert not [header for header in block.headers if header.startswith("MNLI ") and "(part)" not in header]
    assert "not the official split: not comparable with published figures" in block.notes[0]
    assert "licence not stated" in block.notes[0]


def test_what_has_not_run_is_said(task_runs, authors):
    plan = {
        "my-cola-lora": Planned("minilm-l6", "cola", "lora", "classification", {"rank": 8}, "cola"),
        "my-rte-lora": Planned("minilm-l6", "rte", "lora", "classification", {"rank": 8}, "rte"),
        "my-cola-vera": Planned("minilm-l6", "cola", "peft_baselines", "classification", {"name": "vera"}, "cola"),
        "xsum-lora": Planned("bart-large", "xsum", "lora", "summarisation", {"rank": 8}, "xsum"),
    }
    study = Study.of(load_profile(task_runs, plan))
    (glue,), (summaries,) = (score_blocks(study, authors, group) for group in ("glue", "summaries"))
    vera = rows_of(glue)["VeRA"]
    assert vera["CoLA †, Matthews correlation"] == "not run"
    assert vera["Adapter parameters"] == "not run"
    assert summaries.rows[0][:2] == ("LoRA (r=8)", "not run")
    assert score_blocks(study, authors, "qa") == []


def test_steps_that_differ_are_named_by_task_and_warned_of(write_task_runs, tmp_path, authors):
    write_task_runs(tmp_path, tasks=("cola",), methods=("lora",), items=20)
    runs = write_task_runs(tmp_path, tasks=("rte",), methods=("lora",), items=20, training={"steps": 50})
    write_task_runs(tmp_path, tasks=("rte",), methods=("frozen",), items=20, training={"steps": 60})
    (block,) = score_blocks(Study.of(load_profile(runs)), authors, "glue")
    assert rows_of(block)["LoRA (r=8)"]["Steps"] == "CoLA: 200; RTE: 50"
    assert any("RTE: UNEQUAL steps, 50, 60" in note for note in block.notes)


@pytest.mark.parametrize(
    ("group", "corpus", "metric", "headers"),
    [
        ("qa", "squad_v1", "squad_v1", ["SQuAD v1.1 †, exact match", "SQuAD v1.1 †, F1"]),
        ("summaries", "xsum", "rouge", ["XSum †, ROUGE-1", "XSum †, ROUGE-2", "XSum †, ROUGE-L", "XSum †, ROUGE-Lsum"]),
        ("choice", "arc_easy", "accuracy", ["ARC easy †, accuracy"]),
    ],
)
def test_other_forms_show_every_metric(write_task_runs, tmp_path, authors, group, corpus, metric, headers):
    runs = write_task_runs(tmp_path, tasks={corpus: metric}, methods=("lora",), items=12, seeds=(18,))
    (block,) = score_blocks(Study.of(load_profile(runs)), authors, group)
    assert list(block.headers[1 : 1 + len(headers)]) == headers
    assert block.rows[0][-4] == "one seed"


def test_learned_says_so_with_both_intervals(task_study, authors):
    rows = rows_of(learned_block(task_study, authors))
    assert rows["CoLA on MiniLM-L6"]["Verdict"] == "learned"
    assert rows["RTE on MiniLM-L6"]["Verdict"] == "inconclusive: did not learn"
    assert rows["CoLA on MiniLM-L6"]["95 % over seeds"].startswith("+")


def test_parameters_are_apart_and_ratios_say_of_what(task_study):
    rows = rows_of(parameters_block(task_study))
    ours = rows["WeightLoRA (r=8, K=3), MiniLM-L6"]
    assert ours["Adapter parameters in phase 1"] == "110,592"
    assert ours["Importance weights in phase 1"] == "18"
    assert ours["Adapter parameters at the end"] == "18,432"
    assert ours["of LoRA's adapter"] == "16.7 %"
    assert ours["of LoRA's trainable"] == "64.6 %"


def test_counts_by_arithmetic_are_not_called_trained(authors):
    block = counted_block(authors)
    assert block.caption.startswith("Counted, not trained")
    assert rows_of(block)["WeightLoRA, K=5"]["Adapter parameters"] == "61,440"


def test_selected_adapters_are_listed_by_seed(task_study):
    block = selected_block(task_study.experiments)
    row = rows_of(block)["WeightLoRA (r=8, K=3), CoLA"]
    assert row["Kept"] == "3 of 18"
    assert row["By seed"].startswith("18: ")
    assert row["By seed"].count(";") == 2
    assert row["By chance"] == "0.17"
    assert selected_block([]).rows == ()


def test_csv_holds_every_metric_and_every_adapter(task_study, authors):
    scores = list(csv.DictReader(io.StringIO(scores_csv(task_study))))
    lora = next(row for row in scores if row["experiment"] == "my-cola-lora")
    assert (lora["metric"], lora["primary"], lora["learned"]) == ("matthews_correlation", "true", "learned")
    assert int(lora["adapter"]) + int(lora["importance"]) + int(lora["head"]) == int(lora["trainable"])
    selected = list(csv.DictReader(io.StringIO(selected_csv(task_study.experiments))))
    one = [row for row in selected if (row["experiment"], row["seed"]) == ("my-cola-weight_lora-k3", "18")]
    assert len(one) == 18
    assert sum(row["kept"] == "true" for row in one) == 3
    assert all((row["final_rank"] == "8") == (row["kept"] == "true") for row in one)
    logged = list(csv.DictReader(io.StringIO(logs_csv(authors))))
    assert {row["part"] for row in logged} == {"log", "memory", "inner product", "learning rate", "setting"}
    assert all(row["standing"] and row["unit"] for row in logged)


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


def test_every_table_can_be_written(task_study, authors):
    blocks = [
        *(block for group in GROUPS for block in score_blocks(task_study, authors, group)),
        learned_block(task_study, authors), parameters_block(task_study), selected_block(task_study.experiments),
        logs_block(authors), counted_block(authors),
    ]  # fmt: skip
    assert all(len(row) == len(block.headers) for block in blocks for row in block.rows)
    assert "†" in to_markdown(blocks)
    assert r"\dag{}" in to_latex(blocks)
