import pytest

from replication.metrics.java import find_java


@pytest.fixture(scope="session")
def java():
    """Path of a Java that runs; without one the tests of the official programs are skipped."""
    path = find_java()
    if path is None:
        pytest.skip("not run: no Java runtime on this machine")
    return path


@pytest.fixture
def program(tmp_path):
    """Write an executable shell script that replaces Java and return its path."""

    def write(body, name="java"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return write


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    """An environment in which `find_java` finds nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
