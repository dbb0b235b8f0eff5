"""`replicate memory`: one JSON object, a file that is taken up again, and the committed file's own rows."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from replication.commands.memory import full_scale as full_scale_command
from replication.commands.memory import one_row_a_line, register
from replication.errors import DataError
from replication.fileio import read_json
from replication.memory import full_scale
from replication.memory.full_scale import all_series, describe, predictions
from replication.memory.workloads import predict

COMMITTED = Path(__file__).parents[3] / "measurements" / "full_scale" / "memory.json"


def run(*arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    result = CliRunner().invoke(app, ["memory", *arguments])
    assert result.exception is None, result.exception
    return result.stdout


def test_predict_says_the_components_and_their_sum():
    arguments = [
        "--backbone",
        "microworld-gpt2",
        "--method",
        "lora",
        "--set",
        "rank=2",
        "--batch",
        "2",
        "--length",
        "8",
    ]
    found = json.loads(run("predict", *arguments, "--json"))
    parts = ("parameters", "buffers", "batch", "optimizer_state", "gradients", "saved_activations", "workspace")
    assert found["total"] == sum(found[part] for part in parts)
    assert (found["workload"]["batch"], found["batch"]) == (2, 3 * 2 * 8 * 8)  # ids, mask and labels of 8 bytes each
    text = run("predict", *arguments)
    assert "resident size" in text
    assert f"{found['total']:,}" in text


def test_one_row_a_line():
    value = {"a": 1, "rows": [{"x": 1, "y": None}, {"x": 2, "y": "ä"}], "deep": {"list": [1, 2]}}
    text = one_row_a_line(value)
    assert json.loads(text) == value
    assert '    {"x": 1, "y": null},' in text.splitlines()
    assert text.endswith("}\n")


def test_a_file_of_something_else_is_refused(tmp_path):
    other = tmp_path / "other.json"
    other.write_text("[]")
    with pytest.raises(DataError, match=r"other\.json: holds no prediction of this command"):
        full_scale_command(output=other)
    assert other.read_text() == "[]"


def test_rows_of_the_same_settings_are_taken_over_and_others_are_not(monkeypatch):
    series = all_series()[0]
    monkeypatch.setattr(full_scale, "all_series", lambda: [series])
    rows = [{"adapters": count, "total": count} for count in series.adapters]
    known = {series.key: {**describe(series), "rows": rows}}
    assert next(predictions(known))["rows"] == rows
    asked = []

    class Found:
        def to_dict(self):
            return {"total": 0}

    monkeypatch.setattr(full_scale, "predict", lambda workload: asked.append(workload.adapters) or Found())
    changed = {series.key: {**known[series.key], "batch": 1}}
    assert [row["total"] for row in next(predictions(changed))["rows"]] == [0] * len(rows)
    assert asked == list(series.adapters)


def test_the_committed_file_holds_every_series():
    committed = read_json(COMMITTED)
    settings = [{k: v for k, v in found.items() if k != "rows"} for found in committed["series"]]
    assert settings == [describe(series) for series in all_series()]


@pytest.mark.long
@pytest.mark.parametrize("key", ["authors_layer_r8", "weight_lora_r8_top", "gpt2_medium_solo_k6"])
def test_the_committed_rows_are_what_is_predicted(key):
    series = next(series for series in all_series() if series.key == key)
    committed = next(found for found in read_json(COMMITTED)["series"] if found["key"] == key)
    workload, row = series.workloads()[0], committed["rows"][0]
    assert {"adapters": workload.adapters, **predict(workload).to_dict()} == row


def test_the_committed_checks_are_within_ten_per_cent():
    checks = read_json(COMMITTED)["checks"]
    assert {check["backbone"] for check in checks} == {f"microworld-{n}" for n in ("gpt2", "deberta", "bart", "llama")}
    for check in checks:
        assert abs(check["predicted_bytes"] / check["measured_bytes"] - 1) < 0.1
