"""Each figure in the prose of README and docs/ comes from a committed record or is computed; tables between markers are
held by tests/analysis/show/test_documents.py.
"""

from __future__ import annotations

import csv
import re

import pytest
import yaml

from analysis.stats.power import Spread, power
from replication.fileio import read_json

FIGURE = re.compile(
    r"(?<![\w.,-])(?:\d+ min(?: \d+ s)?"
    r"|\d[\d.,]*\s?(?:(?:ms|s|h|GB|MB|MiB|passed|skipped|failed)\b|%)"
    r"|\d{1,3}(?:,\d{3})+|\d+\.\d+(?![\w.]))"
)
NOT_PROSE = (
    re.compile(r"<!-- table:.*?<!-- /table:[^>]*-->", re.DOTALL),
    re.compile(r"```.*?```", re.DOTALL),
    re.compile(r"`[^`]*`"),
    re.compile(r"\[[^]]*\]\([^)]*\)"),
    re.compile(r"^\|.*$", re.MULTILINE),  # tables: their rows are code, scores from a test, or runs with a date
)
NOT_MEASURED = {
    "README.md": {"3.11", "2.13.0", "59 %"},  # versions; the published figure
    "docs/decision_rule.md": {
        *("5 %", "10,000"),  # the rule's level and its resamples, constants of analysis/judge and analysis/stats
        *(
            "0.4",
            "7 %",
            "5.5 %",
            "30 %",
            "0.012",
        ),  # simulations, the last the margin they are for, repeated by tests/analysis/stats/test_mean_test.py
    },
    # the level of its intervals; sizes of the E2E test set, by tests of its corpus; an example of a bad value
    "docs/scoring.md": {"95 %", "4,693", "630", "0.2"},
}


def prose(path):
    text = path.read_text(encoding="utf-8")
    for pattern in NOT_PROSE:
        text = pattern.sub("", text)
    return " ".join(text.split())


def clock(seconds):
    """358 -> 5 min 58 s."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


@pytest.fixture
def evidence(project_root):
    measured = read_json(project_root / "docs/durations.json")
    install, reproduce, tests = (measured[name] for name in ("install", "make reproduce", "make test"))
    scoring = measured["replicate score"]
    spread, seeds = Spread(0.02, 0.003), (3, 8, 12)
    found = [f"{power(0.02, spread, number, 0.05):.2f}" for number in seeds]
    rule = yaml.safe_load((project_root / "paper_results/judgement.yaml").read_text(encoding="utf-8"))
    margins = [rule["measures"][measure]["keeps_within"] for measure in rule["grid"][0]["tasks"].values()]
    return {
        "README.md": [
            f"installation {clock(install['seconds'][0])} to {clock(install['seconds'][1])}",
            f"{reproduce['seconds'][0] // 60} to {clock(reproduce['seconds'][1])}",
            f"the tests {clock(tests['seconds'])} ({tests['passed']:,} passed, {tests['skipped']} skipped)",
            f"worse by more than the margin of {sum(margins) / len(margins):.3f}",
        ],
        "docs/decision_rule.md": [
            "an effect of 0.02, a spread over seeds of 0.02 and an item error of 0.003",
            f"power is {found[0]} with 3 seeds, {found[1]} with 8 and {found[2]} with 12",
            f"ahead of every rival in {100 * rule['almost_all']['share']:.0f} % of the tasks",
        ],
        "docs/scoring.md": [
            f"{scoring['items']:,} items",
            f"{scoring['processor_seconds']} s of processor time and {scoring['gigabytes']} GB",
            f"{scoring['meteor_milliseconds_per_item']} ms",
        ],
    }


@pytest.mark.parametrize("name", ["README.md", "docs/decision_rule.md", "docs/scoring.md"])
def test_every_sentence_with_a_measured_figure_is_that_of_its_record(name, evidence, project_root):
    text = prose(project_root / name)
    assert [sentence for sentence in evidence[name] if sentence not in text] == []


def test_no_figure_is_without_evidence(evidence, project_root):
    for path in (project_root / "README.md", *sorted((project_root / "docs").glob("*.md"))):
        name = path.relative_to(project_root).as_posix()
        text = prose(path)
        for sentence in evidence.get(name, []):
            text = text.replace(sentence, "")
        unknown = {figure.strip(" .,") for figure in FIGURE.findall(text)} - NOT_MEASURED.get(name, set())
        assert not unknown, f"{name}: {unknown}: measured where? Add the record, or say here why it needs none"


def test_what_is_said_of_a_task_left_out_is_what_the_report_has(project_root):
    with (project_root / "reports/cpu/tables/sensitivity.csv").open(encoding="utf-8", newline="") as file:
        found = {row["Claim"]: row["One task fewer"] for row in csv.DictReader(file)}
    assert [claim for claim, verdicts in found.items() if "without" in verdicts] == ["WeightLoRA 1"]
    assert found["WeightLoRA 1"].endswith("cannot tell (without MNLI (part))")
    for name in ("README.md", "RESULTS.md"):
        text = " ".join((project_root / name).read_text(encoding="utf-8").split())
        assert "without MNLI claim 1 could not be told" in text or "without that task it could not be told" in text
    page = (project_root / "reports/cpu/index.html").read_text(encoding="utf-8")
    assert "One task decides: without MNLI (part), WeightLoRA 1 would be “cannot tell”. " in page
