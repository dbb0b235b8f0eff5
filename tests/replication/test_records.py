"""The record of a run, its cost, the curves file."""

import copy
import csv
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError
from replication.records import (
    Conditions,
    Cost,
    RunRecord,
    git_revision,
    machine_conditions,
    peak_memory,
    read_costs,
    read_record,
    versions,
    write_costs,
    write_curves,
    write_record,
)

CONTENT = {
    "schema_version": 1,
    "profile": "quick",
    "experiment": "lora",
    "backbone": "microworld-gpt2",
    "backbone_sha256": "f" * 64,
    "task": "e2e",
    "method": "lora",
    "method_config": {"rank": 4, "alpha": 32, "dropout": 0.1, "targets": ["query", "value"]},
    "training": {"steps": 300, "learning_rate": 0.0002, "eval_every": None},
    "decoding": {"beams": 10, "length_penalty": 0.8},
    "seed": 18,
    "corpus": {
        "name": "microworld",
        "label": "embedded synthetic corpus",
        "train_examples": 2400,
        "dev_examples": 200,
        "test_items": 100,
        "sha256": {"trainset.csv": "a" * 64},
    },
    "counts": {"adapter": 12288, "importance": 0, "head": 0, "trainable": 12288, "total": 1000000},
    "result": {"steps": 300, "tokens_seen": 123456, "final_loss": 1.25, "dev_loss": 1.5},
    "adapter": {"bytes": 50000, "sha256": "b" * 64},
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
    "conditions": {"cpu": "AMD EPYC", "blas": "mkl 2024.2", "threads": 2, "torch_build": "2.13.0+cpu"},
    "tolerances_sha256": "c" * 64,
}


def test_a_record_reads_back_and_its_bytes_depend_on_it_alone(tmp_path):
    record = RunRecord.model_validate(CONTENT)
    first = write_record(tmp_path / "one" / "record.json", record)
    second = write_record(tmp_path / "two" / "record.json", RunRecord.model_validate(copy.deepcopy(CONTENT)))
    assert read_record(first) == record
    assert json.loads(first.read_text()) == CONTENT
    assert first.read_bytes() == second.read_bytes()


def change(path, value):
    content = copy.deepcopy(CONTENT)
    *parents, last = path.split(".")
    target = content
    for name in parents:
        target = target[name]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("schema_version", 2, "schema_version"),
        ("seed", "eighteen", "seed"),
        ("seed", -1, "seed"),
        ("method", None, "method"),
        ("corpus.sha256", {"trainset.csv": "xyz"}, "corpus.sha256"),
        ("corpus.test_items", -1, "corpus.test_items"),
        ("counts.adapter", 1.5, "counts.adapter"),
        ("result.final_loss", "low", "result.final_loss"),
        ("tolerances_sha256", "", "tolerances_sha256"),
        ("conditions.threads", 0, "conditions.threads"),
        # what differs between two identical runs has no place, neither as a field nor inside one
        ("created", "2025-07-01T12:00:00", "created"),
        ("git_revision", "abc", "git_revision"),
        ("result.seconds", 12.5, "result.seconds"),
        ("training.output", "/home/me/run", "training.output"),
        ("method_config.weights", "C:\\models", "method_config.weights"),
        ("corpus.name", "~/corpora/e2e", "corpus.name"),
    ],
)
def test_an_invalid_record_is_refused_with_file_and_field(tmp_path, path, value, named):
    file = tmp_path / "record.json"
    file.write_text(json.dumps(change(path, value)))
    with pytest.raises(DataError) as error:
        read_record(file)
    assert str(file) in str(error.value)
    assert named in str(error.value)


def test_a_corpus_from_the_hub_is_known_by_its_commit(tmp_path):
    commit = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
    sources = {"mrpc-dev.tsv": "a" * 64, "nyu-mll/glue": commit}
    record = RunRecord.model_validate(change("corpus.sha256", sources))
    assert json.loads(write_record(tmp_path / "record.json", record).read_text())["corpus"]["sha256"] == sources
    assert (record.corpus.files, record.corpus.revisions) == ({"mrpc-dev.tsv": "a" * 64}, {"nyu-mll/glue": commit})
    for wrong in ("a" * 41, commit[:-1], commit.upper(), "main"):
        with pytest.raises(ValueError, match=r"corpus\.sha256"):
            RunRecord.model_validate(change("corpus.sha256", {"nyu-mll/glue": wrong}))


def test_numbers_are_finite():
    for path in ("result.final_loss", "training.learning_rate"):
        with pytest.raises(ValueError, match="finite"):
            RunRecord.model_validate(change(path, float("nan")))


def test_a_record_cannot_be_edited():
    record = RunRecord.model_validate(CONTENT)
    with pytest.raises(ValueError, match="frozen"):
        record.seed = 3


def test_a_frozen_run_and_a_run_without_decoding_are_records_too():
    content = change("result", {"steps": 0, "tokens_seen": 0, "final_loss": None, "dev_loss": 2.0})
    content.update(decoding=None, adapter=None)
    assert RunRecord.model_validate(content).result.final_loss is None


def test_the_schema_names_what_is_required_and_forbids_the_rest():
    schema = RunRecord.model_json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == set(CONTENT) - {"schema_version", "backbone_sha256"}
    assert schema["properties"]["schema_version"]["const"] == 1


def test_costs_read_back_by_seed(tmp_path):
    cost = Cost(seconds=1.5, tokens_per_second=10.0, peak_memory_bytes=5, machine={"threads": 2}, git_revision=None)
    path = write_costs(tmp_path / "training.json", {18: cost})
    assert read_costs(path) == {"18": cost}
    path.write_text('{"18": {"seconds": -1}}')
    with pytest.raises(DataError, match=r"seed 18.*seconds"):
        read_costs(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="list"):
        read_costs(path)


VALUES = st.one_of(st.none(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False, width=32))


@given(st.lists(st.tuples(st.integers(0, 10**6), VALUES, VALUES), max_size=6))
def test_curves_read_back_to_nine_digits(tmp_path_factory, values):
    rows = [{"step": s, "loss": a, "homotopy_parameter[2->4]": b} for s, a, b in values]
    path = tmp_path_factory.mktemp("curves") / "curves.csv"
    once = write_curves(path, rows).read_bytes()
    assert write_curves(path, rows).read_bytes() == once
    with path.open(newline="") as handle:
        read = list(csv.DictReader(handle))
    for row, text in zip(rows, read, strict=True):
        for name, value in row.items():
            if value is None:
                assert text[name] == ""
            else:
                assert float(text[name]) == pytest.approx(value, rel=1e-8)


def test_curves_columns_are_the_union_in_order_of_appearance(tmp_path):
    rows = [{"step": 0, "loss": None, "learning_rate": 0.0}, {"step": 10, "loss": 1 / 3, "extra, odd": 2}]
    text = write_curves(tmp_path / "curves.csv", rows).read_text()
    assert text == 'step,loss,learning_rate,"extra, odd"\n0,,0,\n10,0.333333333,,2\n'


def test_conditions_and_versions_describe_this_machine():
    import torch

    conditions = machine_conditions()
    assert isinstance(conditions, Conditions)
    assert conditions.threads == torch.get_num_threads()
    assert machine_conditions(threads=7).threads == 7
    assert torch.__version__ in conditions.torch_build
    assert conditions.cpu
    assert conditions.blas
    found = versions()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert "python" in found
    assert "no-such-package" not in versions(["no-such-package"])


def test_records_are_read_without_torch():
    code = "import sys; from replication import records; records.peak_memory(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_peak_memory_is_in_bytes_and_never_falls():
    before, _ = peak_memory()
    block = bytearray(64 * 2**20)
    during, _ = peak_memory()
    del block
    after, _ = peak_memory()
    assert 10 * 2**20 < before <= during <= after


def test_git_revision_marks_changes_and_is_none_outside_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_revision(tmp_path) is None
    assert git_revision(tmp_path / "missing") is None

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)
        return done.stdout.decode().strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    assert git_revision(tmp_path) is None  # no commit yet
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("")
    assert git_revision(tmp_path) == commit
    (tmp_path / "file").write_text("two")
    assert git_revision(tmp_path) == f"{commit}-dirty"
