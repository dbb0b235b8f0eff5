import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora.microworld import DEFAULT_SHA256, FILES, LABEL
from replication.corpora.schema import group_references, linearise, parse_mr, read_csv
from replication.errors import ConfigError, DataError
from replication.fileio import sha256_bytes
from studies.microworld import descriptions as microworld
from studies.microworld.descriptions import MicroworldConfig, files_of, generate, main, statistics, write

SMALL = {"train": 12, "dev": 5, "test": 6, "passages": 40}


@pytest.fixture(scope="module")
def world():
    return generate()


@pytest.fixture(scope="module")
def contents(world):
    return files_of(world)


def meanings(rows):
    return {frozenset(parse_mr(row.mr).slots) for row in rows}


def test_regenerating_gives_the_stored_bytes(contents):
    assert {name: sha256_bytes(data) for name, data in contents.items()} == DEFAULT_SHA256


def test_the_corpus_in_the_tree_is_the_generated_one(project_root, contents):
    folder = project_root / "data" / "microworld"
    if not folder.is_dir():
        pytest.skip("not run: data/microworld is not pulled (dvc pull data.dvc)")
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert {name: (folder / name).read_bytes() for name in FILES} == contents


@pytest.mark.parametrize("hash_seed", ["0", "4321"])
def test_bytes_do_not_depend_on_hash_order(tmp_path, hash_seed):
    command = [
        sys.executable,
        "-m",
        "studies.microworld.descriptions",
        "--output",
        str(tmp_path / "out"),
        "--json",
    ]
    done = subprocess.run(
        command,
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    answer = json.loads(done.stdout)
    assert answer["sha256"] == DEFAULT_SHA256
    assert answer["label"] == LABEL
    assert answer["config"]["seed"] == MicroworldConfig().seed
    assert {name: sha256_bytes((tmp_path / "out" / name).read_bytes()) for name in FILES} == DEFAULT_SHA256


def test_default_sizes(world, contents):
    counts = statistics(world)
    assert (counts["train_meanings"], counts["dev_meanings"], counts["test_meanings"]) == (400, 60, 60)
    assert counts["passages"] == 6000
    assert counts["train_rows"] == len(read_csv(contents["trainset.csv"]))
    assert contents["pretraining.txt"].count(b"\n") == 6000
    readme = contents["README.md"].decode()
    assert LABEL in readme
    assert f"{counts['train_rows']} rows" in readme
    assert DEFAULT_SHA256["testset.csv"] in readme


@given(
    seed=st.integers(),
    train=st.integers(1, 40),
    dev=st.integers(1, 15),
    test=st.integers(1, 15),
    references=st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda pair: (min(pair), max(pair))),
)
def test_splits_for_any_seed_and_size(seed, train, dev, test, references):
    config = MicroworldConfig(seed, train, dev, test, references, passages=15)
    world = generate(config)
    assert world == generate(config)
    assert [len(meanings(rows)) for rows in (world.train, world.dev, world.test)] == [train, dev, test]
    assert not meanings(world.train) & (meanings(world.dev) | meanings(world.test))
    assert not meanings(world.dev) & meanings(world.test)
    for rows in (world.train, world.dev, world.test):
        assert all(3 <= len(parse_mr(row.mr).slots) <= 8 for row in rows)
        for mr, texts in group_references(rows):
            assert references[0] <= len(texts) <= references[1]
            assert len(set(texts)) == len(texts), mr


@given(st.integers())
def test_held_out_splits_stay_when_the_training_size_changes(seed):
    small = generate(MicroworldConfig(seed, **SMALL))
    large = generate(MicroworldConfig(seed, **{**SMALL, "train": 30, "passages": 1}))
    assert (small.dev, small.test) == (large.dev, large.test)


@given(st.integers())
def test_files_round_trip(seed):
    world = generate(MicroworldConfig(seed, **SMALL))
    data = files_of(world)
    assert tuple(data) == FILES
    assert tuple(read_csv(data["trainset.csv"])) == world.train
    assert tuple(read_csv(data["devset.csv"])) == world.dev
    assert tuple(read_csv(data["testset.csv"])) == world.test
    assert tuple(data["pretraining.txt"].decode().splitlines()) == world.pretraining


def test_passages_are_hardly_ever_repeated(world):
    assert len(set(world.pretraining)) > 0.99 * len(world.pretraining)


def test_passages_never_hold_a_linear_form_or_a_held_out_reference(world):
    text = "\n".join(world.pretraining)
    assert not any(linearise(row.mr) in text or row.mr in text for row in (*world.train, *world.dev, *world.test))
    assert not any(row.reference in text for row in (*world.dev, *world.test))


def test_passages_share_the_words_of_the_descriptions(world):
    def words(texts):
        return {word.strip(".,?").lower() for text in texts for word in text.split()}

    assert words(row.reference for row in (*world.train, *world.test)) <= words(world.pretraining)


def test_writing_twice_changes_nothing_and_repairs_damage(tmp_path):
    config = MicroworldConfig(**SMALL)
    hashes = write(tmp_path / "corpus", config)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "corpus").iterdir()}
    assert sorted(before) == sorted(FILES)
    assert write(tmp_path / "corpus", config) == hashes
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "corpus").iterdir()} == before
    (tmp_path / "corpus" / "devset.csv").write_text("damaged")
    assert write(tmp_path / "corpus", config) == hashes
    assert sha256_bytes((tmp_path / "corpus" / "devset.csv").read_bytes()) == hashes["devset.csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_other_files_are_never_lost(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["--output", str(tmp_path)]) == 2
    assert "thesis.txt" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(DataError, match="is a file"):
        write(tmp_path / "thesis.txt")


def test_a_failure_while_writing_keeps_the_old_folder(tmp_path, monkeypatch):
    config = MicroworldConfig(**SMALL)
    write(tmp_path / "corpus", config)
    old = {path.name: path.read_bytes() for path in (tmp_path / "corpus").iterdir()}

    def fail(path, data):
        raise OSError("no space left")

    monkeypatch.setattr(microworld, "write_bytes", fail)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path / "corpus", MicroworldConfig(seed=1, **SMALL))
    assert {path.name: path.read_bytes() for path in (tmp_path / "corpus").iterdir()} == old
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_the_command_prints_counts(tmp_path, capsys):
    assert main(["--output", str(tmp_path / "corpus")]) == 0
    printed = capsys.readouterr().out
    assert LABEL in printed
    assert "test meanings: 60" in printed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train", 0),
        ("train", 20_001),
        ("dev", -1),
        ("test", 2.0),
        ("test", True),
        ("passages", 0),
        ("seed", "18"),
        ("seed", True),
        ("references", (0, 3)),
        ("references", (4, 3)),
        ("references", (3, 7)),
        ("references", (3,)),
        ("references", 3),
    ],
)
def test_a_wrong_setting_is_named(field, value):
    with pytest.raises(ConfigError, match=field):
        MicroworldConfig(**{field: value})
