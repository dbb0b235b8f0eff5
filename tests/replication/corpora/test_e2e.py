import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora import e2e
from replication.corpora.e2e import load_e2e, read_archive
from replication.corpora.schema import Row, group_references, linearise, parse_mr
from replication.errors import DataError

GOOD = "mr,ref\nname[A],A is here.\n"


def archive_of(path: Path, **members: str) -> str:
    """Write a zip like the release's and return its sha256."""
    texts = {name: members.get(split, GOOD) for split, name in e2e.MEMBERS.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in texts.items():
            archive.writestr(f"e2e-dataset/{name}", text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def corpus_cache():
    return {}


@pytest.fixture
def corpus(mirror, corpus_cache):
    if "rows" not in corpus_cache:
        corpus_cache["rows"] = load_e2e(mirror=mirror)
    return corpus_cache["rows"]


@pytest.mark.mirror
def test_row_and_meaning_counts_are_the_releases(corpus):
    assert {split: len(rows) for split, rows in corpus.items()} == {"train": 42061, "dev": 4672, "test": 4693}
    meanings = {split: len(group_references(rows)) for split, rows in corpus.items()}
    assert meanings == {"train": 4862, "dev": 547, "test": 630}
    assert all(row.reference.strip() for rows in corpus.values() for row in rows)


@pytest.mark.mirror
@pytest.mark.parametrize(("split", "name"), [("train", "train"), ("dev", "valid"), ("test", "test")])
def test_linear_form_equals_the_recipes_line_by_line(corpus, mirror, split, name):
    packed = mirror / "e2e_nlg" / "lora_format" / f"{name}.txt.gz"
    if not packed.exists():
        pytest.skip("not run: the mirror has no e2e_nlg/lora_format")
    lines = gzip.decompress(packed.read_bytes()).decode().removesuffix("\n").split("\n")
    assert [linearise(row.mr) for row in corpus[split]] == [line.partition("||")[0] for line in lines]


@pytest.mark.mirror
def test_every_meaning_is_printed_as_it_was_read(corpus):
    assert all(str(parse_mr(row.mr)) == row.mr for rows in corpus.values() for row in rows)


@pytest.mark.mirror
def test_one_changed_or_missing_byte_is_noticed(corpus, mirror, tmp_path):
    data = e2e.fetch(e2e.NAME, e2e.SHA256, e2e.URL, mirror).read_bytes()
    for damaged in (data[:-1], data[: len(data) // 2], data[:100] + bytes([data[100] ^ 1]) + data[101:], b""):
        path = tmp_path / "e2e-dataset.zip"
        path.write_bytes(damaged)
        with pytest.raises(DataError) as caught:
            load_e2e(archive=path)
        assert str(path) in str(caught.value)
        assert hashlib.sha256(damaged).hexdigest() in str(caught.value)
        assert e2e.SHA256 in str(caught.value)
        assert e2e.URL in str(caught.value)


def test_a_small_archive_is_read(tmp_path):
    sha = archive_of(tmp_path / "a.zip", dev='mr,ref\nname[B],"B, it is."\nname[B],Two.\n')
    rows = read_archive(tmp_path / "a.zip", sha256=sha)
    assert list(rows) == ["train", "dev", "test"]
    assert rows["train"] == rows["test"] == [Row("name[A]", "A is here.")], "no split has rows of another"
    assert rows["dev"] == [Row("name[B]", "B, it is."), Row("name[B]", "Two.")]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mr,text\nname[A],x\n", "column ref is missing"),
        ("mr,ref\nname[A],x\nname[A], colour[red],x\n", r"data row 2 \(line 3\): 3 columns"),
        ('mr,ref\nname[A],x\n"name[A], colour[red]",x\n', r"data row 2 \(line 3\): unknown slot 'colour'"),
        ("mr,ref\nname[A],\n", r"data row 1 \(line 2\): the reference is empty"),
    ],
)
def test_a_bad_row_is_named_with_its_file(tmp_path, text, complaint):
    sha = archive_of(tmp_path / "a.zip", test=text)
    with pytest.raises(DataError, match=rf"a\.zip: e2e-dataset/testset_w_refs\.csv.*{complaint}"):
        read_archive(tmp_path / "a.zip", sha256=sha)


def test_a_missing_member_is_named(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("e2e-dataset/trainset.csv", GOOD)
    with pytest.raises(DataError, match=r"holds 0 files named devset\.csv"):
        read_archive(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.zip"):
        load_e2e(archive=tmp_path / "absent.zip")


@given(st.data())
def test_no_damage_to_a_zip_escapes_as_another_error(tmp_path_factory, data):
    """Any cut or changed byte gives DataError or, where zip does not care, rows that are all checked."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in e2e.MEMBERS.values():
            archive.writestr(f"e2e-dataset/{name}", GOOD)
    good = buffer.getvalue()
    place = data.draw(st.integers(0, len(good) - 1))
    cut = data.draw(st.booleans())
    damaged = good[:place] if cut else good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :]
    path = tmp_path_factory.mktemp("damaged") / "a.zip"
    path.write_bytes(damaged)
    rows, message = None, ""
    try:
        rows = read_archive(path, sha256=hashlib.sha256(damaged).hexdigest())
    except DataError as error:
        message = str(error)
    assert str(path) in message or rows == {split: [Row("name[A]", "A is here.")] for split in e2e.MEMBERS}
