import json
import re

import pytest
import typer
from typer.testing import CliRunner

from analysis.show.commands import WIDTH
from analysis.show.commands import register_compare as register
from replication.errors import DataError

CLAIM_KEYS = {
    "id", "paper", "number", "claim", "verdict", "reason", "profile", "comparison", "metric", "effect",
    "over_items", "over_seeds", "adjusted_p", "detectable", "seeds", "seed_count", "cases",
    "comparisons", "counted", "runs", "needs", "rule", "source", "standing",
}  # fmt: skip


@pytest.fixture
def invoke():
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)  # with two commands typer keeps their names
    return lambda *arguments: CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.fixture(scope="module")
def outputs(quick_runs):
    """Text and JSON of the synthetic quick profile; both read the same."""
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    root = quick_runs.parent.parent
    results = [
        CliRunner().invoke(app, ["compare", "--profile", "quick", "--root", str(root), *more])
        for more in ([], ["--json"])
    ]
    assert [result.exit_code for result in results] == [0, 0], [result.output for result in results]
    return results[0].output, json.loads(results[1].output)


def test_json_has_stable_keys(outputs):
    found = outputs[1]
    assert list(found) == [
        "schema_version", "profile", "comparable", "why_not_comparable", "claims", "published_vs_measured",
        "problems",
    ]  # fmt: skip
    assert (found["schema_version"], found["profile"], found["comparable"]) == (2, "quick", False)
    assert all(set(claim) == CLAIM_KEYS for claim in found["claims"])
    assert [claim["id"] for claim in found["claims"]][:2] == ["solo-1", "solo-2"]
    assert len(found["claims"]) == 8
    (compared,) = found["claims"][0]["comparisons"]
    assert (compared["profile"], compared["tested"], compared["p_holm"]) == ("quick", False, None)
    assert {"name", "effect", "over_items", "over_seeds", "seeds", "smallest_detectable", "verdict"} <= set(compared)
    assert {cell["verdict"] for cell in found["published_vs_measured"]} == {"not_comparable"}


def test_the_terminal_is_readable_at_80_columns_without_a_lost_word(outputs):
    text, found = outputs
    assert max(len(line) for line in text.splitlines()) <= WIDTH == 80
    words = re.sub(r"\s+", " ", text)
    for claim in found["claims"]:
        assert claim["claim"] in words
        assert claim["reason"] in words
        assert f"{claim['number']}. {claim['verdict'].replace('_', ' ')}:" in words
    for cell in found["published_vs_measured"]:
        assert f"{cell['published']}" in words
        assert (cell["measured"] or "not measured") in words
        assert cell["verdict"].replace("_", " ") in words
    assert "quick profile: 8 not tested" in words
    assert "u quoted without a copy at hand" in words


def test_a_profile_without_runs_says_how_to_make_them(invoke, tmp_path):
    result = invoke("--profile", "cpu", "--root", tmp_path)
    assert result.exit_code == 0
    assert "`make reproduce-cpu` makes those of the cpu profile" in result.output
    found = json.loads(invoke("--profile", "cpu", "--root", tmp_path, "--json").output)
    assert {claim["verdict"] for claim in found["claims"]} == {"not_tested"}
    assert found["published_vs_measured"] == []


@pytest.mark.parametrize("profile", ["../elsewhere", "..", "a/b", "nope"])
def test_a_profile_is_one_name(invoke, tmp_path, profile):
    assert isinstance(invoke("--profile", profile, "--root", tmp_path).exception, DataError)


def test_problems_are_told(invoke, write_runs, tmp_path):
    runs = write_runs(tmp_path / "runs", items=4, experiments=["lora"], seeds=[18])
    (runs / "lora" / "scores.json").write_text("{", encoding="utf-8")
    assert "scores.json: not valid JSON" in invoke("--root", tmp_path).output
    found = json.loads(invoke("--root", tmp_path, "--json").output)
    assert any("lora (failed)" in problem for problem in found["problems"])
