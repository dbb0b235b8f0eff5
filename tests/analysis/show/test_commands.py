import json

import pytest
import typer
from typer.testing import CliRunner

from analysis.show.commands import register_runs as register


@pytest.fixture
def invoke():
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)  # with two commands typer keeps their names
    return lambda *arguments: CliRunner().invoke(app, ["runs", *map(str, arguments)])


@pytest.fixture
def root(quick_runs):
    return quick_runs.parent


def test_lists_every_run_with_status_scores_and_disk_use(invoke, root):
    result = invoke("--root", root)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == ["Run", "Status", "Seeds", "BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr", "Disk"]
    lora = next(line for line in lines if line.startswith("quick/lora "))
    assert lora.split()[1:3] == ["complete", "3"]
    assert lora.endswith("kB")
    assert len(lines) == 5


def test_runs_of_other_forms_show_their_primary_score(invoke, task_runs):
    lines = invoke("--root", task_runs.parent).output.splitlines()
    assert lines[0].split() == ["Run", "Status", "Seeds", "Metric", "Score", "Disk"]
    lora = next(line for line in lines if line.startswith("cpu/my-cola-lora "))
    assert "Matthews correlation" in lora
    listed = json.loads(invoke("--root", task_runs.parent, "--json").output)
    assert {run["form"] for run in listed} == {"classification"}
    assert listed[0]["scores"]["matthews_correlation"] is not None


def test_json_holds_the_same_and_more(invoke, root):
    listed = json.loads(invoke("--root", root, "--json").output)
    assert [run["experiment"] for run in listed] == ["frozen", "full", "lora", "solo_connection"]
    solo = listed[-1]
    assert solo["profile"] == "quick"
    assert solo["seeds"] == [18, 52, 1917]
    assert solo["adapter_parameters"] == 2_739
    assert solo["corpus"] == "embedded synthetic corpus"
    assert 0 < solo["scores"]["BLEU"] < 1
    assert solo["spread"]["BLEU"] > 0
    assert solo["bytes"] > 1000


def test_one_profile_only(invoke, root):
    assert "quick/lora" in invoke("--root", root, "--profile", "quick").output
    assert json.loads(invoke("--root", root, "--profile", "cpu", "--json").output) == []


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], "`make reproduce` makes those of the quick profile"),
        (["--profile", "cpu"], "`make reproduce-cpu` makes those of the cpu profile"),
        (["--profile", "none"], "Profiles that can be made: quick, cpu, paper"),
    ],
)
def test_an_empty_state_says_how_to_make_runs(invoke, tmp_path, arguments, command):
    result = invoke("--root", tmp_path / "runs", *arguments)
    assert result.exit_code == 0
    assert command in result.output


def test_a_broken_run_is_listed_with_its_problem(invoke, write_runs, tmp_path):
    runs = write_runs(tmp_path, items=4, experiments=["lora", "full"], seeds=[18])
    (runs / "lora" / "scores.json").write_text("{", encoding="utf-8")
    (runs / "full" / "scores.json").unlink()
    result = invoke("--root", tmp_path)
    lora, full = (
        next(line for line in result.output.splitlines() if line.startswith(f"quick/{n} ")) for n in ("lora", "full")
    )
    assert lora.split()[1] == "failed"
    assert full.split()[1] == "incomplete"
    assert full.count("–") == 5
    assert "quick/lora: " in result.output
    assert "scores.json: not valid JSON" in result.output


def test_a_profile_is_one_name(invoke, tmp_path):
    from replication.errors import DataError

    result = invoke("--root", tmp_path, "--profile", "../elsewhere")
    assert isinstance(result.exception, DataError)
