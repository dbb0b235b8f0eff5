"""Ties at WeightLoRA's first projection: what is read from a run, and that the run is the pipeline's own."""

from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import pipelines.finetune as finetune
import pipelines.ties as ties
from replication.errors import ConfigError
from replication.fileio import read_json, write_text

PARAMS = Path("params.yaml")
SELECTING = "sentiment-weight-lora"


def with_rate(rate):
    """The project's weights move at this rate."""
    content = yaml.safe_load(PARAMS.read_text())
    content["methods"]["weight_lora"]["k3"]["weight_learning_rate"] = rate
    write_text(PARAMS, yaml.safe_dump(content))


def test_the_first_choice_is_that_of_the_recorded_run(small_home):
    with_rate(500.0)
    finetune.main(PARAMS, SELECTING)
    ties.main(PARAMS)
    found = read_json(small_home / "measurements/quick/ties.json")
    (row,) = found["rows"]
    assert (row["experiment"], row["seed"], row["update"]) == (SELECTING, 18, 3)
    assert row["kept"] == row["kept_exact"] == row["kept_in_record"]
    assert (row["kept_by_place"], row["shared_with_exact"]) == (0, 2)
    assert row["largest_distance_from_1"] > 1e-6


def test_weights_that_do_not_move_are_kept_in_module_order(small_home):
    with_rate(1e-9)
    ties.main(PARAMS, [SELECTING])
    (row,) = read_json(small_home / "measurements/quick/ties.json")["rows"]
    assert row["kept"] == [0, 1]
    assert (row["kept_by_place"], row["unmoved"], row["largest_distance_from_1"]) == (2, 18, 0)
    assert "kept_in_record" not in row


def test_results_says_what_the_committed_file_holds(project_root):
    rows = read_json(project_root / "measurements/cpu/ties.json")["rows"]
    text = " ".join((project_root / "RESULTS.md").read_text(encoding="utf-8").split())
    assert len(rows) == sum(row["kept"] == row["kept_in_record"] for row in rows) == 40
    by_place = [row["kept_by_place"] for row in rows]
    other = sum(row["shared_with_exact"] < len(row["kept"]) for row in rows)
    assert f"in {sum(map(bool, by_place))} of the 40 runs" in text
    assert f"{sum(by_place)} of 240 in all" in text
    assert f"in exact arithmetic {other} of the runs" in text
    worst = [row for row in rows if row["experiment"] == "qnli-1000-weight-lora" and row["seed"] in (52, 7)]
    assert [row["kept_by_place"] for row in worst] == [6, 6]
    assert not {index % 3 for row in worst for index in row["kept_exact"]} & {2}, "no value adapter"


def test_another_method_is_refused(small_home):
    with pytest.raises(ConfigError, match="sentiment-lora: not of method weight_lora"):
        ties.main(PARAMS, ["sentiment-lora"])


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=8, unique=True), st.data())
def test_distinct_weights_are_chosen_exactly(steps, data):
    exact = 1 + torch.tensor(steps, dtype=torch.float64) / 1000
    keep = data.draw(st.integers(1, len(steps)))
    found = ties.describe(exact.float().double(), exact, keep, "signed")
    assert found["kept"] == found["kept_exact"]
    assert (found["kept_by_place"], found["shared_with_exact"]) == (0, keep)
