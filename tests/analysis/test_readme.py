from __future__ import annotations

import pytest

from analysis.readme import main, with_tables
from replication.errors import DataError


def test_the_readme_shows_the_committed_runs(project_root, monkeypatch):
    monkeypatch.chdir(project_root)
    text = (project_root / "README.md").read_text(encoding="utf-8")
    assert "<!-- table:quick -->" in text
    assert "<!-- table:cpu -->" in text
    assert main(["--check"]) == 0, "run `python -m analysis.readme`"


def test_only_the_marked_part_changes(project_root, monkeypatch):
    monkeypatch.chdir(project_root)
    text = "before\n<!-- table:quick -->\nold\n<!-- /table:quick -->\nafter\n"
    new = with_tables(text)
    assert new.startswith("before\n<!-- table:quick -->\n")
    assert new.endswith("<!-- /table:quick -->\nafter\n")
    assert "old" not in new
    assert "BLEU" in new
    assert with_tables(new) == new


def test_a_profile_without_runs_is_named(tmp_path):
    with pytest.raises(DataError, match="runs for the table marked 'quick'"):
        with_tables("<!-- table:quick -->\n<!-- /table:quick -->", tmp_path)
