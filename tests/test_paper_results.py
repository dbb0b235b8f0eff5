"""The published figures, typed in a second time from the sources, and the rules they are used by."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from analysis.authors import load_authors
from analysis.published import METRICS, load_claims, load_table, load_tables, load_tolerances

DIRECTORY = Path(__file__).resolve().parents[1] / "paper_results"

SOLO = {
    "ft-gpt2-medium": "354.92M 68.2 8.62 46.2 71.0 2.47",
    "lora-gpt2-medium": "0.35M 67.45 8.58 45.93 68.8 2.36",
    "solo-gpt2-medium": "0.26M 67.7 8.64 45.95 69.13 2.3?",
}
LORA = {
    "ft-gpt2-medium": "354.92M 68.2 8.62 46.2 71.0 2.47",
    "adapter-l-gpt2-medium-0-37m": "0.37M 66.3 8.41 45.0 69.8 2.40",
    "adapter-l-gpt2-medium-11-09m": "11.09M 68.9 8.71 46.1 71.3 2.47",
    "adapter-h-gpt2-medium-11-09m": "11.09M 67.3+-.6 8.50+-.07 46.0+-.2 70.7+-.2 2.44+-.01",
    "ft-top2-gpt2-medium": "25.19M 68.1 8.59 46.0 70.8 2.41",
    "prelayer-gpt2-medium": "0.35M 69.7 8.81 46.1 71.4 2.49",
    "lora-gpt2-medium": "0.35M 70.4+-.1 8.85+-.02 46.8+-.2 71.8+-.1 2.53+-.02",
    "ft-gpt2-large": "774.03M 68.5 8.78 46.0 69.9 2.45",
    "adapter-l-gpt2-large-0-88m": "0.88M 69.1+-.1 8.68+-.03 46.3+-.0 71.4+-.2 2.49+-.0",
    "adapter-l-gpt2-large-23-00m": "23.00M 68.9+-.3 8.70+-.04 46.1+-.1 71.3+-.2 2.45+-.02",
    "prelayer-gpt2-large": "0.77M 70.3 8.85 46.2 71.7 2.47",
    "lora-gpt2-large": "0.77M 70.4+-.1 8.89+-.02 46.8+-.2 72.0+-.2 2.47+-.02",
}
USERS = {
    "user-medium-v100": "- 0.6865 8.6808 0.4638 0.7116 2.5030",
    "user-medium-a100": "- 0.6885 8.68 0.4638 0.7139 2.5079",
    "user-medium-third": "- 0.6887 8.6935 0.4650 0.7139 2.5096",
    "user-small": "- 0.6727 8.6009 0.4571 0.6814 2.3076",
}


def as_printed(cell):
    return cell.text if cell.spread_text is None else f"{cell.text}+-{cell.spread_text}"


@pytest.mark.parametrize(
    ("name", "expected"), [("solo_connection", SOLO), ("lora_e2e", LORA), ("lora_e2e_user_reports", USERS)]
)
def test_every_figure_stands_as_printed(name, expected):
    found = {
        row.id: " ".join(
            [row.parameters.text if row.parameters else "-", *(as_printed(row.cells[metric]) for metric in METRICS)]
        )
        for row in load_table(name).rows
    }
    assert found == expected


def test_the_unreadable_digit_has_no_value():
    table = load_table("solo_connection")
    cell = table.rows[2].cells["CIDEr"]
    assert (cell.value, cell.text, cell.standing) == (None, "2.3?", "unreadable")
    assert table.scaled(table.rows[2], "CIDEr") == ("2.3?", None)
    assert table.value(table.rows[2], "CIDEr") is None


def test_only_the_readmes_bleu_is_checked():
    """The README of microsoft/LoRA lists BLEU for FT, Adapter (0.37M, 0.88M), Prefix and LoRA, and nothing else."""
    listed = {"ft", "prelayer", "lora"}
    for row in load_table("lora_e2e").rows:
        in_readme = row.id.split("-gpt2")[0] in listed or row.parameters.text in ("0.37M", "0.88M")
        assert row.cells["BLEU"].standing == ("checked" if in_readme else "unverified"), row.id
        assert {row.cells[metric].standing for metric in METRICS[1:]} == {"unverified"}, row.id


def test_the_solo_papers_ft_row_equals_the_lora_papers_and_is_called_quoted():
    solo, lora = load_table("solo_connection").rows[0], load_table("lora_e2e").rows[0]
    assert {metric: cell.text for metric, cell in solo.cells.items()} == {
        metric: cell.text for metric, cell in lora.cells.items()
    }
    assert {cell.standing for cell in solo.cells.values()} == {"quoted"}


def test_user_reports_are_reported():
    rows = load_table("lora_e2e_user_reports").rows
    assert {cell.standing for row in rows for cell in row.cells.values()} == {"reported"}


@pytest.mark.parametrize("table", load_tables(), ids=lambda table: table.id)
def test_scaling_moves_the_point_and_keeps_the_digits(table):
    for row in table.rows:
        for metric in METRICS:
            cell = row.cells[metric]
            value, spread = table.scaled(row, metric)
            if cell.value is None:
                continue
            assert Decimal(value) * table.scale[metric] == cell.value
            assert len(value.split(".")[1]) == len(cell.text.split(".")[1]) + (2 if table.scale[metric] == 100 else 0)
            assert table.value(row, metric) == pytest.approx(float(value))
            if spread is not None:
                assert Decimal(spread) * table.scale[metric] == cell.spread


def test_bleu_is_on_the_scripts_scale_everywhere():
    """A forgotten conversion would put 68 beside 0.68."""
    for table in load_tables():
        for row in table.rows:
            for metric in ("BLEU", "METEOR", "ROUGE_L"):
                assert 0.4 < table.value(row, metric) < 0.8


def test_quick_and_cpu_are_never_comparable():
    tolerances = load_tolerances()
    assert tolerances.comparable_profiles == ("paper",)
    assert "embedded synthetic corpus" in tolerances.why_not_comparable("quick")
    assert "SmolLM2-135M" in tolerances.why_not_comparable("cpu")
    assert tolerances.why_not_comparable("paper") is None
    assert tolerances.why_not_comparable("some-other") is not None


def test_tolerances_rest_on_printed_seed_spreads():
    """The seed part is the largest spread among the LoRA paper's own LoRA rows."""
    table = load_table("lora_e2e")
    rows = [row for row in table.rows if row.method == "lora"]
    for metric, tolerance in load_tolerances().metrics.items():
        largest = max(row.cells[metric].spread for row in rows) / table.scale[metric]
        assert float(largest) == pytest.approx(tolerance.seed_standard_deviation), metric


def test_a_run_as_the_users_report_them_is_within_or_near_the_tolerance():
    """The reasoning says the users' gap to the paper is about as wide as the BLEU tolerance."""
    printed = load_table("lora_e2e")
    paper = next(printed.value(row, "BLEU") for row in printed.rows if row.id == "lora-gpt2-medium")
    users = load_table("lora_e2e_user_reports")
    gaps = [paper - users.value(row, "BLEU") for row in users.rows if row.backbone == "gpt2-medium"]
    assert load_tolerances().metrics["BLEU"].half_width == pytest.approx(np.mean(gaps), abs=0.002)


def test_claims_are_the_four_of_the_paper():
    claims = load_claims()
    assert [claim.number for claim in claims.claims] == [1, 2, 3, 4]
    assert "59 %" in claims.claims[1].text
    assert {shape.backbone: (shape.solo, shape.lora) for shape in claims.counted} == {
        "gpt2-medium": (259_499, 393_216),
        "gpt2-large": (315_605, 737_280),
    }


def test_every_file_is_explained_and_read():
    readme = (DIRECTORY / "README.md").read_text(encoding="utf-8")
    for path in DIRECTORY.glob("*.json"):
        assert f"`{path.name}`" in readme
        assert json.loads(path.read_text(encoding="utf-8"))["schema_version"] == 1
    for standing in ("checked", "read", "quoted", "unverified", "reported", "unreadable", "paper", "authors_code",
                     "third_party"):  # fmt: skip
        assert f"| `{standing}` |" in readme


# --- WeightLoRA: typed in a second time ------------------------------------------

LOGS = {  # task: primary figure at K = 1, 5, 10
    "cola": "0.5624 0.6491 0.6703", "mnli": "0.7912 0.8638 0.8706", "mrpc": "0.8309 0.8799 0.8775",
    "qnli": "0.8724 0.9136 0.9167", "qqp": "0.8306 0.8685 0.8728", "rte": "0.5271 0.556 0.5343",
    "sst2": "0.8876 0.9427 0.9472", "stsb": "0.8454 0.8859 0.8897",
}  # fmt: skip
FIRST = {"cola": "matthews_correlation", "stsb": "pearson"}


def test_the_logs_stand_as_the_authors_notebook_shows_them():
    logs = load_authors().logs
    assert logs.keeps == (1, 5, 10)
    found = {
        task: " ".join(logs.row(task, keep).cells[FIRST.get(task, "accuracy")].text for keep in logs.keeps)
        for task in logs.tasks
    }
    assert found == LOGS
    assert {row.cells["peak_memory"].text for row in logs.rows} == {"6.533"}  # the same for every K
    assert logs.row("cola", 5).selected.value == ("value#8", "value#9", "key#10", "value#10", "value#11")
    assert logs.row("mnli", 5).selected.value == ("value#8", "key#10", "value#10", "query#11", "value#11")
    assert {row.task for row in logs.rows if not row.comparable} == {"rte"}
    figures = [figure for row in logs.rows for figure in row.cells.values()]
    assert {figure.standing for figure in figures} == {"authors_code"}


def test_the_memory_curves_are_whole_but_for_one_gap():
    memory = load_authors().memory
    counts = {series.rank: len(series.cells) for series in memory.series}
    assert counts == {8: 35, 32: 36, 64: 36, 128: 36, 256: 36}
    assert 25 not in memory.series[0].cells
    ends = [(series.cells[1].text, series.cells[36].text) for series in memory.series]
    assert ends[0] == ("11.738", "13.062")
    assert ends[-1] == ("11.752", "13.556")
    assert memory.added_by_their_figure.text == "3.5"
    for series in memory.series:
        values = [series.cells[keep].value for keep in sorted(series.cells)]
        assert values == sorted(values)


def test_the_inner_products_rank_the_late_values_first_only_when_raw():
    cells = load_authors().products.cells
    assert {kind: len(found) for kind, found in cells.items()} == {"raw": 36, "normalised": 36}
    assert cells["raw"]["value#11"].text == "-3.213651"
    first = {kind: max(found, key=lambda name: abs(found[name].value)) for kind, found in cells.items()}
    assert first == {"raw": "value#11", "normalised": "query#4"}


def test_the_facts_of_weightlora():
    facts = load_authors().facts
    assert [claim.number for claim in facts.claims] == [1, 2, 3, 4]
    assert {claim.standing for claim in facts.claims} == {"paper"}
    assert facts.counted.all.value == 442_368
    assert {keep: int(figure.value) for keep, figure in facts.counted.kept.items()} == {5: 61_440, 10: 122_880}
    fewer = 1 - (61_440 + 592_130) / (442_368 + 592_130)
    assert fewer == pytest.approx(0.37, abs=0.005)
    rates = {(r.backbone, r.method, r.version): r.cells for r in facts.learning_rates}
    assert rates["deberta-v3-base", "weight_lora", "later"]["mrpc"].text == "3e-5"
    assert rates["llama-3.1-8b", "lora", ""]["qqp"].text == "3e-4"
    assert {figure.standing for figure in facts.unreadable} == {"unreadable"}
    assert len(facts.faults) >= 9


@pytest.mark.mirror
@pytest.mark.long
def test_bleu_item_uncertainty_is_what_the_tolerances_say(mirror):
    """The first human reference of each test MR against the others: 616 items, half width about 0.017."""
    from analysis.statistics import bootstrap_interval
    from replication.metrics.bleu import bleu_from_statistics, segment_statistics

    with ZipFile(mirror / "e2e_nlg" / "e2e-dataset.zip") as archive:
        name = next(name for name in archive.namelist() if name.endswith("testset_w_refs.csv"))
        rows = list(csv.DictReader(io.StringIO(archive.read(name).decode("utf-8"))))
    texts: dict[str, list[str]] = {}
    for row in rows:
        texts.setdefault(row["mr"], []).append(row["ref"])
    items = [references for references in texts.values() if len(references) > 1]
    assert len(items) == 616
    statistics = segment_statistics([item[0] for item in items], [item[1:] for item in items])
    interval = bootstrap_interval(statistics, bleu_from_statistics, resamples=2000)
    assert interval.half_width == pytest.approx(load_tolerances().metrics["BLEU"].item_half_width, abs=0.0015)
