import re

import pytest

from replication.corpora import source_table
from replication.corpora.registry import REAL
from replication.corpora.source_table import FILES

NAMED = {name for corpus in REAL.values() for name, _ in corpus.files.values()}


def test_every_file_is_read_by_a_corpus_and_every_corpus_finds_its_files():
    assert set(FILES) == NAMED


def test_entries_are_well_formed():
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for f in FILES.values() for digest in (f.sha256, f.packed_sha256))
    assert len({file.sha256 for file in FILES.values()}) == len(FILES)
    assert all(0 < file.packed_size < file.size for file in FILES.values())


def test_a_home_is_pinned_to_a_commit_unless_it_is_the_official_site():
    for file in FILES.values():
        assert (
            file.url is None
            or re.match(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/[0-9a-f]{40}/", file.url)
            or (file.url.startswith("https://rajpurkar.github.io/"))
        )
    assert [name for name, file in FILES.items() if file.url is None] == [
        "mrpc-train.tsv",
        "squad-v1-train-subset.jsonl",
        "xsum-test-extra.jsonl",
    ]


def test_a_malformed_table_is_refused():
    with pytest.raises(ValueError):
        source_table._parse("one.tsv\n" + "0" * 64 + " 1")


@pytest.mark.mirror
def test_the_mirror_holds_every_file_and_each_unpacks_to_its_hash(mirror):
    missing = [name for name, file in FILES.items() if file.find(mirror) is None]
    assert missing == []
    assert all(len(file.read(mirror)[1]) == file.size for file in FILES.values())
