import gzip
import hashlib
from dataclasses import replace

import datasets
import pytest

from replication.corpora import source_table
from replication.corpora.assembly import RealCorpus
from replication.corpora.hub import HubCorpus
from replication.corpora.sourcefiles import SourceFile
from replication.corpora.task_corpus import CorpusCard
from replication.errors import DataError

CARD = CorpusCard("toy", "Toy", "classification", "rte", ("no", "yes"), "dev", True, "none", "")
COMMIT = "a" * 40
TEXTS = {"train": b"one\ntwo\n", "dev": b"three\n"}


def parse(place, text):
    return ({"text": line, "pair": None, "label": 1} for line in text.splitlines())


def hub_row(part, raw):
    return {"text": f"{part}: {raw['text']}", "pair": None, "label": raw["label"]}


TOY = RealCorpus(
    card=CARD,
    counts={"train": 2, "dev": 1},
    files={split: (f"toy-{split}.txt", parse) for split in TEXTS},
    hub=HubCorpus("someone/toy", COMMIT, None, {"train": ("train",), "dev": ("validation",)}),
    hub_row=hub_row,
    fallback="toy_subset",
)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty mirror; the table names two small files that cannot be downloaded."""
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mirror").mkdir()
    for split in TEXTS:
        set_file(monkeypatch, split)
    return tmp_path / "mirror"


def set_file(monkeypatch, split, data=None, url=None):
    data = TEXTS[split] if data is None else data
    packed = gzip.compress(data, mtime=0)
    plain, kept = (hashlib.sha256(value).hexdigest() for value in (data, packed))
    file = SourceFile(f"toy-{split}.txt", plain, len(data), kept, len(packed), url)
    monkeypatch.setitem(source_table.FILES, file.name, file)


def keep(folder, split, data=None):
    (folder / split).write_bytes(gzip.compress(TEXTS[split] if data is None else data, mtime=0))


def serve(monkeypatch, **splits):
    asked = []

    def load_dataset(path, name, *, split, revision):
        asked.append(split)
        return datasets.Dataset.from_list(splits[split])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def rows(*texts):
    return [{"text": text, "label": 0} for text in texts]


def test_files_come_first_and_rows_without_an_id_are_numbered(monkeypatch, folder):
    asked = serve(monkeypatch)
    for split in TEXTS:
        keep(folder, split)
    corpus = TOY.load(folder)
    assert asked == []
    assert corpus.splits["train"] == [
        {"id": "train-0", "text": "one", "pair": None, "label": 1},
        {"id": "train-1", "text": "two", "pair": None, "label": 1},
    ]
    assert corpus.sha256 == {f"toy-{split}.txt": hashlib.sha256(TEXTS[split]).hexdigest() for split in TEXTS}
    monkeypatch.setenv("REPLICATION_MIRROR", str(folder))
    assert TOY.load() == corpus


def test_a_split_without_its_file_comes_from_the_hub(monkeypatch, folder):
    asked = serve(monkeypatch, train=rows("uno", "due"))
    keep(folder, "dev")
    corpus = TOY.load(folder)
    assert asked == ["train"]
    assert [row["text"] for row in corpus.splits["train"]] == ["train: uno", "train: due"]
    assert corpus.splits["dev"][0]["text"] == "three"
    assert corpus.sha256 == {"someone/toy": COMMIT, "toy-dev.txt": hashlib.sha256(TEXTS["dev"]).hexdigest()}


def test_a_file_with_a_home_is_downloaded_before_the_hub_is_asked(monkeypatch, folder, tmp_path):
    asked = serve(monkeypatch, validation=rows("drei"))
    keep(folder, "train")
    home = tmp_path / "home.txt"
    home.write_bytes(TEXTS["dev"])
    set_file(monkeypatch, "dev", url=home.as_uri())
    assert TOY.load(folder).splits["dev"][0]["text"] == "three"
    assert asked == []
    set_file(monkeypatch, "dev", b"never kept\n", url=(tmp_path / "nowhere").as_uri())
    assert TOY.load(folder).splits["dev"][0]["text"] == "validation: drei"


def test_where_nothing_answers_the_error_tells_all_that_was_tried_and_the_corpus_that_needs_no_hub(
    monkeypatch, folder, tmp_path
):
    set_file(monkeypatch, "train", url=(tmp_path / "nowhere").as_uri())
    with pytest.raises(DataError) as caught:
        TOY.load(folder)
    for part in ("toy: someone/toy", COMMIT, "nowhere: download failed", "REPLICATION_MIRROR", "toy_subset is read"):
        assert part in str(caught.value)


@pytest.mark.parametrize("origin", ["file", "hub"])
def test_a_number_of_rows_that_is_not_the_splits_is_refused(monkeypatch, folder, origin):
    if origin == "file":
        set_file(monkeypatch, "train", b"one\n")
        keep(folder, "train", b"one\n")
        place = str(folder / "train")
    else:
        serve(monkeypatch, train=rows("uno"))
        place = f"someone/toy at revision {COMMIT}"
    with pytest.raises(DataError, match="1 rows for split 'train' of toy, which has 2") as caught:
        TOY.load(folder)
    assert str(caught.value).startswith(place)


def test_a_row_that_cannot_be_used_names_its_origin(monkeypatch, folder):
    data = b"one\n \n"
    set_file(monkeypatch, "train", data)
    keep(folder, "train", data)
    keep(folder, "dev")
    with pytest.raises(DataError, match=r"split 'train' of toy, row 2 .*'text'") as caught:
        TOY.load(folder)
    assert str(caught.value).startswith(str(folder / "train"))


def test_a_column_the_hub_no_longer_has_is_named(monkeypatch, folder):
    serve(monkeypatch, train=[{"sentence": "uno", "label": 1}])
    with pytest.raises(DataError, match=r"split 'train', row 1: KeyError 'text'; the columns are sentence, label"):
        TOY.load(folder)


def test_a_corpus_read_from_files_alone_asks_no_hub(monkeypatch, folder):
    asked = serve(monkeypatch, train=rows("uno", "due"))
    with pytest.raises(DataError, match=r"toy-train.txt: not found.*REPLICATION_MIRROR"):
        RealCorpus(CARD, TOY.counts, TOY.files).load(folder)
    assert asked == []


def test_a_file_no_address_serves_is_named_beside_the_hubs_failure(folder):
    with pytest.raises(DataError) as caught:
        TOY.load(folder)
    for part in ("someone/toy", "toy-train.txt: not found", source_table.FILES["toy-train.txt"].packed_sha256):
        assert part in str(caught.value)


def test_unobtainable_are_files_without_hub_address_or_copy(folder, monkeypatch):
    alone = replace(TOY, hub=None, hub_row=None, fallback=None)
    assert TOY.unobtainable() == ()
    assert alone.unobtainable() == ("toy-train.txt", "toy-dev.txt")
    set_file(monkeypatch, "train", url="https://example.org/toy-train.txt")
    assert alone.unobtainable() == ("toy-dev.txt",)
    monkeypatch.setenv("REPLICATION_MIRROR", str(folder))
    keep(folder, "dev")
    assert alone.unobtainable() == ()
