import json
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.corpora.microworld import LABEL, NAMES, TASKS_SHA256, load
from replication.corpora.schema import parse_mr
from replication.errors import ConfigError, DataError
from replication.fileio import sha256_bytes
from studies.microworld import tasks as microworld_tasks
from studies.microworld.descriptions import MicroworldConfig, generate
from studies.microworld.grammar import Draw
from studies.microworld.pretraining import draw_passage
from studies.microworld.tasks import (
    DRAWINGS,
    FILES,
    TasksConfig,
    files_of,
    generate_pretraining,
    generate_task,
    main,
    write,
)

SMALL = {"train": 24, "test": 12, "passages": 20}


@pytest.fixture(scope="module")
def contents():
    return files_of()


@pytest.fixture(scope="module")
def folder(contents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for name, data in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def small(tmp_path):
    write(tmp_path / "tasks", TasksConfig(**SMALL))
    return tmp_path / "tasks"


def test_regenerating_gives_the_stored_bytes(contents):
    assert {name: sha256_bytes(data) for name, data in contents.items()} == TASKS_SHA256
    assert tuple(contents) == FILES


def test_the_tasks_in_the_tree_are_the_generated_ones(project_root, contents):
    folder = project_root / "data" / "microworld-tasks"
    if not folder.is_dir():
        pytest.skip("not run: data/microworld-tasks is not pulled (dvc pull data.dvc)")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(FILES)
    assert {name: (folder / name).read_bytes() for name in FILES} == contents


def test_bytes_do_not_depend_on_hash_order(tmp_path):
    code = (
        "import sys; from studies.microworld.tasks import TasksConfig, write; "
        f"print(write(sys.argv[1], TasksConfig(**{SMALL})))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / hash_seed)],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "4321")
    }
    assert len(printed) == 1


def test_default_corpora(folder, contents):
    for name in NAMES:
        corpus = load(name, folder)
        assert {split: len(rows) for split, rows in corpus.splits.items()} == {"train": 1200, "test": 240}
        assert (corpus.label, corpus.comparable, corpus.reported_split) == (LABEL, False, "test")
        assert corpus.sha256 == {
            f"{name.removeprefix('microworld_')}/{split}.jsonl": TASKS_SHA256[
                f"{name.removeprefix('microworld_')}/{split}.jsonl"
            ]
            for split in ("train", "test")
        }
        assert LABEL in corpus.note
    assert contents["pretraining.txt"].count(b"\n") == 6000
    readme = contents["README.md"].decode()
    assert all(TASKS_SHA256[name] in readme for name in FILES if name != "README.md")
    assert LABEL in readme


@given(st.integers(), st.sampled_from(list(DRAWINGS)), st.integers(1, 40), st.integers(1, 30))
def test_splits_for_any_seed_and_size(seed, task, train, test):
    config = TasksConfig(seed, train, test, passages=1)
    splits = generate_task(task, config)
    assert splits == generate_task(task, config)
    assert [len(splits[split]) for split in ("train", "test")] == [train, test]
    held_out = set().union(*(item.keys for item in splits["test"]))
    assert not any(item.keys & held_out for item in splits["train"])
    assert not any(set(item.meanings) & {m for i in splits["test"] for m in i.meanings} for item in splits["train"])
    for items in splits.values():
        rows = [json.dumps({**item.row, "id": ""}) for item in items]
        assert len(set(rows)) == len(rows)
        assert len({item.row["id"] for item in items}) == len(items)
        assert all(item.keys for item in items)


@given(st.integers(), st.sampled_from(list(DRAWINGS)))
def test_the_test_split_stays_when_the_other_sizes_change(seed, task):
    one = generate_task(task, TasksConfig(seed, train=6, test=8, passages=1))
    two = generate_task(task, TasksConfig(seed, train=9, test=8, passages=3))
    assert one["test"] == two["test"]


def key_of_balance(row):
    for field in ("label", "answer", "impossible"):
        if field in row:
            return row[field]
    return None


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_balanced(folder, name):
    for rows in load(name, folder).splits.values():
        counts = Counter(key_of_balance(row) for row in rows)
        assert len(set(counts.values())) == 1
        assert len(counts) == {"microworld_similarity": 6, "microworld_entailment": 3, "microworld_choice": 4}.get(
            name, 1 if name in ("microworld_qa", "microworld_headlines") else 2
        )


@settings(max_examples=3)
@given(st.integers())
def test_no_passage_tells_what_is_held_out(seed):
    config = TasksConfig(seed, train=1, test=40, passages=150)
    splits = {task: generate_task(task, config) for task in DRAWINGS}
    texts = generate_pretraining(config, splits)
    assert len(texts) == 150
    joined = "\n".join(texts)
    for item in (item for parts in splits.values() for item in parts["test"]):
        for field in ("text", "context", "document"):
            text = item.row.get(field) or "no such field"
            assert text not in joined
            assert f'"{text.removesuffix(".")}"' not in joined
    world = generate(MicroworldConfig(train=1, passages=1))
    assert not any(row.reference in joined for row in (*world.dev, *world.test))


def test_passages_are_left_out_for_the_held_out_rows_and_for_nothing_else():
    config = TasksConfig(train=1, test=500, passages=300)
    items = [item for task in ("paraphrase", "sentiment") for item in generate_task(task, config)["test"]]
    world = generate(MicroworldConfig(train=1, passages=1))
    held_out = [set(place.slots) for item in items for place in item.meanings]
    held_out += [set(parse_mr(row.mr).slots) for row in (*world.dev, *world.test)]
    quoted = {key for item in items for key in item.keys if not item.meanings}
    draw = Draw(config.seed, "tasks pretraining")
    kept, left_out = [], {"told": 0, "quoted": 0}
    while len(kept) < config.passages:
        passage = draw_passage(draw)
        told = any(facts <= set(place.slots) for place in passage.meanings for facts in held_out)
        left_out["told"] += told
        left_out["quoted"] += bool(passage.keys & quoted)
        if not told and not passage.keys & quoted:
            kept.append(passage.text)
    splits = {task: generate_task(task, config) for task in ("paraphrase", "sentiment")}
    assert generate_pretraining(config, splits) == tuple(kept)
    assert min(left_out.values()) > 0


def bags(rows, vocabulary):
    """Counts of the words of each half, apart."""
    counts = np.zeros((len(rows), 2 * len(vocabulary)))
    for index, row in enumerate(rows):
        for half, text in enumerate((row["text"], row["pair"] or "")):
            for word in re.findall(r"[\w£'-]+", text.lower()):
                if word in vocabulary:
                    counts[index, half * len(vocabulary) + vocabulary[word]] += 1
    return counts


def overlaps(rows):
    """How many words the halves share, alone and for each word of either: what a reader of no order can compare."""
    halves = [[set(re.findall(r"[\w£'-]+", (row[half] or "").lower())) for half in ("text", "pair")] for row in rows]
    return np.array([[len(a & b), len(a & b) / len(b), len(a & b) / len(a | b)] for a, b in halves])


def logistic(x, y, classes):
    mean, scale = x.mean(0), x.std(0) + 1e-9
    weights, bias, z, target = (
        np.zeros((x.shape[1], classes)),
        np.zeros(classes),
        (x - mean) / scale,
        np.eye(classes)[y],
    )
    for _ in range(300):
        logits = z @ weights + bias
        shares = np.exp(logits - logits.max(1, keepdims=True))
        slope = (shares / shares.sum(1, keepdims=True) - target) / len(y)
        weights -= 0.3 * (z.T @ slope + 1e-3 * weights)
        bias -= 0.3 * slope.sum(0)
    return lambda other: ((other - mean) / scale @ weights + bias).argmax(1)


# Measured on the default corpus: (accuracy of words alone, of words and overlap); chance is 0.5, entailment 1/3.
BAGS = {"acceptability": (0.75, None), "sentiment": (0.75, None), "paraphrase": (0.6, 0.7), "entailment": (0.45, 0.65)}


@pytest.mark.parametrize("task", list(BAGS))
def test_a_bag_of_words_does_not_solve_it(folder, task, record_property):
    corpus = load(f"microworld_{task}", folder)
    train, test = corpus.splits["train"], corpus.splits["test"]
    words = sorted({word for row in train for word in re.findall(r"[\w£'-]+", f"{row['text']} {row['pair']}".lower())})
    vocabulary = {word: index for index, word in enumerate(words)}
    labels, right = (np.array([row["label"] for row in rows]) for rows in (train, test))
    limits = dict(zip(("words", "words and overlap"), BAGS[task], strict=True))
    for features, limit in limits.items():
        if limit is None:
            continue
        columns = [[bags(rows, vocabulary)] for rows in (train, test)]
        if features != "words":
            columns = [[*one, overlaps(rows)] for one, rows in zip(columns, (train, test), strict=True)]
        x, other = (np.hstack(one) for one in columns)
        score = float((logistic(x, labels, len(corpus.labels))(other) == right).mean())
        record_property(f"{task}, {features}", score)
        assert score < limit


def test_writing_twice_changes_nothing_and_repairs_damage(small, tmp_path):
    config = TasksConfig(**SMALL)
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    hashes = write(small, config)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    (small / "choice" / "test.jsonl").write_text("damaged")
    assert write(small, config) == hashes
    assert sha256_bytes((small / "choice" / "test.jsonl").read_bytes()) == hashes["choice/test.jsonl"]
    assert [path.name for path in tmp_path.iterdir()] == ["tasks"]


def test_other_files_are_never_lost(tmp_path, capsys):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "thesis.txt").write_text("years of work")
    assert main(["--output", str(tmp_path)]) == 2
    assert "deep/thesis.txt" in capsys.readouterr().err
    assert (tmp_path / "deep" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(DataError, match="is a file"):
        write(tmp_path / "deep" / "thesis.txt")


def test_a_failure_while_writing_keeps_the_old_folder(small, tmp_path, monkeypatch):
    old = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}

    def fail(path, data):
        raise OSError("no space left")

    monkeypatch.setattr(microworld_tasks, "write_bytes", fail)
    with pytest.raises(OSError, match="no space"):
        write(small, TasksConfig(seed=1, **SMALL))
    assert {path: path.read_bytes() for path in small.rglob("*") if path.is_file()} == old
    assert [path.name for path in tmp_path.iterdir()] == ["tasks"]


def test_the_command_prints_the_hashes(tmp_path, capsys, monkeypatch, contents):
    monkeypatch.setattr(microworld_tasks, "files_of", lambda config: contents)
    assert main(["--output", str(tmp_path / "tasks")]) == 0
    printed = capsys.readouterr().out
    assert LABEL in printed
    assert all(f"{digest}  {name}" in printed for name, digest in TASKS_SHA256.items())


@pytest.mark.parametrize(
    ("field", "value"),
    [("train", 0), ("train", 20_001), ("test", 1001), ("test", 2.0), ("passages", True), ("seed", "18")],
)
def test_a_wrong_setting_is_named(field, value):
    with pytest.raises(ConfigError, match=field):
        TasksConfig(**{field: value})
