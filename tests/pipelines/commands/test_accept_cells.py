"""Shortened settings and the comparison of two runs."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipelines.commands.accept_cells import LENGTHS, ROWS, differences, first_difference, shorten, source_differences
from pipelines.shared.experiment import resolve
from pipelines.shared.settings import load_settings

PROFILES = ["params.yaml", "pipelines/cpu/params.yaml", "pipelines/paper/params.yaml"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_a_value_equals_its_copy(value):
    assert first_difference(value, copy.deepcopy(value)) is None


@given(values, values)
def test_a_difference_is_found_from_both_sides(one, other):
    assert (first_difference(one, other) is None) == (first_difference(other, one) is None)
    if json.dumps(one) != json.dumps(other) and first_difference(one, other) is None:
        assert json.loads(json.dumps(one)) == json.loads(json.dumps(other)) or "NaN" in json.dumps(one)


def test_a_difference_names_its_place_and_both_values():
    old, new = {"a": [1, {"b": 2.0}]}, {"a": [1, {"b": 2.5}]}
    assert first_difference(old, new) == "a: 1: b: 2.0 and 2.5"
    assert first_difference({"a": 1}, {"a": 1, "c": 2}) == "c is only in the new run"
    assert first_difference([1], [1, 2]) == "1 and 2 values"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_experiment_of_a_profile_can_be_shortened(project_root, tmp_path, profile):
    content = yaml.safe_load((project_root / profile).read_text())
    before = copy.deepcopy(content)
    keys = list(content["experiments"])
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(shorten(content, keys)))
    assert content == before
    settings = load_settings(tmp_path / "params.yaml")
    for key in keys[:: len(keys) // 8]:
        experiment = resolve(settings, key)
        assert experiment.seeds == tuple(content["experiments"][key]["seeds"][:1])
        assert experiment.training.steps == LENGTHS["steps"]
        assert settings.task(experiment.task).train_examples == ROWS["train_examples"]
        rate = content["experiments"][key]["learning_rate"]
        assert rate in (experiment.learning_rate, {"search": experiment.rate_from})


@pytest.fixture
def homes(tmp_path, project_root):
    """Two folders with the same small run."""
    for name in ("old", "new"):
        run = tmp_path / name / "runs/quick/sentiment-weight-lora"
        shutil.copytree(
            project_root / "runs/quick/sentiment-weight-lora", run, ignore=shutil.ignore_patterns("adapter")
        )
        shutil.copytree(project_root / "gold/quick", tmp_path / name / "gold/quick")
        folder = run / "adapter/seed-18"
        folder.mkdir(parents=True)
        save_file({"A": torch.ones(2, 2), "B": torch.zeros(2)}, folder / "adapter_model.safetensors")
    return tmp_path / "old", tmp_path / "new"


def found(homes) -> list[str]:
    return differences(*homes, "quick", "sentiment-weight-lora")


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_equal_runs_have_no_differences(homes):
    assert found(homes) == []


def test_every_kind_of_result_is_compared(homes):
    run = homes[1] / "runs/quick/sentiment-weight-lora"
    save_file(
        {"A": torch.ones(2, 2), "B": torch.tensor([0.0, 1e-8])}, run / "adapter/seed-18/adapter_model.safetensors"
    )
    curves = run / "training/seed-52/curves.csv"
    curves.write_text(_nudged(curves.read_text()))
    edit_json(run / "training/seed-18/selection.json", lambda c: c.update(survivors=[0]))
    edit_json(run / "training/seed-18/record.json", lambda c: c["result"].update(steps=1))
    rows = (run / "predictions/seed-18.jsonl").read_text().splitlines()
    first = json.loads(rows[0])
    first["prediction"] = 1 - first["prediction"]
    (run / "predictions/seed-18.jsonl").write_text("\n".join([json.dumps(first), *rows[1:]]) + "\n")
    names = [line.split(":")[0].removeprefix("sentiment-weight-lora/") for line in found(homes)]
    assert names == [
        "adapter/seed-18/adapter_model.safetensors",
        "training/seed-52/curves.csv",
        "training/seed-18/selection.json",
        "training/seed-18/record.json",
        "predictions/seed-18.jsonl",
    ]


def test_an_adapter_is_compared_by_its_tensors_and_by_the_fields_that_both_sides_have(homes):
    folders = [home / "runs/quick/sentiment-weight-lora/adapter/seed-18" for home in homes]
    description = {"method": "weight_lora", "config": {"rank": 2}, "base": {"width": 32}}
    (folders[0] / "adapter_config.json").write_text(json.dumps(description))
    newer = {**description, "sha256": "1", "card": {}}
    newer["base"] = {"width": 32, "vocabulary": 50}
    (folders[1] / "adapter_config.json").write_text(json.dumps(newer))
    (folders[1] / "README.md").write_text("# A card\n")
    assert found(homes) == []
    (folders[0] / "adapter_config.json").write_text(json.dumps({**newer, "sha256": "2"}))
    assert found(homes) == []
    edit_json(folders[1] / "adapter_config.json", lambda content: content["config"].update(rank=3))
    (line,) = found(homes)
    assert line.endswith("adapter/seed-18/adapter_config.json: config: rank: 2 and 3")


def _nudged(text: str) -> str:
    """The same curve with its second logged loss changed in the last digit."""
    header, first, second, *rest = text.splitlines()
    step, loss, *others = second.split(",")
    return "\n".join([header, first, ",".join([step, f"{float(loss) * (1 + 1e-7):.9g}", *others]), *rest]) + "\n"


def test_a_file_that_one_run_lacks_is_a_difference(homes):
    (homes[1] / "runs/quick/sentiment-weight-lora/training/seed-18/selection.json").unlink()
    assert found(homes) == ["sentiment-weight-lora/training/seed-18/selection.json: only in the old run"]


def test_another_format_with_the_same_values_is_no_difference(homes):
    run = homes[1] / "runs/quick/sentiment-weight-lora"
    edit_json(run / "training/seed-18/record.json", lambda content: content.update(versions={}))
    path = run / "predictions/seed-18.jsonl"
    path.write_text("".join(json.dumps(dict(reversed(json.loads(line).items()))) + "\n" for line in path.open()))
    assert found(homes) == []


def test_scores_are_compared_in_their_old_and_their_new_file(homes):
    run = homes[0] / "runs/quick/sentiment-weight-lora"
    (run / "scores.json").rename(run / "metrics.json")
    assert found(homes) == []
    edit_json(run / "metrics.json", lambda c: (c["seeds"]["18"].update(accuracy=1.0), c.update(accuracy=_mean(c))))
    assert len(found(homes)) == 1
    assert "scores.json: seeds: 18: accuracy: 1.0" in found(homes)[0]


def _mean(content) -> float:
    scores = [values["accuracy"] for values in content["seeds"].values()]
    return sum(scores) / len(scores)


def test_prepared_rows_gold_answers_and_weights_are_compared(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for home in (old, new):
        for name in ("prepared/quick/qa/train.jsonl", "gold/quick/qa.jsonl"):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text('{"id": "1"}\n')
        (home / "weights/gpt2").mkdir(parents=True)
        save_file({"w": torch.tensor([0.0])}, home / "weights/gpt2/model.safetensors")
    assert source_differences(old, new) == []
    (new / "gold/quick/more.jsonl").write_text("{}\n")
    assert source_differences(old, new) == [], "what only new code writes is nothing to compare"
    save_file({"w": torch.tensor([-0.0])}, new / "weights/gpt2/model.safetensors")
    (new / "prepared/quick/qa/train.jsonl").write_text('{"id": "2"}\n')
    (new / "gold/quick/qa.jsonl").unlink()
    assert [line.split(":")[0] for line in source_differences(old, new)] == [
        "prepared/quick/qa/train.jsonl", "gold/quick/qa.jsonl", "weights/gpt2/model.safetensors",
    ]  # fmt: skip
