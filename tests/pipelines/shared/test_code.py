"""Which code a result is said to be made by: all of a stage's own, and none of another method's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.shared import code
from replication.fileio import write_json, write_text


@pytest.fixture
def project(project_root, tmp_path):
    """The project's code in a folder where a test may change it."""
    for name in ("pipelines", "replication"):
        shutil.copytree(project_root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(project_root / "dvc.yaml", tmp_path)
    return tmp_path


STAGES = [("prepare", ""), ("finetune", "lora"), ("finetune", "solo_connection"), ("score", "")]
LORA, SOLO = STAGES[1:3]


def hashes(root: Path) -> dict[tuple[str, str], str]:
    code.code_sha256.cache_clear()
    return {key: code.code_sha256(*key, root) for key in STAGES}


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("replication/methods/solo_connection.py", {SOLO}),
        ("replication/methods/lora.py", {LORA, SOLO}),  # Solo Connection can build on LoRA
        ("replication/methods/random_lora.py", set()),
        ("replication/training/loop.py", {LORA, SOLO, ("prepare", "")}),  # the forms of task know its settings
        ("replication/fileio.py", set(STAGES)),
        ("pipelines/prepare.py", {("prepare", "")}),
        ("pipelines/score.py", {("score", "")}),
        ("replication/training/notes.txt", set()),
    ],
)
def test_a_change_of_code_changes_the_stages_that_run_it_and_no_other(project, file, changes):
    before = hashes(project)
    assert len(set(before.values())) == len(before)
    path = project / file
    write_text(path, (path.read_text() if path.is_file() else "") + "\n# changed\n")
    after = hashes(project)
    assert {key for key in STAGES if before[key] != after[key]} == changes


def test_a_new_or_renamed_file_counts(project):
    before = hashes(project)
    path = project / "replication/training/loop.py"
    path.rename(path.with_name("training_loop.py"))
    renamed = hashes(project)
    assert renamed[LORA] != before[LORA]
    write_text(project / "replication/training/new.py", "")
    assert hashes(project)[LORA] != renamed[LORA]


def test_code_accepted_as_equal_is_said_to_be_the_earlier_one(tmp_path):
    now = code.made_by(str(tmp_path / "params.yaml"), "score")
    assert now == code.code_sha256("score")
    write_json(tmp_path / code.ACCEPTED, {now: "earlier", "another": "other"})
    assert code.made_by(str(tmp_path / "params.yaml"), "score") == "earlier"
    assert code.made_by(str(tmp_path / "params.yaml"), "prepare") == code.code_sha256("prepare")
