from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError
from replication.predictions import read_predictions, write_predictions

ROW = {"mr": "name[A]", "context": "name : A", "prediction": "A is a pub.", "references": ["A, a pub."]}

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
rows = st.lists(
    st.fixed_dictionaries({"mr": text, "context": text, "prediction": text, "references": st.lists(text)}),
    unique_by=lambda row: row["mr"],
)


@given(rows=rows)
def test_what_is_written_is_read_back_one_line_each(rows, tmp_path: Path) -> None:
    path = write_predictions(tmp_path / "deep" / "predictions.jsonl", rows)
    assert read_predictions(path) == rows
    assert path.read_bytes().count(b"\n") == len(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": None}, "field 'prediction' must be a string, found None"),
        ({"mr": 3}, "field 'mr' must be a string"),
        ({"references": "A, a pub."}, "field 'references' must be a list of strings"),
        ({"references": ["x", 1]}, "field 'references' must be a list of strings"),
        ({"score": 1.0}, "unknown field 'score'"),
        ({"context": ...}, "field 'context' is missing"),
        ({}, r"the MR 'name\[A\]' stands at .*, line 1 already"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(change, message: str, tmp_path: Path) -> None:
    bad = {key: value for key, value in {**ROW, **change}.items() if value is not ...}
    path = tmp_path / "predictions.jsonl"
    with pytest.raises(DataError, match=rf"predictions\.jsonl, line 2: {message}"):
        write_predictions(path, [ROW, bad])
    assert list(tmp_path.iterdir()) == []
    path.write_text(f"{json.dumps(ROW)}\n\n{json.dumps(bad)}\n")  # a blank line does not shift the number
    with pytest.raises(DataError, match=rf"predictions\.jsonl, line 3: {message}"):
        read_predictions(path)


@pytest.mark.parametrize("line", ["[1]", '"text"', "{", "null"])
def test_a_line_that_is_no_row(line: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n{line}\n")
    with pytest.raises(DataError, match=r"p\.jsonl, line 2"):
        read_predictions(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: no such file"):
        read_predictions(tmp_path / "none.jsonl")


def test_reading_predictions_needs_no_torch() -> None:
    code = "import sys, replication.predictions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
