import csv
import dataclasses
import io
import re

import pytest

from analysis.judge.comparable import unequal
from analysis.judge.published_vs_measured import lora_differences
from analysis.judge.study import Study
from analysis.load.judgement import load_judgement
from analysis.load.names import ARROW, score_name
from analysis.load.paper_folder import load_published
from analysis.load.published import load_tables
from analysis.load.runs import Planned, load_profile
from analysis.show.authors_logs import logs_block
from analysis.show.blocks import to_latex, to_markdown
from analysis.show.parameter_tables import counted_block, parameters_block
from analysis.show.published import differences_from_lora
from analysis.show.selection_tables import selected_block
from analysis.show.tables import GROUPS, learned_block, results_block, score_blocks, scores_csv, unplanned_ends
from replication.metrics import find


@pytest.fixture
def study(quick_runs):
    return Study.of(load_profile(quick_runs))


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


def test_runs_of_an_earlier_grid_have_a_table_of_their_own(quick_runs):
    experiments, roles = load_profile(quick_runs), {"quick": {"earlier": ("solo_connection", "full")}}
    whole = Study.of(experiments)
    study = Study.of(experiments, judgement=load_judgement().model_copy(update={"roles": roles}))
    now, earlier = results_block(study), results_block(study, earlier=True)
    titles = [row[0] for row in results_block(whole).rows]
    assert sorted(row[0] for block in (now, earlier) for row in block.rows) == sorted(titles)
    assert {row[0].partition(" (")[0] for row in earlier.rows} == {"Solo Connection", "Full fine-tuning"}
    assert earlier.caption.startswith("Earlier runs, in no verdict: quick profile")
    steps = {run.record.training["steps"] for run in experiments if run.name in ("solo_connection", "full")}
    assert [f"Trained for {count} steps: not comparable with the runs of the grid." for count in steps] == [
        earlier.notes[0]
    ]
    assert bold(earlier) == set()
    assert not any("Trained for" in note for note in now.notes)
    assert (now.key, earlier.key) == ("results", "results_earlier")
    assert not set(now.records) & set(earlier.records)
    assert results_block(whole, earlier=True).rows == ()


def bold(block):
    return {
        (row[0], header)
        for row in block.rows
        for header, cell in zip(block.headers, row, strict=True)
        if getattr(cell, "best", False)
    }


def test_the_best_score_is_marked_where_the_rule_distinguishes_it_and_nothing_else_is(study):
    block = results_block(study)
    means = {row.label: row.scores["BLEU"].mean for row in study.rows}
    assert (max(means, key=means.get), "BLEU") in bold(block)
    headers = {header for _, header in bold(block)}
    assert headers <= {"BLEU", "NIST", "ROUGE-L", "CIDEr"}  # METEOR has no scores of single items; counts no test
    assert "the decision rule distinguishes it" in block.lines_below[-1]
    entries = csv.DictReader(io.StringIO(scores_csv(study)))
    assert {(e["label"], score_name(e["metric"])) for e in entries if e["best"] == "true"} == bold(block)


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
    found = lora_differences(study, load_published())
    blocks = [results_block(study), differences_from_lora(found, load_tables(), "why")]
    text = to_latex(blocks)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    for block, part in zip(blocks, text.split(r"\begin{table}")[1:], strict=True):
        body = re.findall(r"^.* \\\\$", part, flags=re.MULTILINE)
        assert len(body) == 1 + len(block.rows)
        assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(block.headers) - 1}


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


def test_an_arrow_in_a_label_is_explained_where_there_is_one(task_study, study, authors):
    (block,) = score_blocks(task_study, authors, "glue")
    assert "WeightLoRA+ (K=12→3, r=4→16)" in rows_of(block)
    assert ARROW in block.lines_below
    assert ARROW not in results_block(study).lines_below


def test_a_lead_of_the_baseline_stands_in_its_cell(tasks_module, tmp_path, authors):
    share = {"my-cola-lora": 0.3, "my-cola-frozen": 0.2}  # worse than the baseline's half
    runs = tasks_module.write_task_runs(tmp_path, tasks=("cola",), methods=("frozen", "lora"), quality=share)
    tasks_module.write_baseline(runs, "cola")
    study = Study.of(load_profile(runs))
    (block,) = score_blocks(study, authors, "glue")
    cells = [row[1] for row in block.rows]
    assert [cell.endswith(" (unbeaten)") for cell in cells] == [True, False, False]
    assert bold(block) == set()
    entries = list(csv.DictReader(io.StringIO(scores_csv(study))))
    assert [(e["method"], e["unbeaten"]) for e in entries] == [
        ("baseline_majority", "true"), ("frozen", "false"), ("lora", "false")
    ]  # fmt: skip


def one_class(study, seeds):
    """LoRA's predictions on CoLA with a single class in these seeds; scores as they are."""

    def changed(experiment):
        if experiment.name != "my-cola-lora":
            return experiment
        found = {
            seed: [{**row, "prediction": 1} for row in rows] if seed in seeds else rows
            for seed, rows in experiment.predictions.items()
        }
        return dataclasses.replace(experiment, predictions=found)

    return Study.of([changed(experiment) for experiment in study.experiments])


def test_a_model_that_predicts_one_class_is_marked(task_study, authors):
    study = one_class(task_study, (18, 52))
    (block,) = score_blocks(study, authors, "glue")
    column = block.headers[1:3]
    lora = rows_of(block)["LoRA (r=8)"]
    cola, rte = (lora[name] for name in column)
    assert cola.endswith(" (one class in 2 of 3 seeds)")
    assert "class" not in rte
    assert sum("one class" in cell for row in block.rows for cell in row) == 1
    entries = [e for e in csv.DictReader(io.StringIO(scores_csv(study))) if e["constant_seeds"]]
    assert {(e["experiment"], e["constant_seeds"]) for e in entries} == {("my-cola-lora", "18 52")}


def test_the_mark_stands_in_the_first_of_several_columns(study):
    def silent(experiment):
        if experiment.name != "lora":
            return experiment
        found = {seed: [{**row, "prediction": ""} for row in rows] for seed, rows in experiment.predictions.items()}
        return dataclasses.replace(experiment, predictions=found)

    block = results_block(Study.of([silent(experiment) for experiment in study.experiments]))
    marked = [header for header, cell in rows_of(block)["LoRA (r=4)"].items() if "(no text in every seed)" in cell]
    assert marked == ["BLEU"]


def test_tasks_on_one_corpus_have_columns_of_different_names(write_task_runs, tmp_path, authors):
    runs = write_task_runs(tmp_path, tasks=("cola",), methods=("lora",), items=20)
    longer = []
    for experiment in load_profile(runs):
        records = {
            seed: record.model_copy(update={"task": "cola-2000", "experiment": "longer"})
            for seed, record in experiment.records.items()
        }
        longer.append(dataclasses.replace(experiment, name="longer", records=records))
    (block,) = score_blocks(Study.of([*load_profile(runs), *longer]), authors, "glue")
    assert [header.partition(",")[0] for header in block.headers[1:3]] == ["CoLA [cola] †", "CoLA [cola-2000] †"]


def test_an_end_that_the_label_does_not_say_is_a_note(task_study, authors):
    plus = task_study.named("my-cola-weight_lora_plus")
    assert unplanned_ends(plus) == []
    first = plus.selections[18]
    fewer = first.model_copy(update={"survivors": first.survivors[:2]})
    changed = dataclasses.replace(plus, selections={**plus.selections, 18: fewer})
    assert unplanned_ends(changed) == [f"{plus.name}, seed 18: 2 adapters at r=16 are left at the end."]
    study = Study.of([changed if e.name == plus.name else e for e in task_study.experiments])
    (block,) = score_blocks(study, authors, "glue")
    assert unplanned_ends(changed)[0] in block.notes


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
        ("choice", "arc_easy", "acc_norm", ["ARC easy †, acc", "ARC easy †, acc_norm"]),
    ],
)
def test_other_forms_show_every_metric(write_task_runs, tmp_path, authors, group, corpus, metric, headers):
    runs = write_task_runs(tmp_path, tasks={corpus: metric}, methods=("lora",), items=12, seeds=(18,))
    (block,) = score_blocks(Study.of(load_profile(runs)), authors, group)
    assert list(block.headers[1 : 1 + len(headers)]) == headers
    told = [note for note in block.notes if "evaluation" in note]
    assert told == (["ARC easy, evaluation: of acc_norm."] if group == "choice" else [])
    assert block.rows[0][-4] == "one seed"


def test_a_form_that_is_new_here_has_a_table_of_its_own(write_task_runs, tmp_path, authors, monkeypatch):
    for metric in (find("acc"), find("acc_norm")):  # as docs/add_a_task.md says
        monkeypatch.setattr(
            metric, "reported_for", {**metric.reported_for, "yes_no": ("acc", "acc_norm")}, raising=False
        )
    runs = write_task_runs(tmp_path, tasks={"arc_easy": "acc_norm"}, methods=("lora",), items=12, seeds=(18,))
    (one,) = load_profile(runs)
    record = one.record.model_copy(update={"corpus": one.record.corpus.model_copy(update={"form": "yes_no"})})
    study = Study.of([dataclasses.replace(one, records={18: record})])
    assert [group for group in GROUPS if score_blocks(study, authors, group)] == ["other"]
    (block,) = score_blocks(study, authors, "other")
    assert block.rows[0][0] == "LoRA (r=8)"


def test_learned_says_so_with_both_intervals(task_study):
    rows = rows_of(learned_block(task_study))
    assert rows["CoLA on MiniLM-L6"]["Verdict"] == "learned"
    assert rows["RTE on MiniLM-L6"]["Verdict"] == "did not learn"
    assert rows["CoLA on MiniLM-L6"]["95 % over seeds"].startswith("+")


def test_csv_holds_every_metric(task_study):
    scores = list(csv.DictReader(io.StringIO(scores_csv(task_study))))
    lora = next(row for row in scores if row["experiment"] == "my-cola-lora")
    assert (lora["metric"], lora["primary"], lora["learned"]) == ("matthews_correlation", "true", "learned")
    assert int(lora["adapter"]) + int(lora["importance"]) + int(lora["head"]) == int(lora["trainable"])


def test_every_table_can_be_written(task_study, authors):
    blocks = [
        *(block for group in GROUPS for block in score_blocks(task_study, authors, group)),
        learned_block(task_study), parameters_block(task_study), selected_block(task_study.experiments),
        logs_block(authors), counted_block(authors),
    ]  # fmt: skip
    assert all(len(row) == len(block.headers) for block in blocks for row in block.rows)
    assert "†" in to_markdown(blocks)
    assert r"\dag{}" in to_latex(blocks)
