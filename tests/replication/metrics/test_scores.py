import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError, ReplicationError
from replication.metrics import e2e_scores, score_e2e, score_many
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
