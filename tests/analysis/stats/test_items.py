"""Scores from sums of items, against the metrics that write metrics.json: two independent ways to the same number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.stats.bootstrap import bootstrap_replicates
from analysis.stats.items import item_statistics, statistic_of
from replication.metrics.tasks import score_task

CASES = [
    ("cola", "classification", "matthews_correlation"),
    ("mrpc", "classification", "accuracy"),
    ("mrpc", "classification", "f1"),
    ("mnli", "classification", "accuracy_matched"),
    ("mnli", "classification", "accuracy_mismatched"),
    ("stsb", "regression", "pearson"),
    ("stsb", "regression", "spearman"),
    ("accuracy", "multiple_choice", "accuracy"),
]


def rows_of(form, pairs):
    fields = ("logits",) if form == "classification" else ()
    return [
        {
            "id": str(i),
            "prediction": p,
            "label": t,
            "subset": ("matched", "mismatched")[i % 2],
            **{field: [0, 0] for field in fields},
        }
        for i, (p, t) in enumerate(pairs)
    ]


@settings(max_examples=40, deadline=None)
@given(st.data())
@pytest.mark.parametrize(("metric", "form", "name"), CASES)
def test_the_sum_over_items_gives_the_official_score(metric, form, name, data):
    values = st.floats(0, 5, width=32) if form == "regression" else st.integers(0, 1)
    pairs = data.draw(st.lists(st.tuples(values, values), min_size=4, max_size=30))
    if form == "regression":
        for side in zip(*pairs, strict=True):
            if np.std(side) < 0.1:
                return  # a correlation of near-constant numbers is rounding
    rows = rows_of(form, pairs)
    found = item_statistics(name, form, rows, metric)
    assert len(found) == len(rows)
    assert statistic_of(name, form)(found.sum(axis=0)) == pytest.approx(score_task(metric, rows)[name], abs=1e-6)


def test_three_classes_have_a_matthews_correlation_too():
    rng = np.random.default_rng(0)
    said, true = rng.integers(3, size=50), rng.integers(3, size=50)
    rows = rows_of("classification", zip(said.tolist(), true.tolist(), strict=True))
    sums = item_statistics("matthews_correlation", "classification", rows).sum(axis=0)
    one_said, one_true = np.eye(3)[said], np.eye(3)[true]

    def covariance(x, y):
        return ((x - x.mean(axis=0)) * (y - y.mean(axis=0))).sum()

    spread = covariance(one_said, one_said) * covariance(one_true, one_true)
    expected = covariance(one_said, one_true) / np.sqrt(spread)
    assert statistic_of("matthews_correlation", "classification")(sums) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "form", "name"),
    [("squad_v1", "question_answering", "f1"), ("squad_v1", "question_answering", "exact_match"),
     ("squad_v2", "question_answering", "f1"), ("rouge", "summarisation", "rougeL"),
     ("rouge", "summarisation", "rouge2")],
)  # fmt: skip
def test_scores_of_single_items_average_to_the_corpus_score(metric, form, name):
    texts = ["the old mill", "a lane by the mill", "mill", "nothing of the kind"]
    field = "answers" if form == "question_answering" else "references"
    rows = [{"id": str(i), "prediction": texts[i % 4], field: [texts[(i // 2) % 4]]} for i in range(8)]
    found = item_statistics(name, form, rows, metric)
    assert statistic_of(name, form)(found.sum(axis=0)) == pytest.approx(score_task(metric, rows)[name])


def test_no_rows_and_unknown_metrics_have_no_statistics():
    assert item_statistics("accuracy", "classification", []) is None
    assert item_statistics("charm", "classification", rows_of("classification", [(1, 1)])) is None
    assert item_statistics("f1", "question_answering", [{"id": "a", "prediction": "x", "answers": ["x"]}]) is None


def test_a_score_that_is_undefined_is_zero():
    rows = rows_of("classification", [(0, 0), (0, 0)])
    for name in ("f1", "matthews_correlation"):
        assert statistic_of(name, "classification")(item_statistics(name, "classification", rows).sum(axis=0)) == 0
    assert statistic_of("pearson", "regression")(item_statistics("pearson", "regression", rows).sum(axis=0)) == 0
    none_matched = [{**row, "subset": "mismatched"} for row in rows]
    sums = item_statistics("accuracy_matched", "classification", none_matched).sum(axis=0)
    assert statistic_of("accuracy_matched", "classification")(sums) == 0


def test_drawing_in_portions_changes_no_draw(monkeypatch):
    rows = np.random.default_rng(1).integers(2, size=(7, 2)).astype(float)

    def share(sums):
        return float(sums[0] / max(1.0, sums[1]))

    whole = bootstrap_replicates(rows, share, resamples=50, seed=3)
    monkeypatch.setattr("analysis.stats.bootstrap.DRAWS_AT_ONCE", 20)
    assert (bootstrap_replicates(rows, share, resamples=50, seed=3) == whole).all()
