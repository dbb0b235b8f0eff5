"""Hostile bytes for the readers: an answer or one ReplicationError, and nothing half written."""

import gzip
import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.load.paper_files import read_exact_yaml
from analysis.load.runs import read_curves
from pipelines.shared.settings import load_settings
from replication.backbones import package_archives
from replication.corpora import e2e, sourcefiles
from replication.corpora.schema import read_csv
from replication.corpora.summaries import parse_cnn_dailymail
from replication.errors import DataError, ReplicationError, printable
from replication.fileio import read_json, read_jsonl, sha256_bytes
from replication.metrics.layouts import read
from replication.predictions import full_rows
from replication.terminal import console

HOSTILE = (
    b'{"id": "1", "prediction": "a", "prediction": "b"}',
    b'article,"highlights',
    b"step,loss,dev_loss,learning_rate\n1,2,3,4,5\nx,1,1,1,1\n",
    b"a: &a [*a]\n",
    b'"a\nb"\x0b,c\n1\n',
    b"[" * 2_000,
    b"9" * 5_000,
    b'{"a": "\\ud800"}',
    b"\xff\xfe",
    b"\x00",
    b"a,b\rc,d\n",
    b"",
    b'"' + b"x" * 300_000,
    b"prediction\n" + b"x" * 300_000 + b',"',
)


def _answers(reader, path):
    try:
        reader(path)
    except ReplicationError as error:
        said = str(error)
        assert (str(path) in said, len(said.splitlines())) == (True, 1)


READERS = {
    "curves": read_curves,
    "summaries": lambda path: list(parse_cnn_dailymail(str(path), path.read_text(encoding="utf-8", errors="replace"))),
    "paper": read_exact_yaml,
    "params": load_settings,
    "json": read_json,
    "jsonl": read_jsonl,
    "predictions": full_rows,
    "layouts": lambda path: read(path, {"prediction", "id"}, bare=("id", "prediction")),
    "csv": read_csv,
}


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("suffix", ["json", "csv", "txt"])
def test_a_hostile_file_is_refused_in_one_line(tmp_path, reader, data, suffix):
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(data)
    _answers(READERS[reader], path)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(sorted(READERS)))
def test_any_bytes(tmp_path_factory, data, reader):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    _answers(READERS[reader], path)


def _zip(path, name, content, link=False):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(name)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = (0o120777 if link else 0o100644) << 16
        archive.writestr(entry, content)
    return path


def test_traversal_and_links_stay_in_the_folder(tmp_path):
    archive, folder = _zip(tmp_path / "a.whl", "../../outside", b"x"), tmp_path / "into"
    folder.mkdir()
    assert package_archives.extract_member(archive, "../../outside", folder) == folder / "outside"
    linked = package_archives.extract_member(_zip(tmp_path / "b.whl", "p/l", b"/etc/passwd", link=True), "p/l", folder)
    assert not linked.is_symlink()
    assert linked.read_bytes() == b"/etc/passwd"


def test_a_bomb_and_a_damaged_member_leave_nothing(tmp_path, monkeypatch):
    archive = _zip(tmp_path / "a.whl", "p/m", b"0" * 100_000)
    monkeypatch.setattr(package_archives, "MEMBER_BYTES", 99_999)
    with pytest.raises(DataError, match="unpacks to 100000 bytes, more than 99999"):
        package_archives.extract_member(archive, "p/m", tmp_path)
    monkeypatch.undo()
    data = bytearray(archive.read_bytes())
    data[40:60] = b"\xff" * 20
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.whl: damaged"):
        package_archives.extract_member(archive, "p/m", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.whl"]


def test_packed_corpora_stop_at_their_size(tmp_path, monkeypatch):
    for data in (gzip.compress(b"0" * 1_000_000), _zip(io.BytesIO(), "a", b"0" * 1_000_000).getvalue()):
        (tmp_path / "a").write_bytes(data)
        assert len(sourcefiles._unpacked(tmp_path / "a", 10)) == 11
    monkeypatch.setattr(e2e, "MEMBER_BYTES", 9)
    data = _zip(io.BytesIO(), "trainset.csv", b"0" * 10).getvalue()
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DataError, match=r"trainset\.csv unpacks to more than 9 bytes"):
        e2e.read_archive(tmp_path / "a", sha256_bytes(data))


@pytest.mark.parametrize("gold", ["../../../etc/passwd", "/etc/passwd", "a\0b"])
def test_a_gold_file_outside_the_project_is_refused(tmp_path, gold):
    folder = tmp_path / "runs/quick/a/predictions"
    folder.mkdir(parents=True)
    (folder / "seed-1.jsonl").write_text('{"id": "1", "prediction": 1}\n')
    (folder / "decoding.json").write_text(json.dumps({"gold": gold, "gold_sha256": "0"}))
    with pytest.raises(DataError, match="field 'gold'"):
        full_rows(folder / "seed-1.jsonl")


@given(st.text())
def test_no_text_steers_a_terminal(text):
    shown = printable(text)
    assert len(shown) == len(text)
    assert not {chr(code) for code in (*range(9), 11, 12, 13, 27, 127, 155, 0x202E)} & set(shown)


def test_the_console_prints_no_control_characters():
    out = console()
    with out.capture() as captured:
        out.print("a\x1b]0;title\x07b", markup=False)
    assert "\x1b]0" not in captured.get()
