"""The loader refuses files that contradict themselves, and says where."""

import json
import shutil

import pytest

from analysis.authors import load_authors
from analysis.published import DIRECTORY
from replication.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(DIRECTORY, tmp_path / "paper_results")


def change(folder, name, edit):
    path = folder / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        (
            "weightlora_logs",
            lambda c: c["rows"][1]["cells"]["loss"].update(value=0.4),
            "0.4 is not what text '0.3877' says",
        ),
        ("weightlora_logs", lambda c: c["rows"][1].update(keep=6), "row cola-k5: keep is 6, selected names 5"),
        ("weightlora_logs", lambda c: c["rows"][1]["selected"]["value"].reverse(), "not in the log's order"),
        ("weightlora_logs", lambda c: c["rows"][1].update(comparable=False), "why_not is given exactly where"),
        ("weightlora_logs", lambda c: c["rows"][1]["cells"]["loss"].pop("unit"), r"cells\.loss\.unit"),
        ("weightlora_memory", lambda c: c["series"][0]["cells"]["1"].update(standing="believed"), "standing"),
        ("weightlora_inner_products", lambda c: c.update(remark="x"), "remark"),
        (
            "weightlora",
            lambda c: c["counted"]["all"].update(value=1, text="1"),
            "all is 1, the closed form gives 442368",
        ),
        ("weightlora", lambda c: c["counted"]["kept"]["5"].update(value=2, text="2"), r"kept.5 is 2, .* gives 61440"),
        ("weightlora", lambda c: c["unreadable"][0].update(value=3, text="3"), "an unreadable figure has no value"),
        ("weightlora", lambda c: c["rules"].update(margin=0), r"rules\.margin"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(folder, name, edit, message):
    change(folder, name, edit)
    with pytest.raises(DataError, match=message) as caught:
        load_authors(folder)
    assert f"{name}.json" in str(caught.value)


def test_mnli_is_their_mismatched_split_alone(authors):
    row = authors.logs.row("mnli", 10)
    assert row.score("accuracy_mismatched").text == "0.8706"
    assert row.score("accuracy") is None
    assert row.score("accuracy_matched") is None
    assert authors.logs.row("stsb", 1).score("spearman").text == "0.8739"
    assert authors.logs.row("cola", 3) is None


def test_only_the_paper_profile_may_stand_beside_their_figures(authors):
    assert authors.facts.why_not_comparable("paper") is None
    assert "MiniLM-L6" in authors.facts.why_not_comparable("cpu")
    assert authors.facts.why_not_comparable("other") is not None
