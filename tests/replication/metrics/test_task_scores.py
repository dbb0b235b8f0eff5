import subprocess
import sys

import pytest

from replication.errors import ConfigError, DataError
from replication.metrics import leading, reported, score_task


def rows(predictions, labels, **more):
    return [
        {"id": f"r{number}", "prediction": predicted, "label": label, **more}
        for number, (predicted, label) in enumerate(zip(predictions, labels, strict=True))
    ]


BINARY = rows([1, 1, 1, 0], [1, 0, 1, 0])


@pytest.mark.parametrize(
    ("metric", "predictions", "expected"),
    [
        ("cola", BINARY, {"matthews_correlation": 2 / 12**0.5}),
        ("mrpc", BINARY, {"accuracy": 0.75, "f1": 0.8}),
        ("qqp", BINARY, {"accuracy": 0.75, "f1": 0.8}),
        ("sst2", BINARY, {"accuracy": 0.75}),
        ("qnli", BINARY, {"accuracy": 0.75}),
        ("rte", BINARY, {"accuracy": 0.75}),
        ("accuracy", BINARY, {"accuracy": 0.75}),
        (
            "stsb",
            rows([0.5, 2.0, 1.5, 5], [0, 2.5, 3.0, 5]),
            {"pearson": 10.875 / (11.25 * 12.6875) ** 0.5, "spearman": 0.8},
        ),
        (
            "mnli",
            [*rows([2, 1, 0], [2, 1, 1], subset="matched"), *rows([0], [0], subset="mismatched")],
            {"accuracy_matched": 2 / 3, "accuracy_mismatched": 1.0},
        ),
        (
            "squad_v1",
            [
                {"id": 1, "prediction": "The Mill", "answers": ["mill.", "x"]},
                {"id": 2, "prediction": "", "answers": ["y"]},
            ],
            {"exact_match": 0.5, "f1": 0.5},
        ),
        (
            "squad_v2",
            [{"id": 1, "prediction": "", "answers": []}, {"id": 2, "prediction": "red y", "answers": ["y"]}],
            {"exact_match": 0.5, "f1": (1 + 2 / 3) / 2},
        ),
        (
            "rouge",
            [{"id": 1, "prediction": "the cat sat on the mat", "references": ["the cat was on the mat"]}],
            {"rouge1": 5 / 6, "rouge2": 3 / 5, "rougeL": 5 / 6, "rougeLsum": 5 / 6},
        ),
    ],
)
def test_each_metric_gives_its_official_scores_in_order(metric, predictions, expected):
    scores = score_task(metric, predictions)
    assert scores == pytest.approx(expected)
    assert tuple(scores) == tuple(found.name for found in reported(metric))
    assert leading(metric).name in scores
    assert all(type(value) is float for value in scores.values())


def test_constant_predictions_score_nothing_in_correlations():
    assert score_task("cola", rows([1, 1, 1], [1, 0, 1])) == {"matthews_correlation": 0.0}
    assert score_task("stsb", rows([2.5, 2.5, 2.5], [1, 0, 3])) == {"pearson": 0.0, "spearman": 0.0}


@pytest.mark.parametrize(
    ("metric", "predictions", "message"),
    [
        ("cola", [], "metric cola: no predictions"),
        ("cola", [{"id": "r7", "prediction": 1}], "metric cola: row 'r7': field 'label' is missing"),
        ("rte", rows(["1"], [1]), "metric rte: row 'r0': field 'prediction' must be a class's index, found '1'"),
        ("rte", rows([1], [0.5]), "metric rte: row 'r0': field 'label' must be a class's index"),
        ("cola", rows([1], [-1]), "metric cola: row 'r0': field 'label' must be a class's index, found -1"),
        ("stsb", rows([float("nan")], [1.0]), "metric stsb: row 'r0': field 'prediction' must be a finite number"),
        ("mnli", BINARY, "row 'r0': field 'subset' is missing"),
        ("mnli", rows([1], [1], subset="dev"), "row 'r0': field 'subset' is 'dev'"),
        ("mnli", rows([1], [1], subset="matched"), "no row has the subset 'mismatched'"),
        ("squad_v1", [{"id": "r7", "prediction": "a", "answers": []}], "row 'r7': field 'answers'.*at least one"),
        ("squad_v2", [{"id": "r7", "prediction": None, "answers": []}], "row 'r7': field 'prediction' must be text"),
        ("rouge", [{"id": "r7", "prediction": "a", "references": "a"}], "row 'r7': field 'references' must be a list"),
    ],
)
def test_errors_name_metric_row_and_field(metric, predictions, message):
    with pytest.raises(DataError, match=message):
        score_task(metric, predictions)


def test_an_unknown_metric_lists_the_known_ones():
    with pytest.raises(ConfigError, match="metric 'bleu' is unknown; known are: accuracy, cola"):
        score_task("bleu", BINARY)


def test_scoring_needs_no_torch():
    code = "import sys; from replication.metrics import score_task; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
