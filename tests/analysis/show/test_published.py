import csv
import io
import re

import pytest

from analysis.judge.published_vs_measured import lora_differences
from analysis.judge.study import Study
from analysis.load.paper_folder import load_published
from analysis.load.published import load_tables
from analysis.load.runs import load_profile
from analysis.show.published import differences_from_lora, published_csv

PUBLISHED = load_published()


@pytest.fixture
def study(quick_runs):
    return Study.of(load_profile(quick_runs))


def test_published_differences_keep_their_digits_and_show_their_standing(study):
    """Table 1: BLEU 0.677 against 0.6745, NIST 8.64 against 8.58; one CIDEr cannot be read."""
    block = differences_from_lora(lora_differences(study, PUBLISHED), PUBLISHED.tables, "why")
    solo = next(row for row in block.rows if row[0].startswith("Solo Connection GPT-2 Medium minus Baseline LoRA"))
    shown = dict(zip(block.headers, solo, strict=True))
    assert [shown[f"{name} published"] for name in ("BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr")] == [
        "+0.0025", "+0.06", "+0.0002", "+0.0033", "unreadable",
    ]  # fmt: skip
    assert shown["CIDEr published"].standing == "unreadable"
    assert re.fullmatch(r"[+−]0\.\d{3} \([+−].* to [+−].*\)", shown["BLEU here"])
    assert shown["Verdict on its scores"] == "not comparable"
    assert any("why" in note for note in block.notes)
    assert any("Standing of a published figure" in line for line in block.legend)
    assert all(len(row) == len(block.headers) for row in block.rows)
    assert not any("LoRA minus" in row[0].split(" minus ")[0] for row in block.rows)


def test_without_runs_there_are_no_rows():
    found = lora_differences(Study.of([]), PUBLISHED)
    assert (found, differences_from_lora(found, PUBLISHED.tables, None).rows) == ([], ())


def test_every_published_row_is_in_the_csv():
    found = list(csv.DictReader(io.StringIO(published_csv(load_tables()))))
    assert len(found) == sum(len(table.rows) for table in load_tables()) == 20
    assert {entry["CIDEr"] for entry in found if entry["CIDEr_standing"] == "unreadable"} == {"2.3?"}


def test_a_table_that_prints_fewer_metrics_has_blanks():
    table = load_tables()[0]
    rows = tuple(row.model_copy(update={"cells": {"BLEU": row.cells["BLEU"]}}) for row in table.rows)
    found = list(csv.DictReader(io.StringIO(published_csv([table.model_copy(update={"rows": rows})]))))
    assert {(entry["NIST"], entry["NIST_standing"]) for entry in found} == {("", "")}
    assert all(entry["BLEU"] for entry in found)
