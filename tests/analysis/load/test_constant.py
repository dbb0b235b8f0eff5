import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.load.constant import constant_mark, constant_seeds, is_constant
from analysis.load.runs import load_experiment, load_profile


def rows(*predictions, labels=None):
    return [{"prediction": p, "label": (labels or range(99))[i]} for i, p in enumerate(predictions)]


@pytest.mark.parametrize(
    ("form", "predictions", "alike"),
    [
        ("classification", (1, 1, 1), True),
        ("classification", (1, 1, 0), False),
        ("multiple_choice", (2, 2), True),
        ("generation", ("a b", "a b "), True),
        ("generation", ("a b", "a c"), False),
        ("question_answering", ("", "", ""), True),
        ("summarisation", ("", "x"), False),
        ("regression", (2.5, 2.5001, 2.5), True),
        ("regression", (2.5, 2.6, 2.5), False),
        ("classification", (1,), False),
        ("classification", (), False),
    ],
)
def test_predictions_that_are_all_alike(form, predictions, alike):
    assert is_constant(form, rows(*predictions)) is alike


def test_numbers_are_alike_beside_the_range_of_the_labels():
    predictions = rows(1.0, 1.0005, labels=[0.0, 1e-3])
    assert not is_constant("regression", predictions)
    assert is_constant("regression", rows(1.0, 1.0005, labels=[0.0, 5.0]))


@given(st.lists(st.integers(0, 2), min_size=2, max_size=8))
def test_classes_are_alike_when_there_is_one(classes):
    assert is_constant("classification", rows(*classes)) == (len(set(classes)) == 1)


@pytest.fixture
def collapsed(task_runs):
    """`collapsed(seeds)`: LoRA on CoLA, these seeds with a single class."""
    lora = load_experiment(task_runs / "my-cola-lora")

    def make(*seeds, form=None):
        found = {
            seed: [{**row, "prediction": 1} for row in rows] if seed in seeds else rows
            for seed, rows in lora.predictions.items()
        }
        return dataclasses.replace(lora, predictions=found)

    return make


def test_the_mark_counts_the_seeds(collapsed):
    assert (constant_mark(collapsed()), constant_seeds(collapsed())) == ("", ())
    assert constant_seeds(collapsed(1917, 18)) == (18, 1917)
    assert constant_mark(collapsed(18, 1917)) == "one class in 2 of 3 seeds"
    assert constant_mark(collapsed(18, 52, 1917)) == "one class in every seed"
    single = collapsed(18)
    alone = dataclasses.replace(single, predictions={18: single.predictions[18]})
    assert constant_mark(alone) == "one class"


def test_empty_texts_are_called_so(quick_runs):
    lora = load_experiment(quick_runs / "lora")

    def writes(text):
        found = {seed: [{**row, "prediction": text} for row in rows] for seed, rows in lora.predictions.items()}
        return constant_mark(dataclasses.replace(lora, predictions=found))

    assert writes(" ") == "no text in every seed"
    assert writes("A pub.") == "one text in every seed"
    texts = {18: "", 52: "A pub.", 1917: ""}
    found = {seed: [{**row, "prediction": texts[seed]} for row in rows] for seed, rows in lora.predictions.items()}
    assert constant_mark(dataclasses.replace(lora, predictions=found)) == "one text in every seed"


def test_a_trivial_baseline_is_constant_without_a_mark(tasks_module, tmp_path):
    runs = tasks_module.write_task_runs(tmp_path / "runs", tasks=("cola",), methods=("lora",))
    tasks_module.write_baseline(runs, "cola")
    baseline = next(e for e in load_profile(runs) if e.record.method == "baseline")
    found = {seed: [{**row, "prediction": 1} for row in rows] for seed, rows in baseline.predictions.items()}
    baseline = dataclasses.replace(baseline, predictions=found)
    assert constant_seeds(baseline) == (0,)
    assert constant_mark(baseline) == ""


def test_the_committed_runs_have_the_seeds_that_were_seen(project_root):
    found = load_experiment(project_root / "runs/cpu/cola-2000-weight-lora-plus")
    assert constant_mark(found) == "one class in 7 of 8 seeds"
    assert 7 not in constant_seeds(found)
