import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora import fetch as module
from replication.corpora.fetch import cached_path, fetch, find_in_mirror, find_local, near_misses
from replication.errors import ConfigError, DataError

DATA = b"a corpus of forty-two bytes, more or less."
SHA = hashlib.sha256(DATA).hexdigest()
NOWHERE = "file:///nowhere/corpus.zip"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "WAITS", (0.0, 0.0, 0.0))


@pytest.fixture
def home(tmp_path):
    """The file at its home, under a file: address."""
    path = tmp_path / "home" / "corpus.zip"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


def leftovers(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").glob("*"))


def test_downloads_verifies_and_keeps(tmp_path, home):
    seen = []
    found = fetch("corpus.zip", SHA, home.as_uri(), progress=lambda done, total: seen.append((done, total)))
    assert found.read_bytes() == DATA
    assert found == cached_path("corpus.zip", SHA)
    assert seen[-1] == (len(DATA), len(DATA))
    home.unlink()
    assert fetch("corpus.zip", SHA, home.as_uri()) == found
    assert leftovers(tmp_path) == [found.name]


def test_the_mirror_is_searched_by_content_and_first(tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    (mirror / "deep" / "er").mkdir(parents=True)
    (mirror / "deep" / "er" / "another name").write_bytes(DATA)
    (mirror / "corpus.zip").write_bytes(b"x" * len(DATA))
    monkeypatch.setenv("REPLICATION_MIRROR", str(mirror))
    expected = mirror / "deep" / "er" / "another name"
    assert find_in_mirror(SHA) == expected
    assert find_in_mirror(SHA, size=len(DATA)) == expected
    assert find_in_mirror(SHA, size=len(DATA) + 1) is None
    assert fetch("corpus.zip", SHA, NOWHERE) == expected
    assert leftovers(tmp_path) == []


def test_the_manifest_is_only_a_hint(tmp_path):
    (tmp_path / "liar").write_bytes(b"not it")
    (tmp_path / "right").write_bytes(DATA)
    entries = [
        {"file": "liar", "sha256": SHA},
        {"file": "gone", "sha256": SHA},
        {"file": 3, "sha256": SHA},
        7,
    ]
    (tmp_path / "MANIFEST.json").write_text(json.dumps(entries))
    assert find_in_mirror(SHA, tmp_path) == tmp_path / "right"
    (tmp_path / "right").unlink()
    assert find_in_mirror(SHA, tmp_path) is None
    (tmp_path / "MANIFEST.json").write_text("{not json")
    assert find_in_mirror(SHA, tmp_path) is None


def test_a_file_that_changes_is_read_again(tmp_path):
    path = tmp_path / "mirror" / "corpus"
    path.parent.mkdir()
    path.write_bytes(DATA)
    assert find_in_mirror(SHA, path.parent) == path
    path.write_bytes(DATA + b"!")
    assert find_in_mirror(SHA, path.parent) is None


def test_finding_never_asks_the_network(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("asked the network")

    monkeypatch.setattr(module.urllib.request, "urlopen", refuse)
    assert find_in_mirror(SHA) is None
    assert find_in_mirror(SHA, tmp_path / "absent") is None
    assert find_local("corpus.zip", SHA) is None


def test_wrong_bytes_at_home_are_not_kept(tmp_path, home):
    home.write_bytes(DATA[:-1])
    wrong = hashlib.sha256(DATA[:-1]).hexdigest()
    with pytest.raises(DataError) as caught:
        fetch("corpus.zip", SHA, home.as_uri())
    message = str(caught.value)
    assert home.as_uri() in message
    assert wrong in message
    assert SHA in message
    assert "REPLICATION_MIRROR" in message
    assert leftovers(tmp_path) == []


def test_a_file_longer_than_announced_is_not_kept(tmp_path, home):
    with pytest.raises(DataError, match="more than the 5 bytes"):
        fetch("corpus.zip", SHA, home.as_uri(), size=5)
    assert leftovers(tmp_path) == []


def test_a_stop_by_the_user_leaves_nothing(tmp_path, home):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("corpus.zip", SHA, home.as_uri(), progress=stop)
    assert leftovers(tmp_path) == []


def test_failure_names_the_damaged_copies_and_a_wrong_mirror(tmp_path, monkeypatch):
    cached = cached_path("corpus.zip", SHA)
    cached.parent.mkdir()
    cached.write_bytes(b"damaged")
    monkeypatch.setenv("REPLICATION_MIRROR", str(tmp_path / "absent"))
    with pytest.raises(DataError) as caught:
        fetch("corpus.zip", SHA, NOWHERE)
    message = str(caught.value)
    assert NOWHERE in message
    assert f"{cached} is not the file" in message
    assert hashlib.sha256(b"damaged").hexdigest() in message
    assert f"{tmp_path / 'absent'}, which is not a folder" in message


def test_failure_names_a_damaged_file_of_the_mirror(tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "corpus.zip").write_bytes(DATA[:10])
    with pytest.raises(DataError, match=r"mirror/corpus\.zip is not the file"):
        fetch("corpus.zip", SHA, NOWHERE, mirror=tmp_path / "mirror")


def test_a_damaged_cached_copy_is_replaced(home):
    cached = cached_path("corpus.zip", SHA)
    cached.parent.mkdir()
    cached.write_bytes(b"damaged")
    assert fetch("corpus.zip", SHA, home.as_uri()).read_bytes() == DATA


class Faulty(BaseHTTPRequestHandler):
    """Plays the first fault of `faults` that is left, and then serves DATA, parts of it too where `resumes`."""

    faults: list[str]
    resumes = True
    asked: list[str | None]

    def do_GET(self):
        self.asked.append(self.headers.get("Range"))
        fault = self.faults.pop(0) if self.faults else ""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault == "redirect":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.resumes else 0
        data = DATA[::-1] if fault == "other bytes" else DATA
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        lengths = {"length -5": "-5", "length word": "all", "length \xb2": "\xb2", "length huge": "9" * 5000}
        self.send_header("Content-Length", lengths.get(fault, str(len(DATA) - start)))
        self.end_headers()
        self.wfile.write(data[start : start + 7] if fault in ("cut", "stall") else data[start:])
        if fault == "stall":
            self.wfile.flush()
            stalled.wait(10)

    def log_message(self, *args):
        pass


stalled = threading.Event()


@pytest.fixture
def server(monkeypatch):
    """Its address; `Faulty.faults` says what it does next."""
    monkeypatch.setattr(Faulty, "faults", [], raising=False)
    monkeypatch.setattr(Faulty, "asked", [], raising=False)
    stalled.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Faulty) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/corpus.zip"
        stalled.set()
        http.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("faults", "complaint", "requests"),
    [(["cut"] * 4, "cut off after 28 of 42", 4), (["404"], "404", 1), (["503"] * 9, "503", 4)],
)
def test_faults_that_stay_are_explained_after_a_bounded_number_of_attempts(
    tmp_path, server, faults, complaint, requests
):
    Faulty.faults = list(faults)
    with pytest.raises(DataError, match=complaint) as caught:
        fetch("corpus.zip", SHA, server)
    assert server in str(caught.value)
    assert len(Faulty.asked) == requests
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("resumes", [True, False])
@pytest.mark.parametrize(
    "faults", [["503"], ["cut"], ["cut", "cut"], ["stall"], ["500", "cut", "429"], ["redirect"], ["redirect", "cut"]]
)
def test_faults_that_pass_are_got_over(tmp_path, server, faults, resumes, monkeypatch, capsys):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2 if "stall" in faults else 30.0)
    monkeypatch.setattr(Faulty, "resumes", resumes)
    Faulty.faults = list(faults)
    found = fetch("corpus.zip", SHA, server)
    assert found.read_bytes() == DATA
    assert leftovers(tmp_path) == [found.name]
    assert capsys.readouterr().err.count("trying again") == len([fault for fault in faults if fault != "redirect"])
    if "cut" in faults or "stall" in faults:
        assert any(asked and asked.startswith("bytes=7") for asked in Faulty.asked)


def test_a_file_that_changes_between_two_attempts_is_read_from_the_start(server):
    Faulty.faults = ["cut", "other bytes"]
    assert fetch("corpus.zip", SHA, server).read_bytes() == DATA
    assert Faulty.asked == [None, "bytes=7-", None]


@pytest.mark.parametrize("length", ["-5", "word", "\xb2", "huge"])
def test_a_length_that_is_none_is_not_believed(tmp_path, server, length):
    Faulty.faults = [f"length {length}"]
    assert fetch("corpus.zip", SHA, server).read_bytes() == DATA


@pytest.mark.parametrize("sha", ["", "abc", SHA.upper(), SHA + "0"])
def test_an_impossible_sha_is_refused(sha):
    with pytest.raises(ConfigError, match="64 lower-case"):
        fetch("corpus.zip", sha, NOWHERE)


@pytest.mark.parametrize("name", ["", "a/b", "../corpus.zip"])
def test_a_name_with_folders_is_refused(name):
    with pytest.raises(ConfigError, match="plain file name"):
        fetch(name, SHA, NOWHERE)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_only_equal_bytes_are_ever_found(tmp_path_factory, wanted, present):
    folder = tmp_path_factory.mktemp("mirror")
    (folder / "file").write_bytes(present)
    found = find_in_mirror(hashlib.sha256(wanted).hexdigest(), folder)
    assert (found is not None) == (wanted == present)


def test_a_pipe_in_the_mirror_is_not_waited_for(tmp_path):
    for name in ("MANIFEST.json", "x.csv"):
        os.mkfifo(tmp_path / name)
    assert find_in_mirror("0" * 64, tmp_path) is None
    assert list(near_misses("x.csv", "0" * 64, tmp_path, tmp_path / "absent")) == [
        f"{tmp_path / 'x.csv'} is no plain file; remove it."
    ]
