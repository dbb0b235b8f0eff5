import json
import os
import subprocess
import sys

import pytest

from replication.metrics import e2e_scores

CODE = """
import json, sys
import evaluate
metric = evaluate.load(sys.argv[1])
metric.add_batch(predictions=["the pub is cheap today"], references=[["the pub is cheap now", "a pub"]])
metric.add(prediction="it’s £20", references=["it costs £20"])
print(json.dumps(metric.compute()))
"""


@pytest.mark.slow
def test_the_file_loads_as_an_evaluate_metric_without_a_hub(project_root, tmp_path, no_java):
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "PYTHONPATH": str(project_root),
    }
    path = project_root / "replication" / "metrics" / "e2e.py"
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout.splitlines()[-1])
    assert scores == e2e_scores(
        ["the pub is cheap today", "it’s £20"],
        [["the pub is cheap now", "a pub"], ["it costs £20"]],
        java=None,
    )
