from analysis.load import names
from replication.corpora.registry import CORPORA, describe


def test_every_method_has_a_place_and_a_name():
    assert sorted(names.METHOD_ORDER) == sorted(names.METHOD_NAMES)
    assert set(names.SELECTING) < set(names.METHOD_NAMES)


def test_no_two_things_are_called_alike():
    for words in (names.METHOD_NAMES, names.BACKBONE_NAMES, {**names.TASK_NAMES, **names.PART_NAMES}):
        assert len(set(words.values())) == len(words)


def test_every_task_corpus_has_a_name_and_a_part_is_called_one():
    others = {name for name in CORPORA if describe(name)["form"] != "generation"}
    assert set(names.TASK_NAMES) | set(names.PART_NAMES) == others
    assert {name for name in CORPORA if name.endswith("_subset")} < set(names.PART_NAMES)
    assert all(name.endswith("(part)") for key, name in names.PART_NAMES.items() if key.endswith("_subset"))
