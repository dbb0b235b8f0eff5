import gzip
import hashlib
import io
import zipfile

import pytest

from replication.corpora.sourcefiles import SourceFile, parse_json, parse_jsonl, read_text
from replication.errors import DataError

PLAIN = 'a\tthe "quoted" café\n'.encode()


def sha(data):
    return hashlib.sha256(data).hexdigest()


def zipped(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, data in enumerate(members):
            archive.writestr(f"{number}.txt", data)
    return buffer.getvalue()


def source(packed, plain=PLAIN, url=None):
    return SourceFile("toy.tsv", sha(plain), len(plain), sha(packed), len(packed), url)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mirror" / "deep").mkdir(parents=True)
    return tmp_path / "mirror"


@pytest.mark.parametrize("kept", ["gzip", "zip", "plain"])
def test_packed_or_plain_the_same_text_comes_out(folder, kept):
    packed = {"gzip": gzip.compress(PLAIN), "zip": zipped(PLAIN), "plain": PLAIN}[kept]
    (folder / "deep" / "any name").write_bytes(packed)
    file = source(gzip.compress(PLAIN, mtime=1) if kept == "plain" else packed)
    place, text = read_text(file, folder)
    assert text == PLAIN.decode()
    assert place == str(folder / "deep" / "any name")


def test_the_plain_file_is_downloaded_from_its_home(folder, tmp_path):
    home = tmp_path / "home.tsv"
    home.write_bytes(PLAIN)
    assert read_text(source(b"packed", url=home.as_uri()), folder)[1] == PLAIN.decode()
    home.unlink()
    assert read_text(source(b"packed", url=home.as_uri()), folder)[1] == PLAIN.decode()


def test_without_a_home_the_error_tells_the_hashes_and_the_cure(folder):
    (folder / "toy.tsv").write_bytes(PLAIN + b"edited")
    file = source(b"packed")
    with pytest.raises(DataError) as caught:
        read_text(file, folder)
    for part in ("toy.tsv", file.sha256, file.packed_sha256, "REPLICATION_MIRROR"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("packed", "complaint"),
    [
        (gzip.compress(PLAIN + b"more"), "unpacks to bytes"),
        (gzip.compress(PLAIN)[:-6], "cannot be unpacked"),
        (zipped(PLAIN, PLAIN), "holds 2 files"),
        (zipped(PLAIN)[:-10], "cannot be unpacked"),
    ],
    ids=["other text", "cut short", "two files", "no archive"],
)
def test_a_packed_file_that_is_not_the_plain_one_is_refused(folder, packed, complaint):
    (folder / "packed").write_bytes(packed)
    with pytest.raises(DataError, match=complaint) as caught:
        read_text(source(packed), folder)
    assert str(folder / "packed") in str(caught.value)


def test_a_byte_order_mark_goes_and_other_bytes_stay(folder):
    data = b"\xef\xbb\xbfone\r\ntwo"
    (folder / "toy").write_bytes(data)
    assert read_text(source(b"packed", data), folder)[1] == "one\r\ntwo"


def test_bytes_that_are_not_utf8_name_the_line(folder):
    data = b"one\ntwo \xff\n"
    (folder / "toy").write_bytes(data)
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        read_text(source(b"packed", data), folder)


def test_json_errors_name_the_line():
    with pytest.raises(DataError, match=r"^there, line 2: not valid JSON"):
        parse_json("there", "[1,\n 2,, 3]")
    assert list(parse_jsonl("there", '{"a": 1}\n\n[2]\n')) == [(1, {"a": 1}), (3, [2])]
    with pytest.raises(DataError, match=r"^there, line 3: not valid JSON"):
        list(parse_jsonl("there", "1\n2\n{\n"))
