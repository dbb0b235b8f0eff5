import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError, ReplicationError
from replication.metrics.rouge import ROUGE, rouge_scores


def test_hand_computed_scores():
    scores = rouge_scores(["the cat sat on the mat"], [["the cat was on the mat"]])
    expected = {"rouge1": 5 / 6, "rouge2": 3 / 5, "rougeL": 5 / 6, "rougeLsum": 5 / 6}
    assert scores == pytest.approx(expected)
    assert tuple(scores) == ROUGE


def test_the_summary_level_compares_sentence_by_sentence():
    predicted, reference = "A dog barks. The cat sleeps.", "The cat sleeps.\nA dog barks."
    scores = rouge_scores([predicted], [[reference]])
    assert scores["rouge1"] == scores["rougeLsum"] == pytest.approx(1.0)
    assert scores["rougeL"] == pytest.approx(0.5)  # of six words three are in the same order
    assert rouge_scores([predicted.replace(". ", ".\n")], [[reference]]) == scores


def test_words_are_stemmed_unless_told_otherwise():
    assert rouge_scores(["running cats"], [["runs cat"]])["rouge1"] > 0
    assert rouge_scores(["running cats"], [["runs cat"]], use_stemmer=False)["rouge1"] == 0.0


def test_each_score_takes_the_best_reference_and_items_are_averaged():
    scores = rouge_scores(["red fox", ""], [["blue whale", "a red fox"], ["nothing"]])
    assert scores["rouge1"] == pytest.approx(0.8 / 2)  # precision 1, recall 2/3; and an empty prediction
    assert scores["rouge2"] == pytest.approx(2 / 3 / 2)


@given(st.lists(st.sampled_from(["cat", "dog", "runs", "red", "."]), min_size=1, max_size=9).map(" ".join))
def test_a_text_equals_itself(text):
    scores = rouge_scores([text], [[text]])
    tokens = len(text.replace(".", "").split())
    assert scores["rouge1"] == pytest.approx(float(tokens > 0))
    assert scores["rougeLsum"] == pytest.approx(float(tokens > 0))


def test_errors_say_what_is_wrong(monkeypatch):
    with pytest.raises(DataError, match="item 2: pass a list of at least one reference"):
        rouge_scores(["a", "b"], [["a"], []])
    with pytest.raises(DataError, match="nothing to score"):
        rouge_scores([], [])
    with pytest.raises(DataError, match="1 predictions but references for 2"):
        rouge_scores(["a"], [["a"], ["b"]])
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("rouge_score"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ReplicationError, match="pip install rouge-score"):
        rouge_scores(["never seen before"], [["a"]])
