import json
import os
import subprocess
import sys

import pytest

CODE = """
import json, sys
import evaluate
from replication.errors import ReplicationError
folder = sys.argv[1]
found = {}
for task in ("cola", "mrpc", "mnli_matched"):
    metric = evaluate.load(f"{folder}/glue.py", task)
    found[task] = metric.compute(predictions=[1, 1, 1, 0], references=[1, 0, 1, 0])
metric = evaluate.load(f"{folder}/glue.py", "stsb")
found["stsb"] = metric.compute(predictions=[0.5, 2.0, 1.5, 5], references=[0, 2.5, 3.0, 5])
metric = evaluate.load(f"{folder}/squad.py", "squad_v2")
metric.add_batch(predictions=["The Mill", ""], references=[["mill."], []])
found["squad_v2"] = metric.compute()
metric = evaluate.load(f"{folder}/squad.py", "squad_v1")
found["squad_v1"] = metric.compute(predictions=["red cat"], references=[["cat", "dog"]])
said = [{"id": "b", "prediction_text": "dog"}, {"id": "a", "prediction_text": "cat"}]
gold = [{"id": key, "answers": {"text": [text], "answer_start": [0]}} for key, text in (("a", "cat"), ("b", "red dog"))]
metric = evaluate.load(f"{folder}/squad.py", "squad_v1")
found["dictionaries"] = metric.compute(predictions=said, references=gold)
for name in ("glue", "squad"):
    try:
        evaluate.load(f"{folder}/{name}.py", "unknown")
    except KeyError as error:
        found[name] = str(error)
def refused(name, configuration, predictions, references):
    try:
        return evaluate.load(f"{folder}/{name}.py", configuration).compute(
            predictions=predictions, references=references
        )
    except ReplicationError as error:
        return str(error)


found["refused"] = [
    refused("glue", "stsb", [1.0, float("nan"), 2.0], [1, 2, 3]),
    refused("glue", "cola", [1, 1], [1, -1]),
    refused("glue", "cola", [0.2, 1.9], [0, 1]),
    refused("glue", "rte", [True], [1]),
    refused("glue", "mnli_matched", [3], [1]),
    refused("glue", "mrpc", [1, 0], [1]),
    refused("squad", "squad_v1", [3], [["3"]]),
    refused("squad", "squad_v1", said, gold[:1]),
]
print(json.dumps(found))
"""


@pytest.mark.long
def test_glue_and_squad_load_as_evaluate_metrics_without_a_hub(project_root, tmp_path):
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "PYTHONPATH": str(project_root),
    }
    folder = project_root / "replication" / "metrics"
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder)], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["cola"] == {"matthews_correlation": pytest.approx(2 / 12**0.5)}
    assert found["mrpc"] == {"accuracy": 0.75, "f1": pytest.approx(0.8)}
    assert found["mnli_matched"] == {"accuracy": 0.75}
    assert found["stsb"]["spearman"] == pytest.approx(0.8)
    assert found["squad_v1"] == {"exact_match": 0.0, "f1": pytest.approx(2 / 3)}
    assert found["dictionaries"] == {"exact_match": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}
    expected = (
        "row 1: field 'prediction' must be a finite number, found nan",
        "row 1: field 'label' must be a class's index, found -1",
        "row 0: field 'prediction' must be a class's index, found 0.2",
        "row 0: field 'prediction' must be a class's index, found True",
        "row 0: field 'prediction' is 3; the classes are",
        "2 predictions but 1 labels",
        "row 0: field 'prediction' must be text, found 3",
        "each id needs one prediction and one entry of references; see 'b'",
    )
    assert all(said.startswith(start) for said, start in zip(found["refused"], expected, strict=True))
    parts = ("HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1")
    assert found["squad_v2"] == dict.fromkeys(("exact_match", "f1", *parts), 1.0)
    assert "known are: cola" in found["glue"]
    assert "known are: squad_v1" in found["squad"]
