"""What holds for every metric of the folder, whatever it measures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.corpora.task_corpus import PROTOCOLS
from replication.metrics import find, leading, names, protocols, reported
from replication.metrics.programs import Programs
from replication.metrics.registry import files

WORDS = ("the", "mill", "serves", "cheap", "food", "near", "a", "river", "pub", "it's", "£20-25", ".")
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
lists = st.lists(texts, min_size=1, max_size=3)
binary = st.integers(0, 1)
ROWS = {
    "generation": st.fixed_dictionaries(
        {
            "prediction": texts,
            "references": lists,
            "reference_nll": st.floats(0, 1e4),
            "reference_tokens": st.integers(1, 500),
        }
    ),
    "classification": st.fixed_dictionaries(
        {"prediction": binary, "label": binary, "subset": st.sampled_from(["matched", "mismatched"])}
    ),
    "multiple_choice": st.fixed_dictionaries(
        {
            "prediction": binary,
            "label": binary,
            "log_likelihoods": st.lists(st.floats(-99, 0), min_size=2, max_size=2),
            "lengths": st.lists(st.integers(1, 30), min_size=2, max_size=2),
        }
    ),
    "regression": st.fixed_dictionaries(
        {"prediction": st.integers(0, 50).map(lambda n: n / 10), "label": st.integers(0, 50).map(lambda n: n / 10)}
    ),
    "question_answering": st.fixed_dictionaries({"prediction": texts, "answers": lists}),
    "summarisation": st.fixed_dictionaries({"prediction": texts, "references": lists}),
}
CASES = [(file, form) for file in files() for form in find(file).reported_for]
RESAMPLED = [(file, form) for file, form in CASES if find(file).resampled != "no"]


def drawn(data, form):
    rows = data.draw(st.lists(ROWS[form], min_size=4, max_size=10))
    rows = [{"id": str(number), **row} for number, row in enumerate(rows)]
    if form == "classification":  # both subsets occur
        rows[0]["subset"], rows[1]["subset"] = "matched", "mismatched"
    return rows


@settings(max_examples=30, deadline=None)
@given(st.data())
@pytest.mark.parametrize(("file", "form"), RESAMPLED)
def test_the_score_of_summed_statistics_is_the_official_score(file, form, data):
    metric, rows = find(file), drawn(data, form)
    statistics = metric.item_statistics(rows)
    assert len(statistics) == len(rows)
    with Programs() as programs:
        official = metric.official(rows, programs)
    assert float(metric.score(statistics.sum(axis=0))) == pytest.approx(official, rel=1e-7, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.data())
@pytest.mark.parametrize(("file", "form"), RESAMPLED)
def test_many_sums_are_scored_as_each_alone(file, form, data):
    metric, rows = find(file), drawn(data, form)
    statistics = np.asarray(metric.item_statistics(rows), dtype=np.float64)
    draws = data.draw(st.lists(st.lists(st.integers(0, len(rows) - 1), min_size=4, max_size=9), min_size=6, max_size=6))
    sums = np.stack([statistics[draw].sum(axis=0) for draw in draws]).reshape(2, 3, -1)
    together = metric.score(sums)
    assert together.shape == (2, 3)
    alone = [[float(metric.score(one)) for one in row] for row in sums]
    assert together == pytest.approx(np.array(alone), rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.data())
@pytest.mark.parametrize(("file", "form"), RESAMPLED)
def test_the_order_of_items_changes_nothing(file, form, data):
    metric, rows = find(file), drawn(data, form)
    order = data.draw(st.permutations(range(len(rows))))
    moved = [rows[number] for number in order]
    assert metric.item_statistics(moved) == pytest.approx(metric.item_statistics(rows)[list(order)], abs=1e-9)
    with Programs() as programs:
        scores = [metric.official(given, programs) for given in (rows, moved)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-9, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.data())
@pytest.mark.parametrize(("file", "form"), RESAMPLED)
def test_the_total_is_the_sum_of_the_totals_of_any_two_parts(file, form, data):
    metric, rows = find(file), drawn(data, form)
    statistics = metric.item_statistics(rows)
    cut = data.draw(st.integers(1, len(rows) - 1))
    parts = metric.total(statistics[:cut]) + metric.total(statistics[cut:])
    assert parts == pytest.approx(metric.total(statistics), rel=1e-9, abs=1e-9)


def test_one_metric_of_each_protocol_leads_and_cards_name_protocols_that_exist():
    for form, known in PROTOCOLS.items():
        assert set(protocols(form)) == set(known)
        for protocol in known:
            assert leading(protocol) in reported(protocol)
    assert protocols("generation") == ("e2e",)


def test_metrics_that_share_a_name_share_what_a_reader_sees():
    by_name = {}
    for file in files():
        metric = find(file)
        by_name.setdefault(metric.name, set()).add((metric.label, metric.direction, metric.scale))
    assert all(len(seen) == 1 for seen in by_name.values())


def test_the_metrics_of_text_generation_are_in_the_official_order():
    assert names("generation") == ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr", "reference_loss")
    assert names("question_answering")[:2] == ("exact_match", "f1")
    assert names("multiple_choice") == ("acc", "acc_norm", "accuracy")


def test_what_cannot_be_resampled_and_only_the_loss_is_better_when_lower():
    found = {file: find(file) for file in files()}
    assert {file for file, metric in found.items() if metric.resampled == "no"} == {
        "meteor",
        "best_exact",
        "best_f1",
    }
    assert {file for file, metric in found.items() if metric.resampled == "approximate"} == {"rouge_l", "cider"}
    assert {file for file, metric in found.items() if not metric.higher_is_better} == {"reference_loss"}
