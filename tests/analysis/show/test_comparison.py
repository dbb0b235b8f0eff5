import json
import shutil

import pytest

from analysis.show import comparison as module
from analysis.show.comparison import comparison, inputs_hash


@pytest.fixture
def root(quick_runs, tmp_path):
    shutil.copytree(quick_runs, tmp_path / "runs" / "quick")
    return tmp_path


def test_what_was_kept_is_read_and_not_computed_again(root, monkeypatch):
    first = comparison("quick", root)
    monkeypatch.setattr(module, "_computed", lambda *_: 1 / 0)
    assert comparison("quick", root) == first


@pytest.mark.parametrize("part", ["scores.json", "predictions/seed-18.jsonl", "training/seed-18/curves.csv"])
def test_a_changed_input_makes_it_anew(root, part):
    before, first = inputs_hash("quick", root), comparison("quick", root)
    path = root / "runs" / "quick" / "lora" / part
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert inputs_hash("quick", root) != before
    assert comparison("quick", root)["key"] != first["key"]


def test_a_changed_lock_makes_it_anew(root):
    before = inputs_hash("quick", root)
    (root / "dvc.lock").write_text("stages: {}\n", encoding="utf-8")
    assert inputs_hash("quick", root) != before


def test_a_file_that_is_damaged_is_made_anew(root):
    first = comparison("quick", root)
    path = root / ".cache" / "compare" / "quick.json"
    for content in ("{", "[]", json.dumps({"key": "other"})):
        path.write_text(content, encoding="utf-8")
        assert comparison("quick", root) == first


def test_changed_seeds_in_params_make_it_anew(root):
    before = inputs_hash("quick", root)
    (root / "params.yaml").write_text("profile: quick\n", encoding="utf-8")
    assert inputs_hash("quick", root) != before


def test_only_the_adapters_of_runs_are_left_out(root, quick_runs):
    place = root / "adapter" / "runs" / "quick" / "adapter"
    shutil.copytree(quick_runs / "lora", place)
    before = inputs_hash("quick", root / "adapter")
    (place / "adapter").mkdir(exist_ok=True)
    (place / "adapter" / "weights").write_text("x", encoding="utf-8")
    assert inputs_hash("quick", root / "adapter") == before
    (place / "scores.json").write_text("{}", encoding="utf-8")
    assert inputs_hash("quick", root / "adapter") != before
