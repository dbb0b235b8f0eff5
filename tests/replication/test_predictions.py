from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError
from replication.fileio import sha256_file, write_json, write_jsonl
from replication.predictions import compact, full_rows, gold, join, read_gold, read_predictions, write_predictions

ROW = {"mr": "name[A]", "context": "name : A", "prediction": "A is a pub.", "references": ["A, a pub."]}

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
number = st.floats(allow_nan=False, allow_infinity=False)
generated = st.fixed_dictionaries({"mr": text, "context": text, "prediction": text, "references": st.lists(text)})
loss = st.fixed_dictionaries({"reference_nll": number.map(abs), "reference_tokens": st.integers(1, 99)})
rows = st.lists(
    st.one_of(generated, st.builds(lambda row, more: {**row, **more}, generated, loss)), unique_by=lambda row: row["mr"]
)
FORMS = {
    "classification": st.fixed_dictionaries(
        {"id": text, "prediction": st.integers(), "label": st.integers(), "logits": st.lists(number)},
        optional={"subset": text},
    ),
    "regression": st.fixed_dictionaries({"id": text, "prediction": number, "label": number}),
    "multiple_choice": st.fixed_dictionaries(
        {"id": text, "prediction": st.integers(), "label": st.integers(), "scores": st.lists(number)}
    ),
    "question_answering": st.fixed_dictionaries(
        {"id": text, "prediction": text, "answers": st.lists(text), "no_answer_score": number}
    ),
    "summarisation": st.fixed_dictionaries({"id": text, "prediction": text, "references": st.lists(text)}),
    "generation": rows,
}
FORMS = {
    form: row if form == "generation" else st.lists(row, unique_by=lambda row: row["id"]) for form, row in FORMS.items()
}


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
        ({"reference_nll": 3.5}, "field 'reference_nll' without the other"),
        ({"reference_nll": -1.0, "reference_tokens": 4}, "field 'reference_nll' must be a finite number of at least 0"),
        ({"reference_nll": 1.0, "reference_tokens": 0}, "field 'reference_tokens' must be a whole number"),
        ({"reference_nll": 1.0, "reference_tokens": True}, "field 'reference_tokens' must be a whole number"),
        ({}, r"duplicate MR 'name\[A\]', first at .*, line 1"),
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


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
def test_compact_rows_and_gold_give_the_full_rows(form: str, data) -> None:
    full = data.draw(FORMS[form])
    said, golden = compact(full), gold(full)
    assert join(said, golden) == full
    for row, truth in zip(said, golden, strict=True):
        assert set(row) & set(truth) == {"id"}
        assert not set(row) & {"mr", "context", "references", "label", "answers", "subset"}


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
def test_a_prediction_file_with_gold_reads_like_a_full_one(form: str, data, tmp_path: Path) -> None:
    full = data.draw(FORMS[form])
    path, _ = run_of(tmp_path, full)
    assert full_rows(path) == full
    write_jsonl(path, full)
    assert full_rows(path) == full


def run_of(root: Path, full: list[dict]) -> tuple[Path, Path]:
    """A run with compact rows, and the gold file it names."""
    folder, golden = root / "runs" / "cpu" / "e2e-lora" / "predictions", root / "gold" / "cpu" / "e2e.jsonl"
    write_jsonl(golden, gold(full))
    write_json(folder / "decoding.json", {"gold": "gold/cpu/e2e.jsonl", "gold_sha256": sha256_file(golden)})
    return write_jsonl(folder / "seed-18.jsonl", compact(full)), golden


TWO = [ROW, {**ROW, "mr": "name[B]", "prediction": "B."}]
FIX = r"`dvc repro pipelines/cpu/dvc\.yaml:predict@e2e-lora` predicts again"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (compact(TWO)[::-1], r"seed-18\.jsonl, line 1: the id is 'name\[B\]', but .*e2e\.jsonl has 'name\[A\]' there"),
        (
            [compact(TWO)[0], {"id": "name[C]", "prediction": ""}],
            r"line 2: the id is 'name\[C\]', but .* has 'name\[B\]' there",
        ),
        (compact(TWO)[:1], r"seed-18\.jsonl: the id 'name\[B\]' of .*e2e\.jsonl is missing"),
        ([*compact(TWO), {"id": "name[C]", "prediction": ""}], r"line 3: the id 'name\[C\]' is not in .*e2e\.jsonl"),
        ([*compact(TWO)[:1], {"prediction": "B."}], r"line 2: expected an object with the field 'id'"),
    ],
)
def test_other_items_than_the_gold_files_are_refused(said, message: str, tmp_path: Path) -> None:
    path, _ = run_of(tmp_path, TWO)
    assert read_predictions(path) == TWO
    write_jsonl(path, said)
    with pytest.raises(DataError, match=f"{message}; {FIX}"):
        read_predictions(path)


def test_another_gold_file_is_refused(tmp_path: Path) -> None:
    path, golden = run_of(tmp_path, TWO)
    assert read_predictions(path) == TWO
    write_jsonl(golden, gold([ROW, {**TWO[1], "references": ["another"]}]))
    with pytest.raises(DataError, match=rf"e2e\.jsonl has the sha256 .*decoding\.json names .*; {FIX}"):
        read_predictions(path)
    golden.unlink()
    with pytest.raises(DataError, match=r"e2e\.jsonl: no such file; `dvc repro .*prepare@e2e` writes it"):
        read_predictions(path)
    write_json(path.parent / "decoding.json", {"decoding": {}})
    with pytest.raises(DataError, match=rf"decoding\.json names no gold file; {FIX}"):
        read_predictions(path)
    write_jsonl(path, TWO)  # full rows need no gold file
    assert read_predictions(path) == TWO


def test_a_gold_file_is_found_from_any_working_folder(tmp_path: Path, monkeypatch) -> None:
    run_of(tmp_path, TWO)
    monkeypatch.chdir(tmp_path / "runs" / "cpu")
    assert read_predictions("e2e-lora/predictions/seed-18.jsonl") == TWO


def test_a_gold_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    path, golden = run_of(tmp_path, TWO)
    assert read_gold(golden)[0] is read_gold(golden)[0]
    first, second = full_rows(path), full_rows(path)
    assert first[0]["references"] is second[0]["references"]
    write_jsonl(golden, gold(TWO[:1]))
    assert len(read_gold(golden)[0]) == 1


def test_a_gold_row_is_unique_and_has_an_id(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "gold.jsonl", [{"id": "a", "label": 1}, {"id": "a", "label": 0}])
    with pytest.raises(DataError, match=r"gold\.jsonl, line 2: duplicate id 'a', first at line 1"):
        read_gold(path)
    write_jsonl(path, [{"label": 1}])
    with pytest.raises(DataError, match=r"gold\.jsonl, line 1: field 'id' is missing"):
        read_gold(path)


def test_reading_predictions_needs_no_torch() -> None:
    code = "import sys, replication.predictions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
