import csv
import io
import json
from dataclasses import replace

import datasets
import huggingface_hub
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.corpora.summaries import CORPORA, parse_cnn_dailymail, parse_xsum
from replication.errors import DataError

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1)


@given(rows=st.lists(st.tuples(text, text), min_size=1, max_size=4))
def test_csv_texts_with_quotes_commas_and_line_breaks_are_kept(rows):
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(("article", "highlights", "id"))
    writer.writerows((document, summary, str(number)) for number, (document, summary) in enumerate(rows))
    parsed = list(parse_cnn_dailymail("here", out.getvalue()))
    assert [(row["document"], row["summary"]) for row in parsed] == rows
    assert [row["id"] for row in parsed] == [str(number) for number in range(len(rows))]


@pytest.mark.parametrize(
    ("csv_text", "complaint"),
    [
        ("article,id\na,1\n", "line 1: column highlights is missing"),
        ('article,highlights,id\n"a\nb",c,1\nd,e\n', "line 4: not 3 columns"),
        ("article,highlights,id\na,b,1,2\n", "line 2: not 3 columns"),
        ('article,highlights,id\na,b,1\n"a,b,2\n', "line 3: not well-formed CSV"),
    ],
)
def test_csv_errors_name_the_line_a_row_begins_on(csv_text, complaint):
    with pytest.raises(DataError, match=f"^here, {complaint}"):
        list(parse_cnn_dailymail("here", csv_text))


def test_xsum_lines_may_have_an_id():
    lines = [{"document": "d\ne", "summary": "s", "id": 34268361}, {"summary": "t", "document": " f "}]
    assert list(parse_xsum("here", "\n".join(map(json.dumps, lines)))) == [
        {"id": "34268361", "document": "d\ne", "summary": "s"},
        {"document": " f ", "summary": "t"},
    ]
    with pytest.raises(DataError, match=r"^here, line 2: no field summary"):
        list(parse_xsum("here", '{"document": "d", "summary": "s"}\n{"document": "d"}'))
    with pytest.raises(DataError, match=r"^here, line 1: no field document or summary"):
        list(parse_xsum("here", "[]"))


def test_the_hubs_columns_become_documents_and_summaries(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path))
    info = type("Info", (), {"sha": "c" * 40})
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, repo, revision: info)
    rows = {
        "EdinburghNLP/xsum": {"document": "d", "summary": "s", "id": "1"},
        "abisee/cnn_dailymail": {"article": "d", "highlights": "s", "id": "1"},
    }
    asked = []

    def load_dataset(path, name, *, split, revision):
        asked.append((path, name, split, revision))
        return datasets.Dataset.from_list([rows[path]])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for name in ("xsum", "cnn_dailymail"):
        corpus = replace(CORPORA[name], counts={"train": 1, "test": 1}).load()
        assert corpus.splits["test"] == [{"id": "1", "document": "d", "summary": "s"}]
    assert asked[1] == ("EdinburghNLP/xsum", None, "test", "c" * 40)
    assert asked[3] == ("abisee/cnn_dailymail", "3.0.0", "test", "96df5e686bee6baa90b8bee7c28b81fa3fa6223d")


@pytest.mark.mirror
@pytest.mark.parametrize(("name", "train", "test"), [("xsum_subset", 926, 1000), ("cnn_dailymail_subset", 500, 500)])
def test_the_subsets_share_no_document_and_compare_with_nothing(mirror, name, train, test):
    corpus = CORPORA[name].load(mirror)
    assert (len(corpus.splits["train"]), len(corpus.splits["test"])) == (train, test)
    assert not corpus.comparable
    assert "ever compares" in corpus.note
    # Documents only: CNN's transcript pages share one boilerplate summary.
    assert not {row["document"] for row in corpus.splits["train"]} & {row["document"] for row in corpus.splits["test"]}
