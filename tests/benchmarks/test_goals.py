"""Goals against made-up results: met, missed, not measured; and the committed goals and results."""

import json
import re
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.__main__ import BENCHMARKS, app, main
from benchmarks.goals import Checked, check, load_goals
from replication.errors import DataError

GOAL = {
    **{"what": "speed", "file": "toy.json", "contender": "own", "over": "stock"},
    **{"quantity": "wall", "goal": 0.5, "tolerance": 0.02},
}
RESULT = {
    "base": "stock",
    "ratios": {"wall": {"own": {"median": 0.51}, "stock": {"median": 1.0}}},
    "counts": {"saved_bytes": {"own": 30, "stock": 100}},
}


@given(st.floats(0, 2), st.floats(0, 2), st.floats(0, 0.5))
def test_a_goal_is_met_at_most_its_tolerance_above(measured, goal, tolerance):
    assert Checked("", "", measured, goal, tolerance).met == (measured <= goal + tolerance)


@pytest.fixture
def checked(tmp_path):
    (tmp_path / "toy.json").write_text(json.dumps(RESULT))
    return lambda **changes: check([{**GOAL, **changes}], tmp_path)[0]


def test_a_clock_and_a_count(checked):
    assert checked().measured == 0.51
    assert checked(quantity="saved_bytes").measured == 0.3


@pytest.mark.parametrize("changes", [{"file": "none.json"}, {"contender": "x"}, {"quantity": "x"}, {"over": "own"}])
def test_what_is_not_measured_is_missed(checked, changes):
    found = checked(**changes)
    assert (found.met, found.measured) == (False, None)
    assert "not measured" in found.line()


def test_an_unknown_field_of_a_goal_is_named(tmp_path):
    path = tmp_path / "goals.yaml"
    path.write_text(yaml.safe_dump([{**GOAL, "unit": "s"}]))
    with pytest.raises(DataError, match=r"goal 1: unit: missing or unknown"):
        load_goals(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "give a list of goals"),
        ("what: x", "give a list of goals"),
        ("- 3", "give a list of goals"),
        ("a: [", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        (yaml.safe_dump([{**GOAL, "goal": "low"}]), "goal 1: goal: 'low' is not a number"),
        (yaml.safe_dump([{**GOAL, "file": 3}]), "goal 1: file: 3 is not a text"),
    ],
)
def test_a_file_of_goals_that_is_none_is_named(tmp_path, text, problem):
    path = tmp_path / "goals.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=problem) as caught:
        load_goals(path)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        load_goals(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "result", [[1], "x", {**RESULT, "ratios": {"wall": [1]}}, {**RESULT, "ratios": {"wall": {"own": {"median": None}}}}]
)
def test_results_that_are_none_are_named_with_the_command_and_exit_status_2(tmp_path, result, monkeypatch, capsys):
    (tmp_path / "toy.json").write_text(json.dumps(result))
    (tmp_path / "goals.yaml").write_text(yaml.safe_dump([GOAL]))
    monkeypatch.setattr(
        sys, "argv", ["benchmarks", "check", "--goals", f"{tmp_path}/goals.yaml", "--results", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as end:
        main()
    [line] = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert re.fullmatch(r"error: \S+toy\.json: no results of a benchmark \(.*\); run `make bench ONLY=toy`", line)


def test_the_command_names_each_missed_goal_with_value_goal_and_file(tmp_path):
    (tmp_path / "toy.json").write_text(json.dumps(RESULT))
    goals = tmp_path / "goals.yaml"
    goals.write_text(yaml.safe_dump([GOAL, {**GOAL, "what": "memory", "quantity": "saved_bytes", "goal": 0.2}]))
    arguments = ["check", "--goals", str(goals), "--results", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "MISSED memory: measured 0.300, goal 0.2 (+0.02)" in done.output
    assert str(tmp_path / "toy.json") in done.output
    assert [one["met"] for one in json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)] == [True, False]
    goals.write_text(yaml.safe_dump([GOAL]))
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_the_committed_goals_name_benchmarks_that_there_are():
    assert {goal["file"].removesuffix(".json") for goal in load_goals()} <= set(BENCHMARKS)
