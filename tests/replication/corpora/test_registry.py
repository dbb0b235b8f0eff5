import subprocess
import sys

import pytest

from replication.corpora.registry import CORPORA, DESCRIPTIONS, EMBEDDED, REAL, describe, load_corpus
from replication.errors import ConfigError, DataError

PUBLISHED = {"cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "squad_v1", "squad_v2", "xsum"} | {
    "cnn_dailymail",
    "boolq",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
    "hellaswag",
}
# The published split in full, but fewer training rows.
FEWER_TRAINING_ROWS = {"qnli_subset", "squad_v1_subset"}
OWN_NAME = {"mnli_train_subset", "squad_v2_subset", "xsum_subset", "cnn_dailymail_subset", "boolq_closed_book"}


def test_the_names_are_all_there_and_fit_their_cards():
    assert set(REAL) == PUBLISHED | FEWER_TRAINING_ROWS | OWN_NAME
    assert all(corpus.card.name == name for name, corpus in REAL.items())
    assert {name for name, corpus in REAL.items() if corpus.card.comparable} == PUBLISHED | FEWER_TRAINING_ROWS
    assert (*REAL, *EMBEDDED, *DESCRIPTIONS) == CORPORA


def test_labels_are_distinct_so_that_no_table_mixes_two_corpora():
    assert len({corpus.card.label for corpus in REAL.values()}) == len(REAL)


def test_every_real_corpus_has_a_way_in():
    for corpus in REAL.values():
        assert set(corpus.counts) == {"train", corpus.card.reported_split}
        assert corpus.hub is not None or set(corpus.files) == set(corpus.counts)
        assert corpus.fallback is None or corpus.fallback in REAL
        if corpus.hub is not None:
            assert set(corpus.hub.splits) == set(corpus.counts)
            assert corpus.hub.revision is not None or corpus.hub.hub_id == "EdinburghNLP/xsum"


def test_no_file_and_no_part_of_the_hub_feeds_two_splits():
    """What is scored on would be learnt from; the half of SQuAD v2 is one file, cut by article (test_squad.py)."""
    for name, corpus in REAL.items():
        files = [file for file, _ in corpus.files.values()]
        assert len(set(files)) == len(files) or name == "squad_v2_subset", name
        parts = [part for split in (corpus.hub.splits.values() if corpus.hub else ()) for part in split]
        assert len(set(parts)) == len(parts), name


def test_an_unknown_name_lists_the_names():
    for ask in (load_corpus, describe):
        with pytest.raises(ConfigError, match=r"unknown name 'glue'; the corpora are cola, mnli, .*microworld_choice"):
            ask("glue")


def test_a_source_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        load_corpus("cola", tmp_path / "nowhere")


def test_describe_reads_nothing(monkeypatch):
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    card = describe("boolq_closed_book")
    assert card["form"] == "multiple_choice"
    assert card["comparable"] is False
    assert card["licence"] == "CC BY-SA 3.0"
    assert describe("cola")["labels"] == ["unacceptable", "acceptable"]


def test_the_registry_is_light():
    program = (
        "import sys, replication.corpora.registry as r; r.describe('mnli'); r.describe('squad_v1'); "
        "print([n for n in ('torch', 'transformers', 'datasets', 'numpy', 'pandas') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.mirror
def test_a_named_folder_and_the_mirror_give_the_same_corpus(mirror):
    assert load_corpus("rte", mirror) == load_corpus("rte")


def test_embedded_corpora_are_the_microworlds_tasks():
    from studies.microworld import tasks as microworld_tasks

    assert set(EMBEDDED) == {f"microworld_{task}" for task in microworld_tasks.DRAWINGS}
    for name in EMBEDDED:
        assert describe(name)["name"] == name
        assert describe(name)["comparable"] is False


def test_an_embedded_corpus_is_read_from_the_folder_given(tmp_path):
    from studies.microworld import tasks as microworld_tasks

    microworld_tasks.write(tmp_path / "tasks", microworld_tasks.TasksConfig(train=6, test=6, passages=6))
    corpus = load_corpus("microworld_entailment", tmp_path / "tasks")
    assert corpus.name == "microworld_entailment"
    assert set(corpus.splits) >= {"train", corpus.reported_split}


def test_descriptions_are_corpora_like_the_others(project_root):
    assert set(DESCRIPTIONS) == {"e2e", "microworld"}
    for name in DESCRIPTIONS:
        assert (describe(name)["name"], describe(name)["form"], describe(name)["metric"]) == (name, "generation", "e2e")
    assert describe("e2e")["comparable"]
    assert not describe("microworld")["comparable"]


def test_descriptions_give_pairs_to_learn_from_and_items_with_all_their_references(tmp_path):
    from studies.microworld import descriptions

    descriptions.write(tmp_path / "world", descriptions.MicroworldConfig(train=4, dev=2, test=3, passages=5))
    corpus = load_corpus("microworld", tmp_path / "world")
    assert set(corpus.splits) == {"train", "dev", "test"}
    assert all(set(row) == {"context", "completion"} for row in corpus.splits["train"] + corpus.splits["dev"])
    assert len({row["mr"] for row in corpus.splits["test"]}) == 3
    assert all(len(item["references"]) >= 2 for item in corpus.splits["test"])
    assert not {row["context"] for row in corpus.splits["train"]} & {item["context"] for item in corpus.splits["test"]}
    (tmp_path / "world" / "devset.csv").unlink()
    with pytest.raises(DataError, match=r"devset\.csv: no such file; `dvc pull data\.dvc`"):
        load_corpus("microworld", tmp_path / "world")
