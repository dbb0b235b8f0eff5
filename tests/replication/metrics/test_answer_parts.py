import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.metrics import score_systems, score_task

ROWS = [
    {"id": "a", "answers": ["the Golden Palace", "Palace"], "span": "Palace", "no_answer_score": -4.5},
    {"id": "b", "answers": ["near the river"], "span": "the river", "no_answer_score": 1.25},
    {"id": "c", "answers": [], "span": "a pub", "no_answer_score": 2.5},
    {"id": "d", "answers": ["£20"], "span": "£20", "no_answer_score": 0.5},
    {"id": "e", "answers": [], "span": "cheap food", "no_answer_score": -1.0},
    {"id": "f", "answers": ["Anna", "Anna Smith"], "span": "Anna and Ben", "no_answer_score": -2.0},
    {"id": "g", "answers": ["five"], "span": "six", "no_answer_score": 3.0},
]


def predicted(rows, threshold=0.0):
    return [{**row, "prediction": "" if row["no_answer_score"] > threshold else row["span"]} for row in rows]


def test_the_official_script_prints_the_same():
    # evaluate-v2.0.py with these spans as predictions, --na-prob-file and --na-prob-thresh 0
    official = {"exact_match": 200 / 7, "f1": 250 / 7, "HasAns_exact": 20.0, "HasAns_f1": 30.0, "NoAns_exact": 50.0,
                "NoAns_f1": 50.0, "best_exact": 42.857142857142854, "best_f1": 59.523809523809526}  # fmt: skip
    found = score_systems("squad_v2", {"": predicted(ROWS)})[""]
    assert {name: 100 * value for name, value in found.values.items()} == pytest.approx(official)
    assert list(found.values) == list(official)
    assert found.notes == (
        "best_exact with the threshold -4.5 on the no-answer score",
        "best_f1 with the threshold 1.25 on the no-answer score",
    )


def test_predictions_without_spans_give_what_the_official_script_makes_of_them():
    rows = [{name: value for name, value in row.items() if name != "span"} for row in predicted(ROWS)]
    found = score_task("squad_v2", rows)
    assert (found["best_exact"], found["best_f1"]) == (pytest.approx(3 / 7), 0.5)


rows = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["red", "red cat", "the", "blue"]), max_size=2),
        st.sampled_from(["red", "the cat", "blue dog"]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_best_is_the_greatest_over_every_threshold(drawn, random):
    scores = random.sample(range(-20, 20), len(drawn))  # no ties
    given_rows = [
        {"id": str(number), "answers": golds, "span": span, "no_answer_score": score / 2}
        for number, ((golds, span), score) in enumerate(zip(drawn, scores, strict=True))
    ]
    found = score_task("squad_v2", predicted(given_rows))
    every = [score_task("squad_v2", predicted(given_rows, threshold)) for threshold in (-99, *(s / 2 for s in scores))]
    for best, whole in (("best_exact", "exact_match"), ("best_f1", "f1")):
        # the official script gives a question whose answers have no word left one thing or the other
        if all(not row["answers"] or set(row["answers"]) != {"the"} for row in given_rows):
            assert found[best] == pytest.approx(max(scored[whole] for scored in every))


@settings(max_examples=60, deadline=None)
@given(rows)
def test_the_whole_is_the_mean_of_its_parts(drawn):
    given_rows = [{"id": str(n), "answers": golds, "prediction": span} for n, (golds, span) in enumerate(drawn)]
    found, answered = score_task("squad_v2", given_rows), sum(bool(golds) for golds, _ in drawn)
    for whole, part in (("exact_match", "exact"), ("f1", "f1")):
        parts = answered * found.get(f"HasAns_{part}", 0) + (len(drawn) - answered) * found.get(f"NoAns_{part}", 0)
        assert found[whole] * len(drawn) == pytest.approx(parts)
    assert ("HasAns_f1" in found, "NoAns_f1" in found) == (answered > 0, answered < len(drawn))
    assert "best_f1" not in found  # there is no no-answer score
