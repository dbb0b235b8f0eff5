"""Stage `finetune`: which rows a run learns from, and which seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import pipelines.finetune as finetune
from pipelines.shared.experiment import resolve
from pipelines.shared.settings import load_settings
from replication.fileio import write_json, write_jsonl, write_text

PARAMS = Path("params.yaml")
KEY = "sentiment-lora"


def rows(split, count):
    return [{"id": f"{split}-{n}", "text": f"{split} text {n}", "pair": None, "label": n % 2} for n in range(count)]


@pytest.fixture
def home(project_root, tmp_path, monkeypatch):
    """The quick profile with prepared rows that say their split, and weights that cannot be loaded."""
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((project_root / "params.yaml").read_text())
    write_text(PARAMS, yaml.safe_dump(content))
    plan = content["experiments"][KEY]
    write_text(f"weights/{plan['backbone']}/model.safetensors", "no weights")
    folder = Path("prepared/quick") / plan["task"]
    for split, count in (("train", 9), ("dev", 4), ("test", 5)):
        write_jsonl(folder / f"{split}.jsonl", rows(split, count))
    write_json(folder / "corpus.json", {"name": "toy"})
    return tmp_path


def test_every_seed_learns_from_the_training_rows_alone(home, monkeypatch):
    seen = []

    def fit(experiment, train_rows, dev_rows, *, seed, **_):
        seen.append(seed)
        assert train_rows == rows("train", 9), "what is held out, or reported, must not be learnt from"
        assert dev_rows == rows("dev", 4)

    monkeypatch.setattr(finetune, "fit", fit)
    monkeypatch.setattr(finetune, "keep", lambda *_, **__: None)
    monkeypatch.setattr(finetune, "complete", lambda *_, **__: None)
    plan = resolve(load_settings(PARAMS), KEY)
    for seed in plan.seeds:
        finetune.finished_seed(plan, seed)
    assert seen == list(plan.seeds)
