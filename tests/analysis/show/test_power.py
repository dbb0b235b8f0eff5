"""`replicate power`: the numbers against `stats.power`, what the table says, and every message that refuses."""

import io
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from analysis.judge.decision import ALPHA, LEAST_SEEDS, POWER
from analysis.judge.study import Study
from analysis.load.judgement import load_judgement
from analysis.load.runs import load_profile
from analysis.show.power import SEED_COUNTS, Design, from_numbers, power_text, register
from analysis.stats import power as stats_power
from analysis.stats.power import Spread
from replication.errors import ConfigError
from replication.fileio import read_json, write_json
from replication.terminal import WIDTH

NUMBERS = ("--seed-sd", 0.02, "--item-error", 0.003)


@pytest.fixture(scope="module")
def command():
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)  # with two commands typer keeps their names
    return lambda *arguments: CliRunner().invoke(app, ["power", *map(str, arguments)])


@pytest.fixture(scope="module")
def root(task_runs):
    return task_runs.parent.parent


TWO = ("--profile", "cpu", "--first", "my-cola-weight_lora-k3", "--second", "my-cola-lora")


def refused(command, *arguments):
    result = command(*arguments)
    assert isinstance(result.exception, ConfigError), result.output
    return str(result.exception)


# --- laws ----------------------------------------------------------------------

spreads = st.builds(
    Spread, st.floats(0.001, 0.1), st.floats(0.0, 0.05), st.floats(0.0, 0.05), st.sampled_from([None, 50, 630])
)
designs = st.builds(Design, spreads, st.integers(3, 12), st.integers(1, 20))


@given(designs, st.floats(0.001, 0.2))
def test_more_seeds_never_lower_power(design, difference):
    """Below a tenth most of what is found is noise, of which more seeds find a little less: a thousandth or two."""
    chances = list(design.row(difference).power.values())
    for earlier, later in pairwise(chances):
        assert later >= earlier - (1e-9 if earlier >= 0.1 else 3e-3)
    assert all(0 <= chance <= 1 for chance in chances)


@given(designs, st.floats(0.001, 0.2))
def test_seeds_needed_reach_the_target_and_one_fewer_does_not(design, difference):
    count = design.row(difference).seeds_needed
    if count is None:
        assert stats_power.power(difference, design.spread, stats_power.MOST, design.level) < POWER
        assert difference < design.any_seeds
        return
    assert count >= LEAST_SEEDS
    assert stats_power.power(difference, design.spread, count, design.level) >= POWER
    if count > LEAST_SEEDS:
        assert stats_power.power(difference, design.spread, count - 1, design.level) < POWER


@given(designs, st.floats(0.001, 0.2))
def test_examples_needed_reach_the_target_and_one_fewer_does_not(design, difference):
    count = design.row(difference).examples_needed

    def chance(items):
        return stats_power.power(difference, design.spread.with_items(items), design.seeds, design.level)

    if design.spread.items is None or not design.item_noise:
        assert count is None
        assert design.any_examples is None
    elif count is None:
        assert chance(stats_power.MOST) < POWER
        assert difference < design.any_examples
    else:
        assert chance(count) >= POWER
        assert count == 2 or chance(count - 1) < POWER


@settings(max_examples=20)
@given(st.floats(0.001, 0.1), st.floats(0.0, 0.1), st.floats(0.001, 0.2), st.integers(2, 20))
def test_more_comparisons_never_raise_power(seed_sd, item_error, difference, comparisons):
    alone, together = (from_numbers(seed_sd, item_error, None, 3, count) for count in (1, comparisons))
    assert alone.level == ALPHA
    assert together.level == pytest.approx(ALPHA / comparisons)
    fewer, more = alone.row(difference).power, together.row(difference).power
    assert all(more[count] <= fewer[count] + 1e-9 for count in SEED_COUNTS)


@given(st.floats(0, 1))
def test_a_shown_power_never_claims_more_than_there_is(value):
    shown = power_text(value)
    assert int(re.search(r"\d+", shown)[0]) <= 100 * value + 1e-6 or shown == "<1 %"
    assert shown != "80 %" or value >= POWER


# --- the table and the JSON ------------------------------------------------------


def test_table_and_json_agree(command):
    arguments = (*NUMBERS, "--items", 630, "--difference", 0.01, "--difference", 0.03, "--difference", 0.2)
    content = json.loads(command(*arguments, "--json").stdout)
    lines = command(*arguments).output.splitlines()
    assert [row["difference"] for row in content["rows"]] == [0.01, 0.03, 0.2]
    for row in content["rows"]:
        line = next(line for line in lines if line.split()[:1] == [f"{row['difference']:.3f}"])
        cells = re.split(r"\s{2,}", line.strip())
        assert cells[1:7] == [power_text(row["power"][str(count)]) for count in SEED_COUNTS]
        wanted = [row["seeds_needed"], row["examples_needed"]]
        assert cells[7:] == ["none" if count is None else f"{count:,}" for count in wanted]


def test_json_holds_rule_spread_and_limits(command):
    content = json.loads(command(*NUMBERS, "--items", 630, "--comparisons", 5, "--json").stdout)
    assert content["schema_version"] == 1
    assert content["rule"]["alpha"] == ALPHA
    assert content["rule"]["level"] == pytest.approx(ALPHA / 5)
    assert content["rule"]["power"] == POWER
    assert content["source"] is None
    spread = content["spread"]
    assert (spread["seed_deviation"], spread["item_error"]) == pytest.approx((0.02, 0.003))
    assert (spread["seeds"], spread["examples"]) == (3, 630)
    assert content["limits"]["any_seeds"] < content["limits"]["any_examples"]


def test_the_default_differences_stand_round_the_margin(command):
    rows = json.loads(command(*NUMBERS, "--json").stdout)["rows"]
    assert [row["difference"] for row in rows] == [0.005, 0.01, 0.015, 0.02, 0.03, 0.05]
    margin = load_judgement().measures["accuracy"].keeps_within
    assert margin in [row["difference"] for row in rows]


def test_the_text_fits_80_columns_and_names_the_rule_in_one_line(command):
    result = command(*NUMBERS, "--items", 630, "--comparisons", 7, "--difference", 0.0123)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert not any(line != line.rstrip() for line in lines if not line.startswith("difference"))
    rule = next(line for line in lines if line.startswith("Rule: "))
    assert rule == "Rule: larger of two p-values, two-sided alpha 0.05 / 7 = 0.0071, power 80 %."
    assert "0.0123" in result.output


def test_no_number_of_seeds_is_said_with_the_reason(command):
    told = " ".join(command(*NUMBERS, "--items", 630, "--difference", 0.005).output.split())
    assert "No number of seeds suffices below 0.0084: the noise of the test examples is common to all seeds" in told
    assert "No number of examples suffices below 0.065 with 3 seeds" in told
    enough = " ".join(command(*NUMBERS, "--items", 630, "--difference", 0.5).output.split())
    assert "suffices" not in enough


def test_what_is_not_known_is_not_called_impossible(command):
    unknown = command(*NUMBERS, "--difference", 0.005).output
    assert "–" in unknown
    assert "--items says on how many" in " ".join(unknown.split())
    assert "No number of examples" not in unknown
    without = " ".join(command("--seed-sd", 0.02, "--item-error", 0, "--items", 630).output.split())
    assert "Examples do not matter here" in without
    assert "No number of seeds" not in without


# --- two runs --------------------------------------------------------------------


def test_two_runs_give_the_spread_of_their_difference(command, root, task_runs):
    content = json.loads(command(*TWO, "--root", root, "--json").stdout)
    first, second = load_profile(task_runs, ["my-cola-weight_lora-k3", "my-cola-lora"])
    found = Study.of([first, second]).difference(first, second)
    assert content["source"]["metric"] == "matthews_correlation"
    assert content["source"]["seeds"] == [18, 52, 1917]
    for name in ("training", "common", "own"):
        assert content["spread"][name] == pytest.approx(getattr(found.spread, name))
    assert content["spread"]["examples"] == found.item_count
    margin = load_judgement().measures["matthews_correlation"].keeps_within
    assert content["rows"][1]["difference"] == margin
    told = command(*TWO, "--root", root).output
    assert "my-cola-weight_lora-k3 minus my-cola-lora, Matthews correlation, cpu profile" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--seed-sd is missing; give the standard deviation of the seeds' differences, or --profile"),
        (("--seed-sd", 0.1), "--item-error is missing; give the standard error"),
        (("--seed-sd", -1, "--item-error", 0), "--seed-sd -1: the standard deviation .* is zero or more"),
        (("--seed-sd", 1, "--item-error", "nan"), "--item-error nan"),
        (("--seed-sd", 0, "--item-error", 0), "without noise every difference is found"),
        ((*NUMBERS, "--items", 1), "--items 1: .* needs 2 at least"),
        ((*NUMBERS, "--seeds-measured", 1), "--seeds-measured 1: .* needs 2 at least"),
        ((*NUMBERS, "--profile", "cpu"), "--seed-sd and --profile: .* not both"),
        ((*NUMBERS, "--metric", "BLEU"), "--seed-sd and --metric: .* not both"),
        ((*NUMBERS, "--difference", 0), "--difference 0: a true difference above zero"),
        ((*NUMBERS, "--comparisons", 0), "--comparisons 0: .* 1 or more"),
        ((*NUMBERS, "--curve", "a.pdf"), r"--curve a.pdf: .* \.svg or \.png"),
        ((*NUMBERS, "--curve", "no-such-folder/a.svg"), "no folder no-such-folder; create it"),
        (("--profile", "cpu"), "--first is missing"),
        (("--profile", "none", *TWO[2:]), "--profile none: no folder .*; profiles with runs: cpu"),
        ((*TWO[:3], "nope", *TWO[4:]), "--first nope: no such run in .*; valid names: .*my-cola-lora"),
        ((*TWO[:5], TWO[3]), "the same run as --first"),
        ((*TWO[:5], "my-rte-lora"), "its primary measure is accuracy, that of .* matthews_correlation"),
        ((*TWO, "--metric", "BLEU"), "--metric BLEU: not a measure of both runs; valid names: matthews_correlation"),
    ],
)
def test_what_is_refused_names_the_option_and_the_fix(command, root, arguments, told):
    runs = ("--root", root) if "--profile" in arguments or "--first" in arguments else ()
    assert re.search(told, refused(command, *arguments, *runs), re.DOTALL)


def test_runs_that_share_no_seeds_are_refused(command, write_task_runs, tmp_path):
    write_task_runs(tmp_path / "runs", tasks=("cola",), methods=("lora",), items=20)
    write_task_runs(tmp_path / "runs", tasks=("cola",), methods=("weight_lora-k3",), items=20, seeds=(1, 2, 3))
    told = refused(command, *TWO, "--root", tmp_path)
    assert "shares 0 seeds with my-cola-weight_lora-k3 (none); a spread needs 3 at least" in told
    assert "give --seed-sd and --item-error" in told


def test_a_measure_without_scores_of_single_items_is_refused(command, quick_runs):
    pair = ("--profile", "quick", "--first", "solo_connection", "--second", "lora", "--root", quick_runs.parent.parent)
    told = refused(command, *pair, "--metric", "METEOR")
    assert told.startswith("--metric METEOR: no scores of single items")
    assert "valid names: BLEU" in told
    assert "METEOR" not in told.split("valid names")[1]


def test_runs_of_different_processors_are_refused(command, task_runs, tmp_path):
    folder = tmp_path / "runs" / "cpu"
    for name in (TWO[3], TWO[5]):
        shutil.copytree(task_runs / name, folder / name)
    for path in (folder / TWO[3]).glob("training/seed-*/record.json"):
        record = read_json(path)
        record["conditions"]["cpu"] = "another processor"
        write_json(path, record)
    told = refused(command, *TWO, "--root", tmp_path)
    assert "another type of processor than my-cola-weight_lora-k3 (seeds 18, 52, 1917)" in told


def test_runs_on_other_test_examples_are_refused(command, write_task_runs, tmp_path):
    write_task_runs(tmp_path / "runs", tasks=("cola",), methods=("lora",), items=20)
    write_task_runs(tmp_path / "runs", tasks=("cola",), methods=("weight_lora-k3",), items=30)
    assert "not scored on the test examples of" in refused(command, *TWO, "--root", tmp_path)


# --- the curve -------------------------------------------------------------------


def test_the_curve_is_a_described_svg_or_a_png(command, tmp_path):
    told = command(*NUMBERS, "--items", 630, "--curve", tmp_path / "power.svg")
    assert told.exit_code == 0, told.output
    assert "Left: power rises with the true difference" in " ".join(told.output.split())
    space = "{http://www.w3.org/2000/svg}"
    drawn = ET.fromstring((tmp_path / "power.svg").read_text(encoding="utf-8"))
    assert drawn.get("role") == "img"
    assert drawn.find(f"{space}title").text == "Power of a comparison"
    assert "smallest difference" in drawn.find(f"{space}desc").text
    command(*NUMBERS, "--curve", tmp_path / "power.png", "--json")
    assert Image.open(io.BytesIO((tmp_path / "power.png").read_bytes())).width > 1000


def test_json_with_a_curve_is_json_alone(command, tmp_path):
    assert json.loads(command(*NUMBERS, "--curve", tmp_path / "a.svg", "--json").stdout)["rows"]


def test_the_command_is_registered_and_costs_nothing_until_called(project_root):
    entries = (project_root / "pyproject.toml").read_text(encoding="utf-8")
    assert 'power = "analysis.show.power:register"' in entries
    program = (
        "import sys, analysis.show.power; print(sorted({'numpy', 'scipy', 'matplotlib', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=project_root)
    assert done.stdout.strip() == "[]"


def test_runs_that_the_rule_would_not_read_are_refused(command, root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "project", symlinks=True)
    (copy / "runs/cpu/my-cola-lora/training/seed-18/record.json").unlink()
    told = refused(command, *TWO, "--root", copy)
    assert re.search(r"my-cola-lora: is incomplete; name a run that is complete; .*seed-18", told)
