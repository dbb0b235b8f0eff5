from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError
from replication.fileio import (
    LARGEST_YAML,
    PARTIAL,
    REPLACED,
    YamlLoader,
    read_json,
    read_jsonl,
    remove_leftovers,
    replaced_directory,
    sha256_bytes,
    sha256_file,
    sha256_json,
    system_fault,
    write_bytes,
    write_json,
    write_jsonl,
    write_text,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(rows=st.lists(json_values, max_size=4))
def test_jsonl_round_trip(tmp_path, rows):
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(path) == rows


@given(value=st.dictionaries(st.text(), json_values, max_size=4))
def test_json_hash_does_not_depend_on_key_order(value):
    turned = dict(reversed(list(value.items())))
    assert sha256_json(value) == sha256_json(turned)
    assert sha256_json(value) != sha256_json({"wrapped": value})


@given(data=st.binary(max_size=64))
def test_written_bytes_hash_as_given(tmp_path, data):
    assert sha256_file(write_bytes(tmp_path / "a" / "b.bin", data)) == sha256_bytes(data)


@pytest.mark.parametrize("read", [read_json, read_jsonl])
def test_a_key_given_twice_is_named(tmp_path, read):
    path = write_text(tmp_path / "a.json", '{"a": {"seed": 1, "b": 2, "seed": 3}}')
    with pytest.raises(DataError, match="key 'seed' is given twice"):
        read(path)


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path):
    path = write_json(tmp_path / "value.json", {"old": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"new": float("nan")})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "far/target", tmp_path / "link"
    link.symlink_to(target)
    for text in ("made", "replaced"):
        assert write_text(link, text) == link
        assert link.is_symlink()
        assert target.read_text() == text


def test_devices_and_pipes_are_written_to(tmp_path):
    write_text("/dev/null", "gone")
    assert not Path("/dev/null").is_file()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "read")
    assert os.read(reader, 9) == b"read"
    assert pipe.is_fifo()
    os.close(reader)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no folder in memory here")
def test_a_folder_in_memory_holds_files_as_any(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = write_text(Path(folder) / "deep/a.json", "long text")
        inode = path.stat().st_ino
        assert write_text(path, "x").read_text() == "x"
        assert path.stat().st_ino != inode, "replaced in one step, not written into"


def test_a_byte_order_mark_is_no_part_of_a_value(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n', encoding="utf-8-sig")
    assert read_jsonl(path) == [read_json(path)] == [{"a": 1}]


def test_a_failing_directory_leaves_the_old_one_and_no_other(tmp_path):
    target = tmp_path / "out"
    with replaced_directory(target) as folder:
        (folder / "old").write_text("1")

    def fail_half_way() -> None:
        with replaced_directory(target) as folder:
            (folder / "new").write_text("2")
            raise RuntimeError("killed half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert [entry.name for entry in target.iterdir()] == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_directory_is_replaced_whole(tmp_path):
    target = tmp_path / "out"
    for name in ("first", "second"):
        with replaced_directory(target) as folder:
            (folder / name).write_text(name)
    assert [entry.name for entry in target.iterdir()] == ["second"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "no permission"), (errno.EACCES, "no permission")],
)
def test_a_full_or_closed_disk_is_explained(number, words):
    text = system_fault(OSError(number, "as the system says", "runs/quick"))
    assert text is not None
    assert text.startswith("runs/quick: ")
    assert words in text
    assert system_fault(OSError(errno.EPIPE, "Broken pipe")) is None


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path, words in ((tmp_path / "file" / "new", "way of a folder"), (tmp_path / "folder", "is a folder")):
        with pytest.raises(OSError) as caught:
            write_text(path, "text")
        assert words in str(system_fault(caught.value))
        assert str(path).startswith(str(system_fault(caught.value)).partition(":")[0])


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    write_text(tmp_path / "out", "mine")
    with pytest.raises(OSError) as caught, replaced_directory(tmp_path / "out"):
        pytest.fail("the work would be lost")
    assert system_fault(caught.value) == f"{tmp_path / 'out'}: a file is in the way of a folder; move it away"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out", "mine")]


def test_errors_name_file_and_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 3"):
        read_jsonl(path)
    with pytest.raises(DataError, match=r"absent\.json: no such file"):
        read_json(tmp_path / "absent.json")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        read_jsonl(path)


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    def killed(path):
        """As after SIGKILL: nobody cleans up."""
        with replaced_directory(path) as aside:
            write_text(aside / "file", "half")
            shutil.copytree(aside, tmp_path / "kept")
        shutil.rmtree(path)
        (tmp_path / "kept").rename(aside)
        return aside

    stays = write_text(tmp_path / "run/.hidden/file", "whole")
    left = [killed(tmp_path / "run/adapter"), killed(tmp_path / "run/adapter.2")]
    write_text(tmp_path / "run/.adapter.replaced/file", "old")
    write_text(tmp_path / "run/.adapter.x.partial", "half a file")
    remove_leftovers(tmp_path / "run", "adapter")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".hidden", left[1].name}
    remove_leftovers(tmp_path)
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [stays]


def test_git_and_dvc_ignore_what_is_being_written(project_root):
    for name in (".gitignore", ".dvcignore"):
        lines = (project_root / name).read_text().splitlines()
        assert {f".*{PARTIAL}", f".*{REPLACED}"} <= set(lines)


@pytest.fixture
def little_space():
    """A disk that is full after 20,000 bytes of a file."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def with_safetensors(folder):
    import torch
    from safetensors.torch import save_file

    with replaced_directory(folder) as aside:
        save_file({"a": torch.zeros(9000)}, aside / "model.safetensors")


@pytest.mark.parametrize("write", [lambda path: write_bytes(path, bytes(30_000)), with_safetensors])
def test_a_full_disk_is_told_with_the_path_and_leaves_nothing(tmp_path, little_space, write):
    with pytest.raises(OSError) as caught:
        write(tmp_path / "made")
    assert system_fault(caught.value) == (
        f"{tmp_path / 'made'}: there is no space left; free some and run the same command again"
    )
    assert list(tmp_path.iterdir()) == []


# --- YAML


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc&*", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value=VALUES)
def test_what_yaml_writes_is_read_back_with_its_aliases(value):
    assert yaml.load(yaml.dump([value, value]), YamlLoader) == [value, value]


def test_aliases_that_write_out_without_end_are_refused():
    lines = [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(yaml.YAMLError, match=f"more than {LARGEST_YAML:,} values"):
        yaml.load("\n".join(["a: &a [x]", *lines]), YamlLoader)


@pytest.mark.parametrize("text", ["a: &a [*a]", "&a {b: *a}", "? &a [*a]\n: 1"])
def test_an_alias_of_itself_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="name themselves"):
        yaml.load(text, YamlLoader)


def test_a_tag_makes_no_object():
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
        yaml.load("!!python/object/apply:os.system [id]", YamlLoader)
