import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError
from replication.metrics import score_task
from replication.metrics.answers import exact_match, normalise, token_f1

words = st.lists(st.sampled_from(["the", "a", "cat", "sat", "An", "£20", "café", "it's", "."]), max_size=6)
texts = words.map(" ".join)


def squad_scores(predictions, answers, version=1):
    pairs = zip(predictions, answers, strict=True)
    found = score_task(f"squad_v{version}", [{"prediction": said, "answers": golds} for said, golds in pairs])
    return {name: found[name] for name in ("exact_match", "f1")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat, sat!", "cat sat"),
        ("an apple a day", "apple day"),
        ("theatre another", "theatre another"),  # articles are whole words
        ("A.B.", "ab"),  # punctuation goes first, so that the article rule sees one word
        ("U.S.A.", "usa"),
        ("a-b the-c", "ab thec"),
        ("£20 — café’s", "£20 — café’s"),  # only ASCII punctuation is removed
        ("it's", "its"),
        (" the ", ""),
        ("\tTwo\nlines ", "two lines"),
    ],
)
def test_normalisation_is_the_official_one(text, expected):
    assert normalise(text) == expected


def test_hand_computed_f1():
    assert token_f1("the cat sat on the mat", "a cat on a mat") == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert token_f1("cat cat cat", "cat cat dog") == pytest.approx(2 / 3)  # counted as often as they occur
    assert token_f1("dog", "cat") == 0.0
    assert exact_match("The Cat.", "cat") == 1.0


def test_the_best_gold_answer_counts_for_each_score_apart():
    scores = squad_scores(["cat sat", "dog"], [["the cat sat down", "Cat sat."], ["cat", "big dog"]])
    assert scores == {"exact_match": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}


def test_empty_sides_as_each_version_has_them():
    assert squad_scores(["the"], [["a"]], version=1) == {"exact_match": 1.0, "f1": 0.0}
    assert squad_scores([""], [[]], version=2) == {"exact_match": 1.0, "f1": 1.0}
    assert squad_scores(["an"], [[""]], version=2) == {"exact_match": 1.0, "f1": 1.0}
    assert squad_scores(["cat"], [[]], version=2) == {"exact_match": 0.0, "f1": 0.0}
    assert squad_scores([""], [["cat"]], version=2) == {"exact_match": 0.0, "f1": 0.0}
    # a gold answer without a word does not count if there is another
    assert squad_scores([""], [["the", "cat"]], version=2) == {"exact_match": 0.0, "f1": 0.0}
    mixed = squad_scores(["", "cat", "red cat"], [[], ["cat"], ["cat"]], version=2)
    assert mixed == {"exact_match": pytest.approx(2 / 3), "f1": pytest.approx((1 + 1 + 2 / 3) / 3)}


@given(texts, texts, st.sampled_from([1, 2]))
def test_f1_is_symmetric_bounded_and_one_for_equal_words(a, b, version):
    score = token_f1(a, b, version=version)
    assert score == pytest.approx(token_f1(b, a, version=version))
    assert 0 <= score <= 1
    assert (score == pytest.approx(1.0)) == (
        sorted(normalise(a).split()) == sorted(normalise(b).split()) and (version == 2 or normalise(a) != "")
    )


@given(texts, texts, st.sampled_from([1, 2]))
def test_case_articles_and_punctuation_do_not_count(a, b, version):
    dressed = f" The {a.upper()} {string.punctuation} "
    assert squad_scores([dressed], [[b]], version=version) == squad_scores([a], [[b]], version=version)


@given(texts, st.lists(texts, min_size=1, max_size=3), texts)
def test_another_gold_answer_never_lowers_a_score(prediction, golds, more):
    before, after = (squad_scores([prediction], [answers]) for answers in (golds, [*golds, more]))
    assert all(after[name] >= before[name] for name in before)
    assert after["f1"] >= after["exact_match"] or normalise(prediction) == ""


def test_errors_name_the_question():
    with pytest.raises(DataError, match="row 2: field 'answers' must be a list of texts, at least one"):
        squad_scores(["a", "b"], [["a"], []])
    with pytest.raises(DataError, match="nothing to score"):
        squad_scores([], [])
