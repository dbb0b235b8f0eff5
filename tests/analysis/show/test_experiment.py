import json

import pytest
import typer
from typer.testing import CliRunner

from analysis.show.experiment import register, scores_table
from replication.errors import ConfigError


@pytest.fixture
def show():
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)  # with two commands typer keeps their names
    return lambda *arguments: CliRunner().invoke(app, ["show", *map(str, arguments)])


@pytest.fixture
def root(quick_runs):
    return quick_runs.parent


def test_shows_settings_curves_scores_and_files_within_80_columns(show, root):
    result = show("quick/lora", "--root", root)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "quick/lora  complete"
    assert "rank 4" in result.output
    assert sum(line.startswith("seed ") and "▁" in line for line in lines) >= 3
    (bleu,) = (line for line in lines if line.startswith("BLEU"))
    *seeds, mean = map(float, bleu.split()[1:])
    assert mean == pytest.approx(sum(seeds) / 3, abs=1e-4)
    assert max(map(len, lines)) <= 80


def test_json_agrees_with_the_files(show, root):
    found = json.loads(show("solo_connection", "--root", root, "--json").stdout)
    folder = root / "quick" / "solo_connection"
    assert found["settings"]["skip_length"] == 2
    assert found["files"] == {p.as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    scores = json.loads((folder / "scores.json").read_text())["seeds"]
    assert {seed: row["BLEU"] for seed, row in scores.items()} == found["scores"]["BLEU"]
    for curve in found["curves"].values():
        assert curve["loss"]["lowest"] <= min(curve["loss"]["first"], curve["loss"]["last"])


@pytest.mark.parametrize(
    ("name", "fix"), [("quick/lorra", "did you mean quick/lora"), ("zzz", "`replicate runs` lists them")]
)
def test_an_unknown_experiment_is_refused_with_what_is_near(show, root, name, fix):
    result = show(name, "--root", root)
    assert isinstance(result.exception, ConfigError)
    assert fix in str(result.exception)


def test_a_name_in_two_profiles_is_refused(show, tmp_path):
    for profile in ("quick", "cpu"):
        (tmp_path / profile / "lora").mkdir(parents=True)
    assert "cpu/lora, quick/lora" in str(show("lora", "--root", tmp_path).exception)


@pytest.mark.parametrize("seeds", [[18, 52, 1917], list(range(8))])
def test_a_mean_says_over_how_many_scored_seeds(seeds):
    table = scores_table({"seeds": seeds, "scores": {"BLEU": dict.fromkeys(seeds[:2], 0.5)}, "primary": "BLEU"})
    assert table.columns[-1].header == "mean of 2 seeds"
    whole = scores_table({"seeds": seeds[:3], "scores": {"BLEU": dict.fromkeys(seeds[:3], 0.5)}, "primary": "BLEU"})
    assert whole.columns[-1].header == "mean"
