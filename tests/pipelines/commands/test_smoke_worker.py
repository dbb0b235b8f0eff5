"""The process that runs cells: all stages of an experiment, and what it says of one that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

import pipelines.commands.smoke_worker as worker
from replication.errors import DataError


def test_an_experiment_goes_through_its_stages(small_home):
    found = worker.run("run", "sentiment-weight-lora")
    assert found | {"seconds": 0} == {"stage": None, "error": None, "fix": None, "seconds": 0, "cuda_bytes": None}
    run = Path("runs/quick/sentiment-weight-lora")
    assert all((run / name).exists() for name in ("training", "adapter", "predictions", "scores.json"))
    assert worker.run("preflight", "headlines-lora")["error"] is None


@pytest.mark.parametrize(
    ("error", "said", "fix"),
    [
        (DataError("weights/x: no such file;\n`dvc repro` makes it"), "weights/x: no such file; `dvc repro` makes it",
         None),
        (KeyError("w"), "KeyError: 'w'", worker.REPORT_FIX),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory\nmore"),
         "OutOfMemoryError: CUDA out of memory", worker.MEMORY_FIX),
        (RuntimeError(), "RuntimeError: ", worker.REPORT_FIX),
    ],
)  # fmt: skip
def test_a_failure_names_stage_reason_and_fix(monkeypatch, error, said, fix):
    def fail():
        raise error

    monkeypatch.setattr(worker, "stages", lambda kind, key: iter([("finetune", lambda: None), ("predict", fail),
                                                                  ("score", pytest.fail)]))  # fmt: skip
    found = worker.run("run", "rte-lora")
    assert (found["stage"], found["error"], found["fix"]) == ("predict", said, fix)
