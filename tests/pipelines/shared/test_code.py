"""The hash of a stage's code."""

from __future__ import annotations

import shutil

import pytest

from pipelines.shared.code import code_sha256, stage_code


@pytest.fixture
def root(tmp_path, project_root):
    shutil.copy(project_root / "dvc.yaml", tmp_path)
    for name in ("replication", "pipelines"):
        shutil.copytree(project_root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def found(root, stage="finetune", method="lora") -> str:
    code_sha256.cache_clear()
    return code_sha256(stage, method, root)


def test_the_code_of_a_stage_has_its_own_method_alone(root):
    assert "replication/methods/solo_connection.py" in stage_code("finetune", "solo_connection", root)
    assert "replication/methods/solo_connection.py" not in stage_code("finetune", "lora", root)
    assert all(path.startswith(("pipelines/", "replication/")) for path in stage_code("finetune", "lora", root))


def test_the_hash_follows_every_byte_of_the_code_and_nothing_else(root):
    first = found(root)
    assert found(root) == first
    (root / "replication/methods/solo_connection.py").write_text("# Another method.\n")
    (root / "replication/training/notes.txt").write_text("no code")
    assert found(root) == first
    path = root / "replication/training/loop.py"
    path.write_text(path.read_text() + "# A comment.\n")
    second = found(root)
    path.rename(path.with_name("renamed.py"))
    assert len({first, second, found(root)}) == 3


def test_stages_and_methods_have_hashes_of_their_own(root):
    kinds = [("finetune", "lora"), ("finetune", "frozen"), ("predict", "lora")]
    assert len({found(root, *kind) for kind in kinds}) == len(kinds)
