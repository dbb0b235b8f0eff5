"""Notebooks are committed without outputs and run from top to bottom on a folder of runs."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def synthetic_runs():
    spec = importlib.util.spec_from_file_location("synthetic_runs", ROOT / "tests" / "analysis" / "synthetic_runs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_holds_no_metric_or_training_code(path):
    """A notebook may define a short function; loops over batches, optimizers and scores live in the packages."""
    source = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    names = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    assert not names & {"backward", "AdamW", "cross_entropy", "compute_score", "corpus_bleu"}
    assert "from analysis." in source
    assert "from replication." in source


@pytest.mark.long
def test_solo_connection_runs_from_top_to_bottom(tmp_path, monkeypatch):
    from nbclient import NotebookClient

    synthetic_runs().write_runs(tmp_path / "runs", items=12, seeds=(18, 52))
    monkeypatch.setenv("REPLICATION_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("REPLICATION_PROFILE", "quick")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(ROOT / "notebooks" / "solo_connection.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}})
    client.execute()
    text = "\n".join(
        str(output.get("text") or output.get("data", {}))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "259,499" in text
    assert "315,605" in text
    assert "57.2% fewer than LoRA, counted" in text
    assert "59.0% fewer than the 0.77M" in text
    assert "equal with the zero vector: True" in text
    assert "Solo Connection (r=12, k=2)" in text
    assert text.count("<svg") == 3
    assert "not_tested" in text
