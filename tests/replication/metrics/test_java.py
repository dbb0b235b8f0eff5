from pathlib import Path

import pytest

from replication.errors import ReplicationError
from replication.metrics.java import find_java, java_environment, official_program, resolve_java


def test_java_home_comes_before_the_path(program, tmp_path):
    home = program("exit 0")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "java").write_text("#!/bin/sh\nexit 0\n")
    (elsewhere / "java").chmod(0o755)
    assert find_java({"JAVA_HOME": str(tmp_path), "PATH": str(elsewhere)}) == home
    assert find_java({"PATH": str(elsewhere)}) == str(elsewhere / "java")
    assert find_java({"JAVA_HOME": str(tmp_path / "gone"), "PATH": str(elsewhere)}) == str(elsewhere / "java")


def test_no_java(tmp_path):
    assert find_java({"PATH": str(tmp_path)}) is None
    assert find_java({}) is None


def test_a_java_that_does_not_start_is_no_java(program):
    stub = program("echo no runtime present >&2; exit 1")
    assert find_java({"PATH": str(Path(stub).parent)}) is None
    with pytest.raises(ReplicationError, match="does not start"):
        resolve_java(stub)


def test_choice_of_java(program, no_java):
    assert resolve_java(None) is None
    assert resolve_java("auto") is None
    working = program("exit 0", name="another-java")
    assert resolve_java(working) == working


def test_locale_is_fixed_for_java(monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SOME_SETTING", "kept")
    assert java_environment()["LC_ALL"] == "C"
    assert java_environment()["SOME_SETTING"] == "kept"


def test_official_programs_are_found_or_named():
    assert official_program("meteor", "meteor-1.5.jar").is_file()
    with pytest.raises(ReplicationError, match=r"meteor/other\.jar"):
        official_program("meteor", "other.jar")
