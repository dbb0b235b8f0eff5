import json
import re
import shutil

import pytest
import typer
from typer.testing import CliRunner

from analysis.show.commands import register_compare, register_runs, show_comparison
from replication.errors import DataError
from replication.terminal import WIDTH


@pytest.fixture
def runs_command():
    app = typer.Typer()
    register_runs(app)
    app.command("other")(lambda: None)  # with two commands typer keeps their names
    return lambda *arguments: CliRunner().invoke(app, ["runs", *map(str, arguments)])


@pytest.fixture
def root(quick_runs):
    return quick_runs.parent


def test_lists_every_run_with_status_scores_and_disk_use(runs_command, root):
    result = runs_command("--root", root)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["Run", "Status", "Seeds", "BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr", "Disk"]
    lora = next(line for line in lines if line.startswith("quick/lora "))
    assert lora.split()[1:3] == ["complete", "3"]
    assert lora.endswith("kB")
    assert len(lines) == 5


def test_runs_of_other_forms_show_their_primary_score(runs_command, task_runs):
    lines = runs_command("--root", task_runs.parent).stdout.splitlines()
    assert lines[0].split() == ["Run", "Status", "Seeds", "Metric", "Score", "Disk"]
    lora = next(line for line in lines if line.startswith("cpu/my-cola-lora "))
    assert "Matthews correlation" in lora
    listed = json.loads(runs_command("--root", task_runs.parent, "--json").stdout)
    assert {run["form"] for run in listed} == {"classification"}
    assert listed[0]["scores"]["matthews_correlation"] is not None


def test_json_holds_the_same_and_more(runs_command, root):
    listed = json.loads(runs_command("--root", root, "--json").stdout)
    assert [run["experiment"] for run in listed] == ["frozen", "full", "lora", "solo_connection"]
    solo = listed[-1]
    assert solo["profile"] == "quick"
    assert solo["seeds"] == [18, 52, 1917]
    assert set(solo["adapter_parameters"].values()) == {2_739}
    assert solo["corpus"] == "embedded synthetic corpus"
    assert 0 < solo["scores"]["BLEU"] < 1
    assert solo["spread"]["BLEU"] > 0
    assert solo["bytes"] > 1000


def test_runs_that_predict_one_class_are_named_in_both_forms(runs_command, project_root, tmp_path):
    root, name = tmp_path / "runs", "cola-2000-weight-lora-plus"
    for copied in (name, "cola-2000-majority", "sst2-1000-lora"):
        shutil.copytree(project_root / "runs/cpu" / copied, root / "cpu" / copied)
    shutil.copytree(project_root / "gold", tmp_path / "gold")
    listed = {
        run["experiment"]: run for run in json.loads(runs_command("--root", root, "--profile", "cpu", "--json").stdout)
    }
    assert listed[name]["label"] == "WeightLoRA+ (K=6→3, r=8→16)"
    assert listed[name]["constant"] == "one class in 7 of 8 seeds"
    assert sorted(listed[name]["constant_seeds"]) == sorted({18, 52, 1917, 101, 404, 2718, 31415})
    assert (listed["cola-2000-majority"]["label"], listed["cola-2000-majority"]["constant"]) == ("Majority class", "")
    assert (listed["sst2-1000-lora"]["constant"], listed["sst2-1000-lora"]["constant_seeds"]) == ("", [])
    text = runs_command("--root", root, "--profile", "cpu").stdout
    assert f"cpu/{name}: predicts one class in 7 of 8 seeds" in text.splitlines()
    assert "cola-2000-majority: predicts" not in text


def test_one_profile_only(runs_command, root):
    assert "quick/lora" in runs_command("--root", root, "--profile", "quick").output
    assert json.loads(runs_command("--root", root, "--profile", "cpu", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], "`make reproduce` makes those of the quick profile"),
        (["--profile", "cpu"], "`make reproduce-cpu` makes those of the cpu profile"),
    ],
)
def test_an_empty_state_says_how_to_make_runs(runs_command, tmp_path, arguments, command):
    assert command in str(runs_command("--root", tmp_path / "runs", *arguments).exception)
    (tmp_path / "runs").mkdir()
    result = runs_command("--root", tmp_path / "runs", *arguments)
    assert result.exit_code == 0
    assert command in result.output


def test_an_unknown_profile_or_folder_is_refused(runs_command, tmp_path):
    unknown = runs_command("--root", tmp_path / "runs", "--profile", "none")
    assert "valid profiles: quick, cpu, paper" in str(unknown.exception)
    assert "no such folder" in str(runs_command("--root", tmp_path / "absent" / "runs").exception)


def test_a_broken_run_is_listed_with_its_problem(runs_command, write_runs, tmp_path):
    runs = write_runs(tmp_path, items=4, experiments=["lora", "full"], seeds=[18])
    (runs / "lora" / "scores.json").write_text("{", encoding="utf-8")
    (runs / "full" / "scores.json").unlink()
    result = runs_command("--root", tmp_path)
    lora, full = (
        next(line for line in result.output.splitlines() if line.startswith(f"quick/{n} ")) for n in ("lora", "full")
    )
    assert lora.split()[1] == "failed"
    assert full.split()[1] == "incomplete"
    assert full.count("–") == 5
    assert "quick/lora: " in result.output
    assert "scores.json: not valid JSON" in result.output


def test_a_stale_run_is_listed_with_what_differs(runs_command, write_runs, tmp_path):
    runs = write_runs(tmp_path, items=4, experiments=["lora"], seeds=[18])
    (runs / "lora" / "metrics.json").write_text('{"BLEU": 0.99}', encoding="utf-8")
    result = runs_command("--root", tmp_path)
    assert next(line for line in result.output.splitlines() if line.startswith("quick/lora ")).split()[1] == "stale"
    assert "metrics.json, BLEU: 0.99, but" in result.output


def test_a_profile_of_runs_is_one_name(runs_command, tmp_path):
    from replication.errors import DataError

    result = runs_command("--root", tmp_path, "--profile", "../elsewhere")
    assert isinstance(result.exception, DataError)


CLAIM_KEYS = {
    "id", "paper", "number", "claim", "verdict", "outcome", "reason", "profile", "published", "measured", "why",
    "comparison", "metric", "effect", "interval", "adjusted_interval", "over_items", "over_seeds", "adjusted_p",
    "detectable", "target", "seeds_needed", "items_needed", "seeds", "seed_count", "cases", "comparisons", "counted",
    "draws", "runs", "needs", "rule", "source", "standing",
}  # fmt: skip


@pytest.fixture
def compare_command():
    app = typer.Typer()
    register_compare(app)
    app.command("other")(lambda: None)  # with two commands typer keeps their names
    return lambda *arguments: CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.fixture(scope="module")
def outputs(quick_runs):
    """Text and JSON of the synthetic quick profile; both read the same."""
    app = typer.Typer()
    register_compare(app)
    app.command("other")(lambda: None)
    root = quick_runs.parent.parent
    results = [
        CliRunner().invoke(app, ["compare", "--profile", "quick", "--root", str(root), *more])
        for more in (["--full"], ["--json"], [])
    ]
    assert [result.exit_code for result in results] == [0, 0, 0], [result.output for result in results]
    return results[0].output, json.loads(results[1].output), results[2].stdout


def test_json_has_stable_keys(outputs):
    found = outputs[1]
    assert list(found) == [
        "schema_version", "profile", "comparable", "why_not_comparable", "claims", "sensitivity",
        "published_vs_measured", "problems",
    ]  # fmt: skip
    assert (found["schema_version"], found["profile"], found["comparable"]) == (3, "quick", False)
    assert all(set(claim) == CLAIM_KEYS for claim in found["claims"])
    assert [claim["id"] for claim in found["claims"]][:2] == ["solo-1", "solo-2"]
    assert len(found["claims"]) == 8
    (compared,) = found["claims"][0]["comparisons"]
    assert (compared["profile"], compared["tested"], compared["p_adjusted"]) == ("quick", False, None)
    assert {"name", "effect", "interval", "role", "seeds", "smallest_detectable", "verdict"} <= set(compared)
    assert {cell["verdict"] for cell in found["published_vs_measured"]} == {"not_comparable"}


def test_the_terminal_is_readable_at_80_columns_without_a_lost_word(outputs):
    text, found, _ = outputs
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


def test_without_full_each_claim_has_its_verdict_and_its_numbers_alone(outputs):
    full, found, text = outputs
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert len(text.splitlines()) < len(full.splitlines()) / 2
    words = re.sub(r"\s+", " ", text)
    for claim in found["claims"]:
        assert claim["claim"] in words
        assert f"{claim['number']}. {claim['verdict'].replace('_', ' ')}:" in words
        assert (claim["published"] or "no figure") in words
        assert claim["why"] in words
    assert "None" not in text
    assert text.splitlines()[-1] == "Why, with intervals: replicate compare --profile quick --full"


def test_a_profile_without_runs_says_how_to_make_them(compare_command, tmp_path):
    wrong = compare_command("--profile", "cpu", "--root", tmp_path)
    assert "`make reproduce-cpu` makes those" in str(wrong.exception)
    (tmp_path / "runs").mkdir()
    result = compare_command("--profile", "cpu", "--root", tmp_path)
    assert result.exit_code == 0
    assert "`make reproduce-cpu` makes those of the cpu profile" in result.output
    found = json.loads(compare_command("--profile", "cpu", "--root", tmp_path, "--json").stdout)
    assert {claim["verdict"] for claim in found["claims"]} == {"not_tested"}
    assert found["published_vs_measured"] == []


@pytest.mark.parametrize("profile", ["../elsewhere", "..", "a/b", "nope"])
def test_a_profile_is_one_name(compare_command, tmp_path, profile):
    assert isinstance(compare_command("--profile", profile, "--root", tmp_path).exception, DataError)


def test_problems_are_told(compare_command, write_runs, tmp_path):
    runs = write_runs(tmp_path / "runs", items=4, experiments=["lora"], seeds=[18])
    (runs / "lora" / "scores.json").write_text("{", encoding="utf-8")
    assert "scores.json: not valid JSON" in compare_command("--root", tmp_path).output
    found = json.loads(compare_command("--root", tmp_path, "--json").stdout)
    assert any("lora (failed)" in problem for problem in found["problems"])


def test_a_task_that_decides_is_told_below_the_claims(capsys):
    line = "One task decides: without MNLI, WeightLoRA 1 would be “cannot tell”."
    content = {"profile": "cpu", "claims": [], "problems": []}
    show_comparison({"comparison": content, "lines": [], "decisive": line})
    assert capsys.readouterr().out.splitlines()[2] == line
    show_comparison({"comparison": content, "lines": [], "decisive": ""})
    assert "One task" not in capsys.readouterr().out


def test_no_digit_is_cut_off_whatever_a_run_was_scored_by(runs_command, root, tmp_path):
    path = shutil.copytree(root, tmp_path / "runs") / "quick" / "lora" / "scores.json"
    content = json.loads(path.read_text())
    for scores in content["seeds"].values():
        scores["reference_loss"] = 1.25
    path.write_text(json.dumps(content))
    lines = runs_command("--root", tmp_path / "runs").stdout.splitlines()
    assert "…" not in "".join(lines)
    assert "reference loss" not in lines[0]
