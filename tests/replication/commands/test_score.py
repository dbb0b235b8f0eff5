import json
import re

import pytest
import typer
from typer.testing import CliRunner

from replication.commands.score import _Result, _scores_table, register
from replication.errors import ConfigError, DataError
from replication.metrics import find, score_e2e
from replication.metrics.scores import Scores


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
    assert {key: value for key, value in printed.items() if key != "protocol"} == expected.to_dict()
    assert "Python mteval mode" in printed["protocol"]
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


def test_several_systems_have_paired_differences_and_intervals(replicate, files, tmp_path):
    other = tmp_path / "other"
    other.write_text("a\tA pub.\nb\tBrowns has food.\n")
    many = ("e2e", "--no-java", "-s", f"ours={files[2]}", "-s", f"theirs={other}", "-r", files[-1])
    items = tmp_path / "items.jsonl"
    result = replicate(*many, "--bootstrap", 40, "--json", "--per-example", items)
    assert "theirs: its items are not those of ours" in str(result.exception)  # one file has inputs, the other none
    other.write_text("A pub.\nBrowns has food.\n")
    result = replicate(*many, "--bootstrap", 40, "--json", "--per-example", items)
    printed = json.loads(result.stdout)
    assert list(printed["systems"]) == ["ours", "theirs"]
    by_metric = {row["metric"]: row for row in printed["differences"]}
    ours, theirs = printed["systems"]["ours"], printed["systems"]["theirs"]
    assert set(by_metric) == {"BLEU", "NIST", "ROUGE_L", "CIDEr"}
    for metric, row in by_metric.items():
        assert row["difference"] == theirs[metric] - ours[metric]
        assert row["low"] <= row["high"]
        low, high = ours["intervals"][metric]
        assert low <= high
    rows = [json.loads(line) for line in items.read_text().splitlines()]
    assert [(row["system"], row["id"]) for row in rows] == [("ours", 0), ("ours", 1), ("theirs", 0), ("theirs", 1)]
    assert all({"BLEU", "NIST", "ROUGE_L", "CIDEr", "prediction"} <= row.keys() for row in rows)
    shown = replicate(*many, "--bootstrap", 40)
    assert "Differences from ours on the same items" in shown.stdout
    assert "Protocol: E2E" in shown.stdout


def test_of_many_systems_no_score_is_cut_off(replicate, files):
    names = [f"a_system_of_a_long_name_{number}" for number in range(6)]
    many = [part for name in names for part in ("-s", f"{name}={files[2]}")]
    result = replicate("e2e", "--no-java", *many, "-r", files[-1], "--bootstrap", 20)
    head = result.stdout.partition("Differences")[0]
    scored = re.findall(r"\d\.\d{4} \[\d\.\d{4}, \d\.\d{4}\]", head)
    assert len(scored) == 4 * len(names)  # METEOR needs Java


def test_the_same_system_twice_differs_by_nothing(replicate, files):
    twice = ("-s", f"a={files[2]}", "-s", f"b={files[2]}")
    result = replicate("e2e", "--no-java", *twice, "-r", files[-1], "--bootstrap", 20, "--json")
    assert all(row["difference"] == row["low"] == row["high"] == 0 for row in json.loads(result.stdout)["differences"])


def test_a_system_may_have_any_name(replicate, files):
    names = ("lora[small]", "b[/]")
    result = replicate("e2e", "--no-java", *(x for n in names for x in ("-s", f"{n}={files[2]}")), "-r", files[-1])
    assert result.exit_code == 0, result.exception
    assert "Differences from lora[small]" in result.stdout
    assert "b[/]" in result.stdout


def test_a_file_that_cannot_be_written_is_refused_before_scoring(replicate, files, tmp_path, monkeypatch):
    monkeypatch.setattr("replication.metrics.score_systems", lambda *a, **k: pytest.fail("scored"))
    result = replicate(*files, "--per-example", tmp_path)
    assert "--per-example" in str(result.exception)
    assert isinstance(result.exception, ConfigError)


@pytest.fixture
def written(tmp_path):
    def write(name, content):
        (tmp_path / name).write_text(content, encoding="utf-8")
        return tmp_path / name

    return write


def test_the_other_families(replicate, written):
    def scores(*arguments):
        result = replicate(*arguments, "--json")
        assert result.exit_code == 0, result.exception
        return json.loads(result.stdout)

    labels = written("dev.tsv", "index\tlabel\n0\tentailment\n1\tnot_entailment\n")
    submission = written("RTE.tsv", "index\tprediction\n0\tentailment\n1\tentailment\n")
    glue = scores("glue", "--task", "rte", "-p", submission, "-r", labels)
    assert (glue["accuracy"], glue["items"]) == (0.5, 2)
    assert "0 entailment, 1 not_entailment" in glue["protocol"]

    question = {"id": "q", "answers": [{"text": "mill", "answer_start": 0}]}
    gold = written("dev.json", json.dumps({"version": "1.1", "data": [{"paragraphs": [{"qas": [question]}]}]}))
    squad = scores("squad", "-p", written("p.json", '{"q": "The mill."}'), "-r", gold)
    assert (squad["exact_match"], squad["f1"]) == (1.0, 1.0)

    rouge = scores("rouge", "-p", written("s.txt", "The cat sat.\n"), "-r", written("g.txt", "The cat slept.\n"))
    assert rouge["rouge1"] == pytest.approx(2 / 3)
    assert "rougeL: whole texts" in rouge["protocol"]
    unread = scores("rouge", "-p", written("t.txt", "猫が座った\n"), "-r", written("g.txt", "The cat slept.\n"))
    assert "1 of 1 predictions have no Latin letter or digit" in unread["notes"][0]

    rows = [
        {"id": "a", "label": 0, "prediction": 0, "log_likelihoods": [-1.0, -2.0], "lengths": [1, 4]},
        {"id": "b", "label": 0, "prediction": 0, "log_likelihoods": [-1.0, -2.0], "lengths": [4, 4]},
    ]
    choice = scores("choice", "-p", written("c.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert (choice["acc"], choice["acc_norm"]) == (1.0, 0.5)
    plain = scores("choice", "-p", written("n.txt", "1\n0\n"), "-r", written("l.txt", "1\n1\n"))
    assert plain["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("e2e",), "pass one file with --predictions"),
        (("e2e", "-p", "a", "-s", "b=c"), "pass one file with --predictions"),
        (("e2e", "-s", "b"), "--system b: expected NAME=FILE"),
        (("e2e", "-s", "b=c", "-s", "b=d"), "the name b is taken"),
        (("glue", "-t", "ax", "-p", "a"), "--task ax: unknown; known are: cola"),
    ],
)
def test_options_that_do_not_fit_are_named(replicate, arguments, message):
    result = replicate(*arguments)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)


def test_a_java_that_dies_midway_loses_meteor_alone(replicate, files, tmp_path, monkeypatch):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(
        '#!/bin/sh\ncase "$*" in\n-version) exit 0;;\n*PTBTokenizer*) exec tr A-Z a-z;;\n'
        "*) read line; echo out of memory >&2; exit 1;;\nesac\n"
    )
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    result = replicate(*files, "--json")
    assert result.exit_code == 1
    printed = json.loads(result.stdout)
    assert printed["missing"] == ["METEOR"]
    assert "out of memory" in printed["failed"]["METEOR"]
    assert "METEOR is missing" in result.stderr
    assert all(printed[metric] > 0 for metric in ("BLEU", "NIST", "ROUGE_L", "CIDEr"))
    assert "its Java program failed" in replicate(*files).stdout


def test_a_fault_is_a_project_error(replicate, files, tmp_path):
    result = replicate("e2e", "--predictions", tmp_path / "gone", "--references", files[-1])
    assert isinstance(result.exception, DataError)
    assert "gone: no such file" in str(result.exception)


def test_help_names_the_layouts(replicate):
    assert "e2e" in replicate("--help").stdout
    assert "--references" in replicate("e2e", "--help").stdout
    assert "replicate score squad -p" in replicate("squad", "--help").stdout


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


def test_systems_with_other_references_are_not_compared(replicate, written):
    one = written("one.jsonl", '{"prediction": "a cat", "references": ["a cat", "the cat"]}\n')
    two = written("two.jsonl", '{"prediction": "a dog", "references": ["a dog", "a cat"]}\n')
    result = replicate("rouge", "-s", f"one={one}", "-s", f"two={two}")
    assert isinstance(result.exception, DataError)
    assert str(result.exception) == "two, item 0: its references are not those of one"
    same = written("same.jsonl", '{"prediction": "a dog", "references": ["the cat", "a cat"]}\n')
    assert replicate("rouge", "-s", f"one={one}", "-s", f"two={same}").exit_code == 0, "their order does not matter"


def test_a_metric_that_one_of_two_systems_lacks_is_not_called_official():
    whole = Scores({"METEOR": 0.5}, 1, (), (), "official")
    broken = Scores({"METEOR": None}, 1, (), ("METEOR",), "official", failed={"METEOR": "out of memory"})
    table = _scores_table(_Result("", {"one": whole, "two": broken}), [find("meteor")])
    assert list(table.columns[-1].cells) == ["official; missing: its Java program failed"]
    alike = _scores_table(_Result("", {"one": whole, "two": whole}), [find("meteor")])
    assert list(alike.columns[-1].cells) == ["official"]
