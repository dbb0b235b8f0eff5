import json

import pytest
import typer
from typer.testing import CliRunner

from replication.commands.score import register
from replication.errors import DataError
from replication.metrics import score_e2e


@pytest.fixture
def replicate():
    app = typer.Typer()
    register(app)

    def run(*arguments):
        return CliRunner().invoke(app, ["score", *map(str, arguments)])

    return run


@pytest.fixture
def files(tmp_path):
    predictions, references = tmp_path / "p.txt", tmp_path / "r.txt"
    predictions.write_text("The Eagle is a cheap pub.\nBrowns serves food.\n")
    references.write_text("The Eagle is a pub.\nA cheap pub is The Eagle.\n\nBrowns has food.\n")
    return "e2e", "--predictions", predictions, "--references", references


def test_json_holds_the_scores_and_what_they_are(replicate, files):
    result = replicate(*files, "--no-java", "--json")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    expected = score_e2e(
        ["The Eagle is a cheap pub.", "Browns serves food."],
        [["The Eagle is a pub.", "A cheap pub is The Eagle."], ["Browns has food."]],
        java=None,
    )
    assert printed == expected.to_dict()
    assert tuple(printed)[:5] == ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")
    assert (printed["METEOR"], printed["missing"]) == (None, ["METEOR"])
    assert printed["approximate"] == ["ROUGE_L", "CIDEr"]


def test_the_table_says_what_is_approximate_or_missing(replicate, files):
    result = replicate(*files, "--no-java")
    assert result.exit_code == 0
    rows = {row.split("│")[1].strip(): row for row in result.stdout.splitlines() if row.startswith("│")}
    assert set(rows) == {"BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr"}
    assert "missing" in rows["METEOR"]
    assert "approximate" in rows["ROUGE_L"]
    assert "approximate" in rows["CIDEr"]
    assert "official" in rows["BLEU"]
    assert "Java" in result.stdout
    assert "score: NIST" in result.stderr


def test_predictions_of_a_run_need_no_references_file(replicate, tmp_path):
    path = tmp_path / "seed-18.jsonl"
    row = {
        "mr": "name[Browns]",
        "context": "name : Browns",
        "prediction": "Browns.",
        "references": ["Browns!"],
    }
    path.write_text(json.dumps(row) + "\n")
    result = replicate("e2e", "--predictions", path, "--no-java")
    assert result.exit_code == 0
    assert "1 of 1 predictions have fewer than 4 words" in result.stdout.replace("\n", " ")


def test_a_fault_is_a_project_error(replicate, files, tmp_path):
    result = replicate("e2e", "--predictions", tmp_path / "gone", "--references", files[-1])
    assert isinstance(result.exception, DataError)
    assert "gone: no such file" in str(result.exception)


def test_help_names_the_layouts(replicate):
    assert "e2e" in replicate("--help").stdout
    assert "--references" in replicate("e2e", "--help").stdout


@pytest.mark.java
@pytest.mark.slow
@pytest.mark.mirror
def test_the_official_example_by_command(replicate, mirror):
    from replication.metrics.java import find_java

    if find_java() is None:
        pytest.skip("not run: no Java runtime on this machine")
    folder = mirror / "e2e_metrics_example"
    result = replicate(
        "e2e", "--predictions", folder / "baseline-output.txt", "--references", folder / "devel-conc.txt"
    )
    assert result.exit_code == 0
    expected = json.loads((folder / "expected_scores.json").read_text())["python_mteval"]
    for metric, value in expected.items():
        assert f"{metric:<7} │ {value:.4f} │ official" in result.stdout
