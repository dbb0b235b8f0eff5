import dataclasses
import json

import pytest

from analysis.judge.study import Study
from analysis.load.judgement import load_judgement
from analysis.load.runs import Planned, load_profile
from analysis.show.texts import about, examples, reading, subtitle, tally, warnings


def told(runs, experiments=None):
    loaded = load_profile(runs, experiments)
    return " ".join(notice.text for notice in warnings(loaded, Study.of(loaded).generation.rows, ()))


def test_without_java_what_is_missing_and_approximate_is_said(write_runs, tmp_path):
    text = told(write_runs(tmp_path / "runs", items=6, java=False, seeds=[18]))
    assert "METEOR was not measured, because there was no Java" in text
    assert "ROUGE-L and CIDEr are approximate" in text


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("record.json", {"schema_version": 99}, "schema_version: is 99"),
        ("selection.json", {"survivors": [99]}, "adapter 99"),
    ],
)
def test_a_broken_file_is_named_with_the_reason(write_task_runs, tmp_path, file, change, message):
    runs = write_task_runs(tmp_path / "runs", tasks=("cola",), methods=("weight_lora-k3",), items=10, seeds=(18,))
    path = runs / "my-cola-weight_lora-k3" / "training" / "seed-18" / file
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    text = told(runs)
    assert "my-cola-weight_lora-k3 (failed)" in text
    assert message in text


def test_many_missing_experiments_are_one_line_to_open(tmp_path):
    plan = {f"my-cola-{i}": Planned("minilm-l6", "cola", "lora", "classification") for i in range(9)}
    (notice,) = warnings(load_profile(tmp_path / "runs" / "cpu", plan), (), ())
    assert notice.text == "9 of 9 experiments have not been run."
    assert notice.more.startswith("my-cola-0, my-cola-1")


def test_a_profile_says_what_it_is(quick_runs):
    loaded = load_profile(quick_runs)
    assert subtitle("quick", loaded) == "quick profile · embedded synthetic corpus · small GPT-2"
    assert tally("quick", "8 not tested").startswith("quick profile: 8 not tested. Toy models")
    assert "not a reproduction" in about("another")[0]
    assert len(examples(Study.of(loaded), 3)) == 3


def test_runs_of_an_earlier_grid_give_no_examples(quick_runs):
    judgement = load_judgement().model_copy(update={"roles": {"quick": {"earlier": ("full",)}}})
    with_full, without = (Study.of(load_profile(quick_runs), judgement=one) for one in (load_judgement(), judgement))
    labels, fewer = ({label for label, _ in examples(study, 1)[0].predictions} for study in (with_full, without))
    assert labels - fewer == {"Full fine-tuning"}


def test_a_loss_is_not_called_higher_is_better(task_study):
    row = task_study.rows[0]
    assert "Higher is better for all of them" in reading(None, [row])[0]
    scored = dataclasses.replace(row, form="generation", protocol="e2e", metrics=("BLEU", "reference_loss"))
    assert "Higher is better, but lower for reference loss (nats a token" in reading(None, [row, scored])[0]
