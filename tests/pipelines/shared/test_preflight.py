"""The preflight finds what would stop a run, before its first step, and changes nothing that the run does."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import pipelines.finetune as finetune
import pipelines.search as search
import pipelines.shared.preflight as module
import replication.methods
from pipelines.shared.experiment import resolve, resolve_search
from pipelines.shared.preflight import preflight, require, shown
from pipelines.shared.settings import load_settings
from replication.errors import DataError
from replication.fileio import read_json, read_jsonl, write_json, write_jsonl, write_text
from replication.records import read_record

PARAMS = Path("params.yaml")
KEY = "sentiment-lora"


def experiment(key=KEY):
    return resolve(load_settings(PARAMS), key)


def files(folder):
    kept = [path for path in sorted(folder.rglob("*")) if path.is_file() and "cost" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


@pytest.mark.parametrize("key", [KEY, "sentiment-weight-lora", "headlines-lora"])
def test_a_run_that_can_train_has_no_problem_and_leaves_nothing(small_home, key):
    before = files(small_home)
    report = require(experiment(key))
    assert report.problems == []
    assert list(report.splits) == ["train", "dev", "test"]
    assert [split.rows for split in report.splits.values()] == [12, 0 if key == "headlines-lora" else 5, 6]
    assert files(small_home) == before, "placeholders are removed"
    assert "train 12 rows" in shown(report)
    assert report.trainable * 4 * 3 == report.checkpoint_bytes


@pytest.mark.long
def test_the_stated_sizes_are_those_of_the_files(small_home):
    report = preflight(experiment())
    finetune.main(PARAMS, KEY)
    written = Path("runs/quick", KEY, "adapter/seed-18/adapter_model.safetensors").stat().st_size
    assert report.adapter_bytes <= written < report.adapter_bytes + 20_000, "tensors and their names"
    record = read_record(Path("runs/quick", KEY, "training/seed-18/record.json"))
    assert record.counts.trainable == report.trainable
    assert record.corpus.revisions == {"nyu-mll/glue": "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"}


@pytest.mark.long
@pytest.mark.parametrize("key", [KEY, "sentiment-weight-lora"])
def test_training_with_and_without_a_preflight_is_equal_to_the_byte(small_home, monkeypatch, key):
    import torch

    torch.manual_seed(5)
    finetune.main(PARAMS, key)
    checked = files(Path("runs/quick", key))
    shutil.rmtree("runs")
    monkeypatch.setattr(finetune, "require", lambda _: None)
    torch.manual_seed(6)
    finetune.main(PARAMS, key)
    assert files(Path("runs/quick", key)) == checked


def test_random_states_are_as_before(small_home):
    from replication.training.determinism import capture_random_states, seed_everything

    seed_everything(7)
    before = capture_random_states()
    preflight(experiment())
    assert capture_random_states() == before


def edit(path, change):
    content = read_json(path)
    change(content)
    write_json(path, content)


FAULTS = {
    "a source without identity": (
        lambda: edit(Path("prepared/quick/sentiment/corpus.json"), lambda c: c.update(sha256={"hub/x": "main"})),
        r"record\.json: corpus\.sha256\.hub/x.*prepared/quick/sentiment/corpus\.json",
    ),
    "an unknown field of the corpus": (
        lambda: edit(Path("prepared/quick/sentiment/corpus.json"), lambda c: c.update(colour="red")),
        r"record\.json: corpus\.colour: Extra inputs",
    ),
    "no prepared split": (
        lambda: Path("prepared/quick/sentiment/dev.jsonl").unlink(),
        r"dev\.jsonl: no such file; `dvc repro prepare`",
    ),
    "a row that cannot be predicted": (
        lambda: write_jsonl(
            "prepared/quick/sentiment/test.jsonl",
            [*read_jsonl("prepared/quick/sentiment/test.jsonl"), {"id": "odd", "text": 3, "pair": None, "label": 0}],
        ),
        r"sentiment/test\.jsonl: row 'odd': field 'text' must be text, found 3",
    ),
    "fewer rows than a batch": (
        lambda: write_jsonl(
            "prepared/quick/sentiment/train.jsonl", read_jsonl("prepared/quick/sentiment/train.jsonl")[:3]
        ),
        r"train\.jsonl, params\.yaml: experiments\.sentiment-lora: batch_size .* is 4, more than the 3 training",
    ),
    "no weights": (
        lambda: Path("weights/microworld-deberta/model.safetensors").unlink(),
        r"model\.safetensors: no such file; `dvc repro pretrain@microworld-deberta` makes it",
    ),
    "no tolerances": (lambda: Path("paper_results/tolerances.json").unlink(), r"tolerances\.json"),
    "a file where the run's folder goes": (lambda: write_text("runs/quick", "x"), r"runs/quick: is a file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_and_nothing_trains(small_home, monkeypatch, fault):
    def fit(*_, **__):
        raise AssertionError("training began")

    monkeypatch.setattr(finetune, "fit", fit)
    break_it, message = FAULTS[fault]
    break_it()
    if fault not in ("no weights", "no prepared split"):  # the identity of the run is missing, too
        with pytest.raises(DataError, match=f"{KEY}: preflight, nothing is trained: .*{message}"):
            finetune.main(PARAMS, KEY)
    assert any(re.search(message, problem) for problem in preflight(experiment()).problems)


def test_all_problems_are_listed_together(small_home):
    FAULTS["a source without identity"][0]()
    FAULTS["a row that cannot be predicted"][0]()
    assert len(preflight(experiment()).problems) == 2


def test_an_example_longer_than_the_models_positions_is_named(small_home):
    content = yaml.safe_load(PARAMS.read_text())
    content["tasks"]["sentiment"]["training"]["max_length"] = 4096
    write_text(PARAMS, yaml.safe_dump(content))
    rows = read_jsonl("prepared/quick/sentiment/train.jsonl")
    rows[3]["text"] = "the mill " * 2000
    write_jsonl("prepared/quick/sentiment/train.jsonl", rows)
    with pytest.raises(DataError, match=r"train\.jsonl.*training example 3 .*tokens; max_length is 4096 and the model"):
        require(experiment())


def test_a_disk_that_is_too_small_states_both_numbers(small_home, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    with pytest.raises(DataError, match=r"0\.00 GB are free, 0\.\d\d GB needed \(two checkpoints of .* 4 adapters of"):
        require(experiment())


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(small_home):
    Path("runs").mkdir(mode=0o500)
    with pytest.raises(DataError, match=r"cannot be written .* give write access to"):
        require(experiment())


def test_texts_that_are_cut_are_reported(small_home):
    content = yaml.safe_load(PARAMS.read_text())
    content["tasks"]["sentiment"]["training"]["max_length"] = 12
    write_text(PARAMS, yaml.safe_dump(content))
    split = preflight(experiment()).splits["train"]
    assert split.longest == 12
    assert 0 < split.truncated < split.rows
    content["tasks"]["headlines"]["options"]["max_source_length"] = 12
    write_text(PARAMS, yaml.safe_dump(content))
    assert preflight(experiment("headlines-lora")).splits["train"].truncated > 0


def test_a_search_is_checked_too(small_home, monkeypatch):
    content = yaml.safe_load(PARAMS.read_text())
    plan = next(iter(content["search"]))
    case = {"backbone": "microworld-deberta", "task": "sentiment", "method": "lora", "settings": "r4-qkv", "plan": plan}
    write_text(PARAMS, yaml.safe_dump({**content, "searches": {"one": case}}))
    report = preflight(resolve_search(load_settings(PARAMS), "one"))
    assert (report.problems, list(report.splits)) == ([], ["train"]), "neither dev rows nor test examples are read"
    monkeypatch.setattr(search, "search_learning_rate", lambda *_: pytest.fail("a trial began"))
    write_jsonl("prepared/quick/sentiment/train.jsonl", [{"id": "1", "text": "", "pair": "", "label": 0}])
    with pytest.raises(DataError, match="row '1': fields 'text' and 'pair' are both blank"):
        search.main(PARAMS, "one")


def test_another_seed_has_its_own_record(small_home):
    chosen = experiment()
    assert preflight(replace(chosen, seeds=(18,))).disk_bytes < preflight(chosen).disk_bytes


def test_random_lora_has_the_slots_it_drew(small_home):
    content = yaml.safe_load(PARAMS.read_text())
    row = {**content["experiments"][KEY], "method": "random_lora", "settings": "k3", "seeds": [52]}
    write_text(PARAMS, yaml.safe_dump({**content, "experiments": {"drawn": row}}))
    assert require(experiment("drawn")).problems == []


def test_the_report_is_json(small_home):
    from dataclasses import asdict

    assert json.loads(json.dumps(asdict(preflight(experiment()))))["splits"]["train"]["rows"] == 12


def test_a_method_that_does_not_fit_the_model_is_named(small_home, monkeypatch):
    def attach(*_):
        raise DataError("does not fit")

    monkeypatch.setattr(replication.methods, "attach", attach)
    assert preflight(experiment()).problems == ["does not fit"]
