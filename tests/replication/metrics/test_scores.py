import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import ConfigError, DataError, ReplicationError
from replication.metrics import e2e_scores, leading, reported, score_e2e, score_many, score_task
from replication.metrics.score_files import read_items

PREDICTIONS = ["The Eagle is a cheap pub near the river.", "Browns serves English food, doesn't it?"]


REFERENCES = [
    ["The Eagle is a cheap pub by the river.", "Near the river is The Eagle, a pub."],
    ["Browns serves English food."],
]


@pytest.fixture
def example(mirror):
    folder = mirror / "e2e_metrics_example"
    items = read_items(folder / "baseline-output.txt", folder / "devel-conc.txt")
    expected = json.loads((folder / "expected_scores.json").read_text())["python_mteval"]
    return items.predictions, items.references, expected


@pytest.mark.java
@pytest.mark.long
@pytest.mark.mirror
def test_the_official_example_gets_the_official_scores(example, java):
    predictions, references, expected = example
    odd = ["", "Café ||| £20", "line\nbreak", "\u2028", *predictions[4:]]
    results = score_many({"baseline": predictions, "odd": odd}, references, java=java)
    scores = results["baseline"]
    assert {name: round(value, 4) for name, value in scores.values.items()} == expected
    assert (scores.approximate, scores.missing, scores.items) == ((), (), 10)
    assert all(0 < results["odd"].values[name] < scores.values[name] for name in scores.values)


@pytest.mark.mirror
def test_the_official_example_without_java(example):
    predictions, references, expected = example
    scores = score_e2e(predictions, references, java=None)
    assert scores.values["METEOR"] is None
    for name in ("BLEU", "NIST"):
        assert round(scores.values[name], 4) == expected[name]
    for name in ("ROUGE_L", "CIDEr"):
        assert scores.values[name] == pytest.approx(expected[name], abs=5e-4)
    assert scores.approximate == ("ROUGE_L", "CIDEr")
    assert scores.missing == ("METEOR",)
    assert "no Java" in scores.tokenizer


def test_a_machine_without_java_is_recognised(no_java):
    scores = e2e_scores(PREDICTIONS, REFERENCES)
    assert tuple(scores) == ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")
    assert scores == score_e2e(PREDICTIONS, REFERENCES, java=None).values
    assert scores["METEOR"] is None


@given(st.lists(st.tuples(st.text(max_size=30), st.lists(st.text(max_size=30), min_size=1, max_size=3)), min_size=1))
def test_any_text_has_scores(items):
    predictions, references = [p for p, _ in items], [r for _, r in items]
    scores = score_e2e(predictions, references, java=None)
    assert scores.values["BLEU"] >= 0
    assert 0 <= scores.values["ROUGE_L"] <= 1 + 1e-12
    assert 0 <= scores.values["CIDEr"] <= 10 + 1e-9
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False)) == scores.to_dict()
    if all(len(p.split()) >= 4 for p in predictions):
        assert scores.values["BLEU"] <= 1 + 1e-12
        assert scores.values["NIST"] >= 0


def test_several_systems_score_as_each_alone():
    others = [text.upper() for text in REFERENCES[1] + REFERENCES[0][:1]]
    together = score_many({"a": PREDICTIONS, "b": others}, REFERENCES, java=None)
    assert together == {
        "a": score_e2e(PREDICTIONS, REFERENCES, java=None),
        "b": score_e2e(others, REFERENCES, java=None),
    }
    assert together["a"] != together["b"]
    assert score_many({}, REFERENCES, java=None) == {}


def test_steps_are_told():
    steps = []
    score_many({"seed 18": PREDICTIONS}, REFERENCES, java=None, progress=steps.append)
    assert any("seed 18" in step for step in steps)
    assert len(steps) >= 4


def test_degenerate_predictions_are_noted():
    assert score_e2e(PREDICTIONS, REFERENCES, java=None).notes == ()
    notes = score_e2e([PREDICTIONS[0], ""], REFERENCES, java=None).notes
    assert "1 of 2 predictions are empty" in notes[0]
    assert "1 of 2 predictions have fewer than 4 words" in notes[1]


def test_a_broken_java_is_an_error_not_a_missing_score(program):
    broken = program('[ "$1" = -version ] && exit 0; echo cannot allocate >&2; exit 1')
    with pytest.raises(ReplicationError, match="cannot allocate"):
        e2e_scores(PREDICTIONS, REFERENCES, java=broken)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        (["a"], [["a"], ["b"]], "1 predictions but references for 2 items"),
        ([], [], "no predictions"),
        (["a", "b"], [["a"], []], r"references\[1\] is empty"),
        (["a", None], [["a"], ["b"]], r"predictions\[1\] is NoneType"),
        (["a", "b"], [["a"], ["b", 3]], r"references\[1\]\[1\] is int"),
        (["a"], ["a"], r"references\[0\] is str"),
        ("ab", [["a"], ["b"]], "predictions is str"),
        (["a"], "a", "references is str"),
        (["a"], {"a": ["b"]}, "references is dict"),
        (["a"], [None], r"references\[0\] is NoneType"),
    ],
)
def test_unusable_items_are_named(predictions, references, message):
    with pytest.raises(DataError, match=message):
        e2e_scores(predictions, references)


def test_the_system_at_fault_is_named():
    with pytest.raises(DataError, match=r"seed 7: predictions\[0\]"):
        score_many({"seed 5": ["a"], "seed 7": [1]}, [["a"]], java=None)


def test_importing_is_light():
    code = (
        "import sys; from replication.metrics import e2e_scores; "
        "print(sorted({'torch', 'transformers', 'datasets', 'evaluate', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
            [
                {"id": 1, "prediction": "", "answers": [], "no_answer_score": 1.0},
                {"id": 2, "prediction": "red y", "answers": ["y"], "no_answer_score": -1.0},
            ],
            {"exact_match": 0.5, "f1": (1 + 2 / 3) / 2}
            | {"HasAns_exact": 0.0, "HasAns_f1": 2 / 3, "NoAns_exact": 1.0, "NoAns_f1": 1.0}
            | {"best_exact": 0.5, "best_f1": (1 + 2 / 3) / 2},
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
    with pytest.raises(ConfigError, match="metric 'bleu' is unknown; known are: acc, acc_norm, accuracy, cola"):
        score_task("bleu", BINARY)


def test_scoring_needs_no_torch():
    code = "import sys; from replication.metrics import score_task; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
