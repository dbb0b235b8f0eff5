import csv
import io
import json
import zipfile
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.errors import DataError
from replication.fileio import sha256_file, write_json, write_jsonl
from replication.metrics import e2e_scores
from replication.metrics.layouts import STDIN
from replication.metrics.score_files import Items, read_items
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
        (P1, [{"id": "m", "references": ["a"]}], r'p names its inputs by "mr", .*r by "id"'),
        ([{"ref": "a"}], "a\n", r'p, line 1: no field "prediction"; it has ref'),
        (
            "mr\toutput\nname[A]\tx\nname[A]\ty\n",
            "a\n",
            r"p, line 3: another prediction .*'name\[A\]' than .*p, line 2",
        ),
        ("name[A]\tx\nno tab here\n", "a\n", r"p, line 2: 0 tabs, but line 1 has 1"),
        ("a\tb\tc\nd\te\tf\n", "a\n", r"p, line 1: a TSV line of 3 columns .* expected the columns mr, text"),
        ("mr,output\nname[A],x, y\n", "a\n", r"p, line 2: 3 columns where 2 belong \(mr, output\); quote"),
        ('mr,output\nname[A],"x\n', "a\n", r"p, line 2: unexpected end of data; cells with"),
        ("mr,output\n", "a\n", r"p: only a header"),
        ("[]", "a\n", r"p: empty"),
        ('["x", 3]', "a\n", r"p, entry 1: str, expected a JSON object"),
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


# --- one set of items in every layout ------------------------------------------------------------

name = st.from_regex(r"name\[[A-Za-z ]{1,8}\], food\[[a-z]{1,5}\]", fullmatch=True).map(lambda mr: " ".join(mr.split()))
words = st.sampled_from(["The Mill", "serves", "cheap, good", "food", '"fine"', "near", "£20-25", "."])
# A text that is quoted as a whole cannot be told from a quoted cell of a TSV file.
sentence = st.lists(words, max_size=5).map(lambda more: " ".join(["It", *more]))
corpora = st.dictionaries(name, st.tuples(sentence, st.lists(sentence, min_size=1, max_size=3)), min_size=2, max_size=4)


def table(rows, delimiter, header=None, quoting=csv.QUOTE_MINIMAL):
    handle = io.StringIO()
    csv.writer(handle, delimiter=delimiter, lineterminator="\n", quoting=quoting).writerows(
        [header, *rows] if header else rows
    )
    return handle.getvalue()


def prediction_files(pairs):
    """File name -> content, all of the same pairs of input and prediction."""
    objects = [{"mr": mr, "prediction": said} for mr, said in pairs]
    return {
        "p.tsv": "".join(f"{mr}\t{said}\n" for mr, said in pairs),
        "header": "MR\toutput\n" + "".join(f"{mr}\t{said}\n" for mr, said in pairs),
        "quoted": table(pairs, "\t", ("mr", "text"), csv.QUOTE_ALL),
        "p.csv": table(pairs, ","),
        "all.csv": table(pairs, ",", ("mr", "ref"), csv.QUOTE_ALL),
        "comma.txt": table(pairs, ",", ("MR", "System output")),
        "p.jsonl": "".join(json.dumps(row) + "\n" for row in objects),
        "lines": "\n".join(json.dumps(row) for row in objects),
        "p.json": json.dumps(objects, indent=1),
        "array": json.dumps(objects),
    }


def reference_files(rows):
    objects = [{"mr": mr, "ref": text} for mr, text in rows]
    return {
        "r.csv": table(rows, ",", ("mr", "ref"), csv.QUOTE_ALL),
        "r.tsv": table(rows, "\t", ("mr", "ref"), csv.QUOTE_ALL),
        "r.jsonl": "".join(json.dumps(row) + "\n" for row in objects),
        "r.json": json.dumps(objects),
    }


@settings(max_examples=12, deadline=None)
@given(items=corpora, data=st.data())
def test_layout_folding_and_order_do_not_change_the_items(items, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts")
    reference_rows = [(mr, text) for mr, (_, texts) in items.items() for text in texts]
    moved = data.draw(st.permutations(list(items)))
    pairs = [(mr, items[mr][0]) for mr in moved]
    repeated = pairs + data.draw(st.lists(st.sampled_from(pairs), max_size=4))
    ends = data.draw(st.sampled_from(["\n", "\r\n"]))
    mark = data.draw(st.sampled_from(["", "\ufeff"]))
    references = {key: folder / key for key in reference_files(reference_rows)}
    for key, content in reference_files(reference_rows).items():
        references[key].write_text(mark + content, "utf-8", newline=ends)
    expected = Items([said for _, said in pairs], [items[mr][1] for mr in moved], moved)
    for chosen in (pairs, repeated):
        for key, content in prediction_files(chosen).items():
            (folder / key).write_text(mark + content, "utf-8", newline=ends)
            for path in references.values():
                found = read_items(folder / key, path)
                assert replace(found, notes=()) == expected
                assert bool(found.notes) == (len(chosen) > len(pairs))
    plain = folder / "plain.txt"
    plain.write_text("".join(f"{said}\n" for said, _ in items.values()), "utf-8", newline=ends)
    by_position = read_items(plain, references["r.csv"])
    assert sorted(by_position.inputs) == sorted(moved)
    assert score(by_position) == pytest.approx(score(expected), nan_ok=True)


def score(items):
    return [value for value in e2e_scores(items.predictions, items.references, java=None).values() if value is not None]


def test_one_prediction_for_each_row_of_references_folds(file):
    """4,693 rows of the release's test set are 630 inputs; as 4,693 items BLEU would be 3.5 points higher."""
    rows = [("name[A]", "a one"), ("name[A]", "a two"), ("name[B]", "b one"), ("name[B]", "b two"), ("name[C]", "c")]
    references = file("r.csv", table(rows, ",", ("mr", "ref")))
    expected = Items(
        ["x", "y", "z"], [["a one", "a two"], ["b one", "b two"], ["c"]], ["name[A]", "name[B]", "name[C]"]
    )
    said = {"name[A]": "x", "name[B]": "y", "name[C]": "z"}
    with_inputs = file("p.jsonl", [{"mr": mr, "prediction": said[mr], "references": [text]} for mr, text in rows])
    plain = file("p.txt", "".join(f"{said[mr]}\n" for mr, _ in rows))
    one_a_line = file("r.txt", "".join(f"{text}\n" for _, text in rows))
    for found in (read_items(with_inputs, references), read_items(plain, references), read_items(with_inputs)):
        assert replace(found, notes=()) == expected
    assert "5 rows of" in read_items(plain, references).notes[0]
    assert "are 3 inputs, each scored once" in read_items(plain, references).notes[0]
    assert read_items(with_inputs, one_a_line).references == expected.references
    other = file("o.txt", "x\nX\ny\ny\nz\n")
    with pytest.raises(DataError, match=r"o\.txt, line 2: another prediction .*'name\[A\]' than .*o\.txt, line 1"):
        read_items(other, references)


def test_complete_lists_of_one_input_unite(file):
    predictions = file("p.jsonl", P1)
    lists = file("r.jsonl", [{"mr": "m", "references": texts} for texts in (["a", "b"], ["a", "b"], ["b", "c"])])
    assert read_items(predictions, lists).references == [["a", "b", "c"]]
    both = file("b.jsonl", [{"mr": "m", "prediction": "x", "references": ["a"]}] * 2)
    assert read_items(both).references == [["a"]]


def test_standard_input(file, monkeypatch):
    references = file("r.txt", "a\n\nb\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfx\r\ny\r\n")))
    assert read_items(STDIN, references).predictions == ["x", "y"]
    with pytest.raises(DataError, match="not both"):
        read_items(STDIN, STDIN)


def test_quotation_marks_in_a_tsv_without_quoting_are_text(file):
    rows = 'name[A]\t"Fine" food.\nname[B]\t"Quoted"\n'
    assert read_items(file("p.tsv", rows), file("r.txt", "a\n\nb\n")).predictions == ['"Fine" food.', '"Quoted"']


@pytest.mark.parametrize("line", ["Source, a pub, is cheap.", "[The Mill] serves food.", "name[A] is, well, a pub"])
def test_odd_sentences_are_plain_text(file, line):
    assert read_items(file("p.txt", f"{line}\nmore\n"), file("r.txt", "a\n\nb\n")).predictions == [line, "more"]


@pytest.mark.mirror
def test_the_release_and_its_example_in_other_layouts(file, mirror):
    with zipfile.ZipFile(mirror / "e2e_nlg" / "e2e-dataset.zip") as release:
        references = file("testset_w_refs.csv", release.read("e2e-dataset/testset_w_refs.csv").decode("utf-8-sig"))
    rows = list(csv.DictReader(io.StringIO(references.read_text("utf-8"))))
    first = {}
    for row in rows:
        first.setdefault(row["mr"], row["ref"])
    each = read_items(file("p.jsonl", [{"mr": row["mr"], "prediction": first[row["mr"]]} for row in rows]), references)
    once = read_items(file("p.txt", "".join(f"{text}\n" for text in first.values())), references)
    assert (len(rows), len(once.predictions)) == (4693, 630)
    assert replace(each, notes=()) == once

    folder = mirror / "e2e_metrics_example"
    official = read_items(folder / "baseline-output.txt", folder / "devel-conc.txt")
    pairs = [(f"name[{number}]", text) for number, text in enumerate(official.predictions)]
    many = [(f"name[{number}]", text) for number, texts in enumerate(official.references) for text in texts]
    for key, content in prediction_files(pairs).items():
        for other, text in reference_files(many).items():
            found = read_items(file(key, content), file(other, text))
            assert (found.predictions, found.references) == (official.predictions, official.references)
        against_plain = read_items(file(key, content), folder / "devel-conc.txt")
        assert against_plain.references == official.references
