"""The loader refuses files that contradict themselves, and says where."""

import pytest

from analysis.load.authors import load_authors
from replication.errors import DataError


def rename(cells, old, new):
    cells[new] = cells.pop(old)


def first_rates(content):
    """LoRA on GLUE, by the first source."""
    return content["learning_rates"][0]


def setting(content, name, number):
    """One of the entries of a setting that several sources state."""
    return [entry for entry in content["settings"] if entry["name"] == name][number]


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        (
            "weightlora_logs",
            lambda c: c["rows"][1]["cells"]["loss"].update(value=0.4),
            "0.4 does not match text '0.3877'",
        ),
        ("weightlora_logs", lambda c: c["rows"][1].update(keep=6), "row cola-k5: keep is 6, selected names 5"),
        ("weightlora_logs", lambda c: c["rows"][1]["selected"]["value"].reverse(), "not in the log's order"),
        ("weightlora_logs", lambda c: c["rows"][1].update(comparable=False), "why_not is given exactly where"),
        ("weightlora_logs", lambda c: c["rows"][1]["cells"]["loss"].pop("unit"), r"cells\.loss\.unit"),
        ("weightlora_memory", lambda c: c["series"][0]["cells"][1].update(standing="believed"), r"cells\.1\.standing"),
        ("weightlora_inner_products", lambda c: c.update(remark="x"), "remark"),
        (
            "weightlora",
            lambda c: c["counted"]["all"].update(value=1, text="1"),
            "all is 1, the closed form gives 442368",
        ),
        ("weightlora", lambda c: c["counted"]["kept"][5].update(value=2, text="2"), r"kept.5 is 2, .* gives 61440"),
        (
            "weightlora",
            lambda c: c["counted"]["fewer"][5].update(value=85, text="85"),
            "fewer is 85, but 61,440 lies 86.11",
        ),
        ("weightlora", lambda c: c["unreadable"][0].update(value=3, text="3"), "exactly when unreadable"),
        ("weightlora", lambda c: c["variants"][0]["cells"]["code_2025_08"].update(text="?"), "exactly for unreadable"),
        (
            "weightlora",
            lambda c: rename(c["variants"][0]["cells"], "code_2025_08", "code_2025_8"),
            "did you mean 'code_2025_",
        ),
        ("weightlora", lambda c: rename(c["learning_rates"][0]["cells"], "sst2", "sst-2"), "did you mean 'sst2'"),
        ("weightlora", lambda c: c["faults"][0].pop("sources"), r"faults\.0\.sources: is missing"),
        (
            "weightlora_logs",
            lambda c: rename(c["rows"][1]["cells"], "loss", "lose"),
            "unknown metric 'lose'; did you mean 'loss'",
        ),
        (
            "weightlora_logs",
            lambda c: c["rows"][1]["cells"].pop("train_loss"),
            "row cola-k5: cells: train_loss is missing",
        ),
        ("weightlora_logs", lambda c: c["rows"][1]["cells"]["loss"].update(sources=["logs"]), "did you mean 'log'"),
        (
            "weightlora_memory",
            lambda c: c["series"][0]["cells"][1].update(unit="share"),
            "rank 8, cells.1: must be a number in GB",
        ),
        ("weightlora_inner_products", lambda c: rename(c["cells"]["raw"], "key#3", "key#33"), "did you mean 'key#3'"),
        ("weightlora_inner_products", lambda c: c["cells"]["raw"].pop("key#3"), "cells.raw: key#3 is missing"),
        (
            "weightlora",
            lambda c: first_rates(c)["cells"]["cola"].update(sources=["lib_9e97d60"]),
            r"learning_rates\.0: cells: sources lib_9e97d60, weight_lora_56ce27b: give each source a row of its own",
        ),
        (
            "weightlora",
            lambda c: first_rates(c).update(used=["cola"], because="x"),
            "cola of lora .*: used from weight_lora_56ce27b .* and lib_9e97d60 .*under `used` of one row",
        ),
        (
            "weightlora",
            lambda c: [rates.pop("used", 0) and rates.pop("because") for rates in c["learning_rates"]],
            "cola of lora .*: stated by weight_lora_56ce27b .*, brain_wlora_809edb8 .*, lib_9e97d60 .*; "
            "name cola under `used`",
        ),
        ("weightlora", lambda c: first_rates(c).update(used=["cola"]), "used and because go together"),
        (
            "weightlora",
            lambda c: first_rates(c).update(used=["colaa"], because="x"),
            "unknown task 'colaa'; did you mean 'cola'",
        ),
        (
            "weightlora",
            lambda c: c["learning_rates"].append(first_rates(c)),
            "weight_lora_56ce27b glue_experiment/tuned_params.json states it twice",
        ),
        (
            "weightlora",
            lambda c: c["settings"][0].update(sources=["wlora_25c6270", "code"], note="checked"),
            r"settings\.0: alpha: sources wlora_25c6270, code: give each source an entry of its own",
        ),
        ("weightlora", lambda c: c["settings"][0].pop("because"), "alpha: used without `because`"),
        (
            "weightlora",
            lambda c: setting(c, "weight decay", 1).update(used=True, because="x"),
            "settings: weight decay: used from wlora_25c6270 and lib_2205e83; set `used` in one entry",
        ),
        (
            "weightlora",
            lambda c: (setting(c, "weight decay", 0).pop("used"), setting(c, "weight decay", 0).pop("because")),
            "weight decay: stated by wlora_25c6270, lib_2205e83; set `used` and `because`",
        ),
        (
            "weightlora",
            lambda c: c["settings"].append(setting(c, "weight decay", 1)),
            "settings: weight decay: lib_2205e83 states it twice",
        ),
        (
            "weightlora",
            lambda c: c["sources"]["lib_9e97d60"].pop("date"),
            r"sources\.lib_9e97d60: a commit needs its repository \(owner/name\) and its date",
        ),
        ("weightlora", lambda c: c["sources"]["lib_9e97d60"].update(commit="HEAD"), r"sources\.lib_9e97d60\.commit"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(published_folder, change, name, edit, message):
    change(name, edit)
    with pytest.raises(DataError, match=message) as caught:
        load_authors(published_folder)
    assert f"{name}.yaml, " in str(caught.value)


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


def test_the_source_that_is_followed_stands_first(authors):
    rows = authors.facts.rates("deberta-v3-base", "lora", "rte")
    assert [(row.source, row.cells["rte"].text) for row in rows] == [
        ("brain_wlora_809edb8", "5e-4"),
        ("weight_lora_56ce27b", "5e-4"),
        ("lib_9e97d60", "5e-5"),
    ]
    assert authors.facts.sources["lib_9e97d60"].short == "Vepricov/LIB 9e97d60 (2025-07-14)"
