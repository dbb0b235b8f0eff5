"""Stage `predict`: what it deletes of the work of the stage before it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

import pipelines.finetune as finetune
import pipelines.predict as predict
from pipelines.shared.experiment import resolve
from pipelines.shared.settings import load_settings
from replication.fileio import write_text

PARAMS = Path("params.yaml")
KEY = "sentiment-lora"


@pytest.fixture
def trained(small_home):
    """Two seeds trained, their outputs taken."""
    content = yaml.safe_load(PARAMS.read_text())
    content["experiments"][KEY]["seeds"] = [18, 52]
    write_text(PARAMS, yaml.safe_dump(content))
    finetune.main(PARAMS, KEY)
    return resolve(load_settings(PARAMS), KEY)


def kept(plan):
    return {path.name.rpartition("-")[0] for path in (plan.scratch / "finetune").glob("*")}


def test_what_is_taken_is_deleted(trained):
    assert kept(trained) == {"seed-18", "seed-52"}
    predict.main(PARAMS, KEY)
    assert not list(trained.scratch.glob("*/seed-*"))


def test_what_is_under_way_or_waits_is_kept(trained):
    """A further training has begun, and `predict` ran on the outputs of the last one."""
    folder = trained.scratch / "finetune"
    write_text(folder / "seed-7-0a/checkpoint/step-00000001/state.json", "{}")
    write_text(folder / "trained-seed-7-0b/outcome.json", "{}")
    other = folder / "seed-52-0c"
    shutil.copytree(next(folder.glob("seed-52-*")), other)
    (other / "finished/adapter/adapter_model.safetensors").write_bytes(b"another")
    write_text(folder / "seed-9-0d/finished/adapter/adapter_model.safetensors", "no output of this seed yet")
    predict.main(PARAMS, KEY)
    left = {path.name for path in folder.iterdir()}
    assert left == {"seed-7-0a", "trained-seed-7-0b", "seed-52-0c", "seed-9-0d"}
