from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import pipelines.prepare as prepare
from replication.corpora.microworld import LABEL
from replication.errors import ConfigError, DataError
from replication.fileio import read_json, read_jsonl


@pytest.fixture
def params(tmp_path, project_root, monkeypatch):
    """A copy of the quick profile that reads the real embedded corpus and writes to a temporary folder."""
    content = yaml.safe_load((project_root / "params.yaml").read_text())
    content["tasks"]["microworld-e2e"].update(
        source=str(project_root / "data/microworld"), train_examples=30, dev_examples=7, test_items=5
    )
    for task in content["tasks"].values():
        if task["source"] == "data/microworld-tasks":
            task["source"] = str(project_root / task["source"])
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_prepared_files_hold_what_was_asked_for(params, tmp_path):
    prepare.main(params, "microworld-e2e")
    folder = tmp_path / "prepared/quick/microworld-e2e"
    train, dev, test = (read_jsonl(folder / f"{split}.jsonl") for split in ("train", "dev", "test"))
    corpus = read_json(folder / "corpus.json")
    assert (len(train), len(dev), len(test)) == (30, 7, 5)
    assert corpus["label"] == LABEL
    assert (corpus["train_examples"], corpus["dev_examples"], corpus["test_items"]) == (30, 7, 5)
    assert len(corpus["sha256"]) == 3
    assert all(row["context"].startswith("name : ") for row in train + test)
    assert all(len(item["references"]) >= 3 for item in test)
    assert not {row["context"] for row in train} & {item["context"] for item in test}


def test_preparing_twice_gives_the_same_bytes(params, tmp_path):
    places = (tmp_path / "prepared/quick/microworld-e2e", tmp_path / "gold/quick")
    prepare.main(params, "microworld-e2e")
    first = {path.name: path.read_bytes() for folder in places for path in folder.iterdir()}
    prepare.main(params, "microworld-e2e")
    assert {path.name: path.read_bytes() for folder in places for path in folder.iterdir()} == first
    assert len(first) == 5


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("microworld-e2e", {"id", "context", "references"}),
        ("sentiment", {"id", "label"}),
        ("qa", {"id", "answers"}),
        ("headlines", {"id", "references"}),
        ("choice", {"id", "label"}),
    ],
)
def test_the_gold_file_holds_the_truth_of_every_reported_item(params, tmp_path, task, fields):
    prepare.main(params, task)
    items = read_jsonl(tmp_path / f"prepared/quick/{task}/test.jsonl")
    gold = read_jsonl(tmp_path / f"gold/quick/{task}.jsonl")
    assert [row["id"] for row in gold] == [item.get("id", item.get("mr")) for item in items]
    assert all(set(row) == fields for row in gold)


def test_another_seed_chooses_other_rows_in_corpus_order():
    rows = list(range(100))
    assert prepare.select(rows, None, 0) == rows
    first, second = prepare.select(rows, 10, 0), prepare.select(rows, 10, 1)
    assert first != second
    assert first == sorted(first)
    assert len(set(first)) == 10


def test_a_missing_corpus_names_the_fix(params, tmp_path):
    content = yaml.safe_load(params.read_text())
    (tmp_path / "empty").mkdir()
    for source, message in (
        ("empty", r"trainset\.csv: no such file; `dvc pull data\.dvc`"),
        ("absent", "no such folder"),
    ):
        content["tasks"]["microworld-e2e"]["source"] = str(tmp_path / source)
        params.write_text(yaml.safe_dump(content))
        with pytest.raises(DataError, match=message):
            prepare.main(params, "microworld-e2e")
    assert not (tmp_path / "prepared").exists()


def test_a_form_that_the_corpus_does_not_have_names_file_and_task(params):
    content = yaml.safe_load(params.read_text())
    content["tasks"]["sentiment"]["form"] = "generation"
    params.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"params\.yaml: tasks\.sentiment: form=generation; .*has the form classif"):
        prepare.main(params, "sentiment")


@pytest.mark.parametrize("task", ["microworld-e2e", "sentiment", "qa", "headlines", "choice"])
def test_no_dev_row_and_no_reported_row_is_learned_from(params, tmp_path, task):
    content = yaml.safe_load(params.read_text())
    content["tasks"][task]["train_examples"] = None  # all: a part of them might miss the rows in question
    params.write_text(yaml.safe_dump(content))
    prepare.main(params, task)
    folder = tmp_path / f"prepared/quick/{task}"
    train, dev, test = ([json.dumps(row, sort_keys=True) for row in read_jsonl(folder / f"{split}.jsonl")]
                        for split in ("train", "dev", "test"))  # fmt: skip
    assert train
    assert dev
    assert not set(train) & set(dev), "a dev loss on rows that were learned says nothing"
    assert not (set(train) | set(dev)) & set(test)
    corpus = read_json(folder / "corpus.json")
    sizes = (corpus["train_examples"], corpus["dev_examples"], corpus["test_items"])
    assert sizes == (len(train), len(dev), len(test))


@given(rows=st.integers(2, 60), count=st.integers(0, 59), seed=st.integers(0, 9))
def test_held_out_rows_and_the_rest_are_all_rows_once_in_their_order(rows, count, seed):
    everything = list(range(rows))
    if count >= rows:
        with pytest.raises(ConfigError, match="nothing is left to train on"):
            prepare.hold_out_rows(everything, count, seed)
        return
    train, dev = prepare.hold_out_rows(everything, count, seed)
    assert len(dev) == count
    assert sorted(train + dev) == everything
    assert (train, dev) == (sorted(train), sorted(dev))


@given(st.lists(st.integers(1, 300), min_size=3, max_size=60), st.integers(4, 80), st.data())
def test_the_hardest_rows_are_one_of_each_odd_kind_the_longest_and_others_in_corpus_order(lengths, limit, data):
    rows = [{"id": n, "text": "x" * length, "pair": "y", "label": 0} for n, length in enumerate(lengths)]
    first, second = data.draw(st.permutations(range(len(rows))))[:2]
    rows[first]["text"], rows[second]["pair"] = "", ""
    chosen = prepare.hardest(rows, limit, 3, "classification")
    assert len(chosen) == min(limit, len(rows))
    assert [row["id"] for row in chosen] == sorted({row["id"] for row in chosen})
    assert {first, second} <= {row["id"] for row in chosen}
    if limit >= 6:
        assert max(len(row["text"]) for row in chosen) == max(len(row["text"]) for row in rows)
    assert chosen == prepare.hardest(rows, limit, 3, "classification")
