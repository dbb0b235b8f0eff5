import datasets
import huggingface_hub
import pytest

from replication.corpora import hub
from replication.corpora.hub import HubCorpus, hub_rows
from replication.errors import DataError
from replication.fileio import read_json, write_json

COMMIT = "a" * 40
TOY = HubCorpus("someone/toy", COMMIT, "small", {"train": ("train",), "dev": ("one", "two")}, ("no", "yes"))


def table(*texts, names=("no", "yes")):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"text": list(texts), "label": [1] * len(texts)}, features=features)


class Served:
    """Replaces `datasets.load_dataset`: takes no argument but those a pinned load needs."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def __call__(self, path, name, *, split, revision):
        self.asked.append((path, name, split, revision))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def serve(monkeypatch, answer):
    served = Served(answer)
    monkeypatch.setattr(datasets, "load_dataset", served)
    return served


def test_a_split_is_read_at_the_pinned_revision_and_parts_keep_their_order(monkeypatch):
    served = serve(monkeypatch, table("a", "b"))
    rows, revision = hub_rows(TOY, "dev")
    assert revision == COMMIT
    assert served.asked == [("someone/toy", "small", "one", COMMIT), ("someone/toy", "small", "two", COMMIT)]
    assert [(part, row["text"]) for part, row in rows] == [("one", "a"), ("one", "b"), ("two", "a"), ("two", "b")]
    assert rows[0][1] == {"text": "a", "label": 1}


def test_without_the_hub_the_error_names_what_was_asked_for_and_a_cure():
    # The suite is offline and no such repository is cached: this is the library's own refusal.
    with pytest.raises(DataError) as caught:
        hub_rows(TOY, "train")
    for part in (
        "someone/toy",
        COMMIT,
        "'train'",
        "To fix it: load it once with access to https://huggingface.co/datasets/someone/toy",
    ):
        assert part in str(caught.value)


def test_any_failure_of_the_libraries_is_a_data_error(monkeypatch):
    for error in (RuntimeError("Dataset scripts are no longer supported"), OSError(), ConnectionError("a\nb")):
        serve(monkeypatch, error)
        with pytest.raises(DataError, match=type(error).__name__):
            hub_rows(TOY, "train")


def test_another_revision_out_of_the_cache_is_refused(monkeypatch):
    kept = {"commit": "b" * 40}
    place = property(lambda self: [{"filename": f"/cache/someone___toy/small/0.0.0/{kept['commit']}/toy-train.arrow"}])
    serve(monkeypatch, table("a"))
    monkeypatch.setattr(datasets.Dataset, "cache_files", place)
    with pytest.raises(DataError, match="b" * 40):
        hub_rows(TOY, "train")
    kept["commit"] = COMMIT
    assert len(hub_rows(TOY, "train")[0]) == 1


def test_classes_in_another_order_are_refused(monkeypatch):
    serve(monkeypatch, table("a", names=("yes", "no")))
    with pytest.raises(DataError, match="yes, no, expected no, yes"):
        hub_rows(TOY, "train")


def test_the_parquet_copy_is_pinned_on_first_use(monkeypatch, cache):
    toy = HubCorpus("someone/script", None, None, {"train": ("train",)})
    served = serve(monkeypatch, table("a"))
    asked = []

    class Api:
        def dataset_info(self, repo, *, revision):
            asked.append((repo, revision))
            return type("Info", (), {"sha": "c" * 40})

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert hub_rows(toy, "train")[1] == "c" * 40
    assert hub_rows(toy, "train")[1] == "c" * 40
    assert asked == [("someone/script", hub.PARQUET_REF)]
    assert [revision for *_, revision in served.asked] == ["c" * 40] * 2
    assert read_json(cache / hub.PINS) == {"someone/script": "c" * 40}


@pytest.mark.parametrize("pins", [[], {"someone/script": None}, {"someone/script": "None"}, {"other": [1]}])
def test_a_file_of_pins_that_is_none_is_named(cache, pins):
    write_json(cache / hub.PINS, pins)
    with pytest.raises(DataError, match=r"hub_revisions\.json: not a commit for each repository; delete the file"):
        hub_rows(HubCorpus("someone/script", None, None, {"train": ("train",)}), "train")


def test_an_answer_without_a_commit_is_not_pinned(monkeypatch, cache):
    info = type("Info", (), {"sha": None})
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: info)
    with pytest.raises(DataError, match=r"cannot be looked up \(ValueError: the hub answered 'None'\)"):
        hub_rows(HubCorpus("someone/script", None, None, {"train": ("train",)}), "train")
    assert not (cache / hub.PINS).exists()


def test_a_pin_that_cannot_be_looked_up_says_where_it_would_be_kept(cache):
    with pytest.raises(DataError, match="cannot be looked up") as caught:
        hub_rows(HubCorpus("someone/script", None, None, {"train": ("train",)}), "train")
    assert str(cache / hub.PINS) in str(caught.value)
    assert not (cache / hub.PINS).exists()
