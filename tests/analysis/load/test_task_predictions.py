import json

import pytest

from analysis.load.runs import load_experiment, load_profile, questions, read_rows
from replication.errors import DataError
from replication.fileio import sha256_file, write_json, write_jsonl
from replication.predictions import compact, gold

ROWS = {
    "classification": {"id": "a", "prediction": 1, "label": 0, "logits": [0.1, 0.2]},
    "regression": {"id": "a", "prediction": 2.5, "label": 3.0},
    "question_answering": {"id": "a", "prediction": "x", "answers": [], "no_answer_score": 0.5},
    "multiple_choice": {"id": "a", "prediction": 2, "label": 2, "scores": [0.1]},
    "summarisation": {"id": "a", "prediction": "x", "references": ["y"]},
}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ROWS)
def test_rows_of_every_form_are_read_and_recognised(tmp_path, form):
    path = write(tmp_path / "seed-18.jsonl", ROWS[form])
    assert read_rows(path, form) == [ROWS[form]]
    assert read_rows(path, None) == [ROWS[form]]


@pytest.mark.parametrize(
    ("form", "changes", "message"),
    [
        ("classification", {"prediction": 1.5}, "line 1: field 'prediction' is 1.5"),
        ("classification", {"label": True}, "field 'label' is True"),
        ("regression", {"prediction": "x"}, "field 'prediction' is 'x'"),
        ("question_answering", {"answers": "x"}, "field 'answers'"),
        ("summarisation", {"references": [1]}, "field 'references'"),
        ("multiple_choice", {"id": 3}, "field 'id'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, form, changes, message):
    path = write(tmp_path / "seed-18.jsonl", {**ROWS[form], **changes})
    with pytest.raises(DataError, match=message):
        read_rows(path, form)


@pytest.mark.parametrize("form", ROWS)
def test_compact_rows_are_read_with_their_gold_file(tmp_path, form):
    folder = tmp_path / "runs" / "quick" / "a" / "predictions"
    golden = write_jsonl(tmp_path / "gold" / "quick" / "task.jsonl", gold([ROWS[form]]))
    write_json(folder / "decoding.json", {"gold": "gold/quick/task.jsonl", "gold_sha256": sha256_file(golden)})
    path = write_jsonl(folder / "seed-18.jsonl", compact([ROWS[form]]))
    assert read_rows(path, form) == read_rows(path, None) == [ROWS[form]]
    write_jsonl(golden, [{"id": "a", "label": "wrong", "answers": "wrong", "references": "wrong"}])
    with pytest.raises(DataError, match="the task was prepared again after this run"):
        read_rows(path, form)


def test_an_item_stands_once_and_a_form_has_a_name(tmp_path):
    path = write(tmp_path / "seed-18.jsonl", ROWS["regression"], ROWS["regression"])
    with pytest.raises(DataError, match="line 2: duplicate id 'a'"):
        read_rows(path, "regression")
    with pytest.raises(DataError, match="form 'poetry' is unknown"):
        read_rows(path, "poetry")


def test_questions_are_what_was_asked_and_what_is_right():
    row = ROWS["classification"]
    assert questions([row]) == questions([{**row, "prediction": 0, "logits": [1, 2]}])
    assert questions([row]) != questions([{**row, "label": 1}])
    assert questions([row]) != questions([{**row, "subset": "matched"}])


def test_a_task_experiment_is_complete_and_has_its_selections(task_runs):
    experiments = {e.name: e for e in load_profile(task_runs)}
    assert {e.status for e in experiments.values()} == {"complete"}
    assert {e.form for e in experiments.values()} == {"classification"}
    assert list(experiments["my-cola-weight_lora-k3"].selections) == [18, 52, 1917]
    assert experiments["my-cola-lora"].selections == {}


def test_parts_of_a_task_experiment_that_are_missing_or_contradict(write_task_runs, tmp_path):
    runs = write_task_runs(tmp_path, tasks=("rte",), methods=("weight_lora-k3",), seeds=(18, 52), items=20)
    folder = runs / "my-rte-weight_lora-k3"
    (folder / "training" / "seed-52" / "selection.json").unlink()
    experiment = load_experiment(folder)
    assert experiment.status == "incomplete"
    assert "seed-52/selection.json: not there yet" in experiment.problems[0]
    (folder / "training" / "seed-52" / "selection.json").write_text('{"method": "weight_lora"}', encoding="utf-8")
    assert load_experiment(folder).status == "failed"
    content = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    (folder / "scores.json").write_text(json.dumps({**content, "form": "multiple_choice"}), encoding="utf-8")
    problems = " ".join(load_experiment(folder).problems)
    assert "form is multiple_choice, but the records have classification" in problems
