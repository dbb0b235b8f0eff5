from analysis import names


def test_every_method_has_a_place_and_a_name():
    assert sorted(names.METHOD_ORDER) == sorted(names.METHOD_NAMES)
    assert set(names.SELECTING) < set(names.METHOD_NAMES)


def test_no_two_things_are_called_alike():
    for words in (names.METHOD_NAMES, names.BACKBONE_NAMES, names.TASK_NAMES):
        assert len(set(words.values())) == len(words)
