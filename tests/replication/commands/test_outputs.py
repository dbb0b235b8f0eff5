"""A file that cannot be written is refused, with the option, before any work."""

import os

import pytest

from replication.commands.outputs import check_output
from replication.errors import ConfigError


def test_a_file_in_a_folder_that_may_be_made_is_fine(tmp_path):
    (tmp_path / "old.jsonl").write_text("")
    for name in ("new.jsonl", "old.jsonl", "a/b/new.jsonl"):
        check_output("--output", tmp_path / name)
    check_output("--output", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.jsonl"], "nothing is made"


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--output .*: that is a folder; name a file in it"):
        check_output("--output", tmp_path)
    with pytest.raises(ConfigError, match=r"--curve .*x: .*file is a file, not a folder"):
        check_output("--curve", tmp_path / "file" / "x")


def test_a_folder_without_the_right_to_write_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match="no right to write into"):
        check_output("--output", tmp_path / "x")
