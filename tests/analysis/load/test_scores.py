import json

import pytest

from analysis.load.runs import load_experiment, read_metrics
from replication.errors import DataError


def write(path, **changes):
    content = {
        "profile": "cpu", "experiment": "my-mrpc-lora", "form": "classification", "items": 4,
        "metrics": ["accuracy", "f1"], "primary": "f1", "accuracy": 0.75, "f1": 0.5,
        "spread": {"accuracy": 0.1, "f1": None},
        "seeds": {"18": {"accuracy": 0.5, "f1": 0.4}, "52": {"accuracy": 1.0, "f1": 0.6}},
    }  # fmt: skip
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    return path


def test_any_form_names_its_metrics_and_its_primary_one(tmp_path):
    metrics = read_metrics(write(tmp_path / "scores.json"))
    assert (metrics.form, metrics.primary, metrics.metrics) == ("classification", "f1", ("accuracy", "f1"))
    assert metrics.means == {"accuracy": 0.75, "f1": 0.5}
    assert metrics.values("accuracy") == [0.5, 1.0]


def test_a_file_without_form_is_a_generation_task_as_before(quick_runs):
    metrics = load_experiment(quick_runs / "lora").metrics
    assert (metrics.form, metrics.primary) == ("generation", "BLEU")
    assert metrics.metrics == ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")
    assert "BLEU" in metrics.means


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"primary": "bleu"}, "primary is 'bleu'"),
        ({"accuracy": 0.7}, "accuracy is 0.7, which is not the mean"),
        ({"metrics": ["accuracy", "f1", "mcc"]}, "mcc is missing"),
        ({"metrics": ["accuracy"]}, "f1"),
        ({"metrics": "accuracy"}, "expected a list of names"),
        ({"seeds": {"18": {"accuracy": 0.75}}}, "seeds.18 has no f1"),
        ({"f1": None}, "f1 is None"),
        ({"metrics": []}, "metrics"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read_metrics(write(tmp_path / "scores.json", **changes))
