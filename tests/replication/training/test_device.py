"""The device of what only evaluates is the training loop's."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from accelerate import Accelerator

from replication.training.device import default_device


def test_it_is_where_the_loop_trains():
    assert default_device() == Accelerator().device


@pytest.mark.parametrize(
    "file", ["pipelines/predict.py", "pipelines/shared/baseline.py", "replication/commands/predict.py"]
)
def test_whatever_predicts_takes_it(project_root, file):
    names = {
        node.id for node in ast.walk(ast.parse(Path(project_root / file).read_text())) if isinstance(node, ast.Name)
    }
    assert "default_device" in names
