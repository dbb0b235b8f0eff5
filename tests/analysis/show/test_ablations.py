import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.show.ablations import (
    Ablation,
    ablation_block,
    ablation_blocks,
    ablation_figures,
    load_ablations,
    read_ablation,
    show_cell,
    summary_block,
)
from replication.errors import DataError


def content(**changes):
    found = {
        "schema_version": 1,
        "name": "some_fault",
        "paper": "weight_lora",
        "title": "Some fault",
        "fault": "It is wrong.",
        "source": "nobody's code; line not at hand",
        "instead": "Right.",
        "profile": "quick",
        "data": "task sentiment",
        "backbone": "microworld-deberta",
        "seeds": [1, 2, 3],
        "settings": {"version": 1},
        "inputs": {"sentiment/train.jsonl": "0" * 64},
        "settings_sha256": "1" * 64,
        "headers": ["Variant", "Count", "Accuracy"],
        "rows": [["ours", 1234, {"1": 0.5, "2": 0.6, "3": 0.7}], ["faulty", 0.25, {"1": 0.5, "2": None, "3": 0.7}]],
        "notes": [],
        "figure": {
            "title": "T",
            "caption": "C.",
            "x_label": "step",
            "y_label": "loss",
            "log_x": True,
            "series": [{"label": "ours", "x": [1, 10], "y": [0.5, None], "low": [0.4, None], "high": [0.6, None]}],
        },
        "shows": "that it is wrong.",
        "does_not_show": "how wrong.",
        "versions": {"python": "3.11"},
        "conditions": {"cpu": "c", "blas": "b", "threads": 1, "torch_build": "t"},
    }
    return {**found, **changes}


def write(folder, **changes):
    value = content(**changes)
    path = folder / f"{value['name']}.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_a_table_shows_spread_counts_and_what_diverged(tmp_path):
    block = ablation_block(read_ablation(write(tmp_path)))
    assert block.rows == (("ours", "1,234", "0.60 ± 0.10"), ("faulty", "0.25", "0.60 ± 0.14 (1 of 3 diverged)"))
    assert "quick profile, microworld-deberta, task sentiment, seeds 1, 2, 3" in block.caption
    assert block.notes[-2:] == ("Shows: that it is wrong.", "Does not show: how wrong.")


def test_nothing_trained_is_said(tmp_path):
    path = write(tmp_path, seeds=[], rows=[["a", 1, "b"]], backbone=None, profile="none", figure=None)
    assert ablation_block(read_ablation(path)).caption.endswith("(task sentiment, nothing trained)")


@pytest.mark.parametrize(
    ("cell", "shown"),
    [("text", "text"), (7, "7"), (0.123456, "0.1235"), ({"1": None}, "diverged (1 of 1 seeds)"), ({}, "not measured"),
     ({"1": 2e7, "2": 4e7}, "3.0e+07 ± 1.4e+07"), ({"1": 0.5}, "0.5000"), ({"1": 3.0, "2": 3.0}, "3 in every seed")],
)  # fmt: skip
def test_cells(cell, shown):
    assert show_cell(cell) == shown


@given(values=st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1, max_size=5))
def test_every_cell_of_seeds_says_how_many_diverged(values):
    shown = show_cell({str(seed): value for seed, value in enumerate(values)})
    lost = values.count(None)
    assert ("diverged" in shown) == (lost > 0)
    assert not lost or f"{lost} of {len(values)}" in shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [["ours", 1]]}, "row 1 has 2 cells for 3 headers"),
        ({"rows": [["ours", 1, {"9": 0.5}]]}, "row 1 has seeds"),
        ({"seeds": [1, 2], "rows": [["ours", 1, {"1": 0.5}]]}, "at least three"),
        ({"schema_version": 2}, "schema_version"),
        ({"surplus": 1}, "surplus"),
        ({"settings_sha256": "zz"}, "settings_sha256"),
        ({"rows": [["ours", 1, {"1": float("nan")}]]}, "rows"),
    ],
)
def test_a_broken_file_is_named_with_its_field(tmp_path, changes, message):
    with pytest.raises(DataError, match=message) as caught:
        read_ablation(write(tmp_path, **changes))
    assert "some_fault.json" in str(caught.value)


def test_a_file_bears_its_own_name(tmp_path):
    path = write(tmp_path)
    path.rename(tmp_path / "other.json")
    with pytest.raises(DataError, match="not the file's own"):
        read_ablation(tmp_path / "other.json")


def test_all_are_read_solo_connection_first(tmp_path):
    write(tmp_path)
    write(tmp_path, name="a_fault", paper="weight_lora")
    write(tmp_path, name="z_fault", paper="solo_connection")
    found = load_ablations(tmp_path)
    assert [ablation.name for ablation in found] == ["z_fault", "a_fault", "some_fault"]
    assert len(ablation_blocks(found, "weight_lora")) == 2
    assert [row[0] for row in summary_block(found).rows] == ["Solo Connection", "WeightLoRA", "WeightLoRA"]
    assert load_ablations(tmp_path / "absent") == []


def test_a_figure_is_drawn_with_its_words(tmp_path):
    without = Ablation.model_validate(content(name="plain", figure=None))
    (drawing,) = ablation_figures([read_ablation(write(tmp_path)), without])
    assert drawing.name == "ablation_some_fault"
    assert "ours: 0.5 at 1" in drawing.alternative
    assert "It does not show: how wrong." in drawing.caption
    assert drawing.svg.startswith("<?xml")
    assert drawing.svg == ablation_figures([read_ablation(write(tmp_path))])[0].svg


def test_the_committed_results_are_whole(project_root):
    found = load_ablations(project_root / "measurements" / "ablations")
    assert found
    assert all(block.rows for block in ablation_blocks(found))
