import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import DataError
from replication.fileio import sha256_file, write_json, write_jsonl
from replication.metrics.score_files import read_items
from replication.predictions import compact, gold

line = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1).map(str.strip)
plain = line.filter(lambda text: text and not text.startswith(("{", "\ufeff")))


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        if not isinstance(content, str):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_text(content, encoding="utf-8")
        return path

    return write


@given(items=st.lists(st.tuples(plain, st.lists(plain, min_size=1, max_size=3)), min_size=2, max_size=5))
def test_plain_text_and_json_lines_read_back(items, tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    predictions, references = [p for p, _ in items], [r for _, r in items]
    text_p, text_r, json_p = folder / "p.txt", folder / "r.txt", folder / "p.jsonl"
    text_p.write_text("\n".join(predictions) + "\n", encoding="utf-8")
    text_r.write_text("\n\n".join("\n".join(texts) for texts in references) + "\n", encoding="utf-8")
    rows = [{"prediction": p, "references": r} for p, r in items]
    json_p.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for read in (read_items(text_p, text_r), read_items(json_p), read_items(text_p, json_p)):
        assert read.predictions == predictions
        assert read.references == references


def test_predictions_of_a_run_have_the_references_of_its_gold_file(tmp_path):
    full = [{"mr": f"name[{n}]", "context": n, "prediction": n, "references": [n, "x"]} for n in "ab"]
    folder = tmp_path / "runs" / "quick" / "lora" / "predictions"
    golden = write_jsonl(tmp_path / "gold" / "quick" / "e2e.jsonl", gold(full))
    write_json(folder / "decoding.json", {"gold": "gold/quick/e2e.jsonl", "gold_sha256": sha256_file(golden)})
    path = write_jsonl(folder / "seed-18.jsonl", compact(full))
    assert read_items(path).references == [["a", "x"], ["b", "x"]]
    others = write_jsonl(tmp_path / "r.jsonl", [{"mr": "name[b]", "ref": "B"}, {"mr": "name[a]", "ref": "A"}])
    assert read_items(path, others).references == [["A"], ["B"]]


def test_layout_of_plain_text(file):
    predictions = file("p.txt", "one\r\n\r\n  three \r\n")
    references = file("r.txt", "\ufeffa\nb\n\nc\n \t\nd\n\n\n")
    items = read_items(predictions, references)
    assert items.predictions == ["one", "", "three"]
    assert items.references == [["a", "b"], ["c"], ["d"]]


def test_references_without_a_blank_line(file):
    one_block = file("r.txt", "a\nb\n")
    assert read_items(file("p.txt", "x\ny\n"), one_block).references == [["a"], ["b"]]
    assert read_items(file("q.txt", "x\n"), one_block).references == [["a", "b"]]


def test_an_empty_last_prediction_counts(file):
    assert read_items(file("p.txt", "x\n\n"), file("r.txt", "a\n\nb\n")).predictions == ["x", ""]


def test_json_references_are_grouped_and_matched_by_mr(file):
    predictions = file("p.jsonl", [{"mr": "m2", "prediction": "two"}, {"mr": "m1", "prediction": "one"}])
    grouped = file("r.jsonl", [{"mr": "m1", "ref": "a"}, {"mr": "m2", "ref": "b"}, {"mr": "m1", "ref": "c"}])
    assert read_items(predictions, grouped).references == [["b"], ["a", "c"]]
    lists = file("l.jsonl", [{"mr": "m1", "references": ["a"]}, {"mr": "m2", "references": ["b"]}])
    assert read_items(predictions, lists).references == [["b"], ["a"]]


def test_json_references_without_mrs_are_matched_by_position(file):
    predictions = file("p.txt", "one\ntwo\n")
    grouped = file("r.jsonl", [{"mr": "m", "reference": "a"}, {"mr": "n", "reference": "b"}])
    assert read_items(predictions, grouped).references == [["a"], ["b"]]


def test_json_is_recognised_without_its_suffix(file):
    rows = "\n" + json.dumps({"prediction": "x", "references": ["a"]}) + "\n"
    assert read_items(file("predictions", rows)).references == [["a"]]


def test_references_named_on_the_command_line_take_precedence(file):
    predictions = file("p.jsonl", [{"prediction": "x", "references": []}])
    assert read_items(predictions, file("r.txt", "a\n")).references == [["a"]]


P1 = [{"mr": "m", "prediction": "x"}]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ("", "a\n", r"p: empty"),
        ("x\n", "", r"r: empty"),
        ("x\n", "\n \n", r"r: empty"),
        ("x\ny\n", "a\n\nb\n\nc\nd\n", r"p has 2 .* 3 items; .*r, line 5"),
        ("x\ny\n\n", "a\n\nb\n", r"p has 3 .* 2 items; .*p, line 3"),
        ("x\ny\n", "a\nb\nc\n", r"p has 2 .* 3 items; .*r, line 3"),
        ("x\ny\n", "a\n\n\nb\n", r"r, line 3: a blank line"),
        ("x\n", None, r"p: no \"references\""),
        (P1, None, r"p: no \"references\""),
        ([{"prediction": "x"}, {"text": "y"}], "a\n", r"p, line 2: no field \"prediction\"; it has text"),
        ([{"prediction": "x", "references": ["a"]}, {"prediction": "y"}], None, r"p, line 2: no field \"ref"),
        ([{"prediction": "x", "references": []}], None, r"p, line 1: \"references\" must be"),
        ([{"prediction": "x", "references": "a"}], None, r"p, line 1: \"references\" must be"),
        ([{"prediction": 3}], "a\n", r"p, line 1: \"prediction\" is int"),
        ('{"prediction": "x"}\n\nnot json\n', "a\n", r"p, line 3: not valid JSON"),
        ('{"prediction": "x"}\n\n["y"]\n', "a\n", r"p, line 3: list, expected"),
        (P1, [{"text": "a"}], r"r, line 1: none of the fields"),
        (P1, [{"mr": "m", "ref": "a"}, {"ref": "b"}], r"r, line 2: no field \"mr\""),
        (P1, [{"mr": "other", "ref": "a"}], r"r: no references for .*'m'"),
        (P1, [{"mr": "m", "ref": "a"}, {"mr": "n", "ref": "b"}], r"r: 1 of its 2 meaning representations"),
        (P1, [{"mr": "m", "references": ["a"]}, {"mr": "m", "references": ["b"]}], r"r, line 2: .* line 1"),
    ],
)
def test_what_cannot_be_used_is_named(file, predictions, references, message):
    path = file("p", predictions)
    with pytest.raises(DataError, match=message):
        read_items(path, None if references is None else file("r", references))


def test_files_that_cannot_be_read_are_named(tmp_path, file):
    with pytest.raises(DataError, match="gone: no such file"):
        read_items(tmp_path / "gone")
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"):
        read_items(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match="a folder"):
        read_items(tmp_path)
    (tmp_path / "latin").write_bytes("Café\n".encode("latin-1"))
    with pytest.raises(DataError, match="latin: not UTF-8"):
        read_items(tmp_path / "latin", file("r", "a\n"))
