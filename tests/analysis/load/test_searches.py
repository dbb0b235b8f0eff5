import json

import pytest

from analysis.load.runs import Planned, load_experiment, load_profile
from analysis.load.searches import Search, case_of, rate_found, read_memory, read_searches, unequal_searches
from analysis.show.run_tables import EDGE, search_block


@pytest.fixture
def folder(tasks_module, tmp_path):
    """The cases of one plan, searched on CoLA, and a broken file."""
    where = tmp_path / "searches" / "cpu"
    shared = {"task": "cola", "backbone": "minilm-l6"}
    tasks_module.write_search(where, "glue-lora", method="lora", settings={"rank": 8}, **shared)
    tasks_module.write_search(where, "glue-weight", method="weight_lora", settings={"rank": 8, "keep": 6}, **shared)
    dora = {"name": "dora", "settings": {"r": 8}}
    tasks_module.write_search(where, "glue-dora", method="peft_baselines", settings=dora, best=0.01, **shared)
    (where / "broken.json").write_text('{"tried": 3}', encoding="utf-8")
    return where


def test_searches_are_read_by_case(folder):
    searches, broken = read_searches(folder)
    assert sorted(searches) == ["glue-dora", "glue-lora", "glue-weight"]
    assert searches["glue-lora"].best == 0.001
    assert "broken.json" in broken[0]
    assert read_searches(None) == read_searches(folder / "nowhere") == ({}, [])


def test_a_file_of_before_the_cases_is_still_read(tmp_path):
    (tmp_path / "lora.json").write_text('{"tried": [], "best": null, "reason": "the rate is the recipe\'s"}')
    searches, broken = read_searches(tmp_path)
    assert (searches["lora"].reason, broken) == ("the rate is the recipe's", [])


def test_an_experiment_finds_its_search(folder, task_runs):
    searches, _ = read_searches(folder)
    experiments = {e.name: e for e in load_profile(task_runs)}
    assert case_of(experiments["my-rte-lora"], searches) == "glue-lora"
    assert case_of(experiments["my-rte-dora"], searches) == "glue-dora"
    assert case_of(experiments["my-cola-frozen"], searches) is None
    planned = Planned("minilm-l6", "rte", "lora", "classification", search="glue-weight")
    assert case_of(load_experiment(task_runs / "my-rte-lora", planned), searches) == "glue-weight"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my-cola-lora", "searched here, the best of 3"),
        ("my-rte-lora", "searched on CoLA, the best of 3"),
        ("my-rte-weight_lora-k3", "searched on CoLA, with other settings, the best of 3"),
        ("my-rte-dora", "searched on CoLA, whose best of 3 is 0.01"),
        ("my-cola-frozen", "given, not searched"),
    ],
)
def test_how_a_rate_was_found_is_said(folder, task_runs, name, words):
    searches, _ = read_searches(folder)
    assert rate_found(load_experiment(task_runs / name), searches) == words


def test_a_baseline_has_no_rate_to_find(folder, tasks_module, tmp_path):
    searches, _ = read_searches(folder)
    assert rate_found(load_experiment(tasks_module.write_baseline(tmp_path / "cpu", "cola")), searches) == (
        "nothing is trained"
    )


def test_unequal_searches_are_named(folder, task_runs, tasks_module):
    experiments = load_profile(task_runs)
    searches, _ = read_searches(folder)
    assert unequal_searches(experiments, searches) == []
    tried = [{"learning_rate": rate, "held_out_loss": 1.0} for rate in (1e-4, 2e-4, 3e-4, 4e-4, 5e-4)]
    tasks_module.write_search(
        folder, "glue-lora", method="lora", task="cola", backbone="minilm-l6", tried=tried, best=1e-4
    )
    searches, _ = read_searches(folder)
    assert "glue-lora tried 5 rates" in unequal_searches(experiments, searches)[0]


@pytest.mark.parametrize(("best", "edge"), [(0.001, True), (0.003, False), (0.01, True)])
def test_a_best_rate_at_the_edge_is_known_and_shown(best, edge):
    tried = [{"learning_rate": rate, "held_out_loss": 1.0} for rate in (0.01, 0.001, 0.003)]
    search = Search(tried=tried, best=best)
    assert search.at_edge is edge
    block = search_block({"case": search}, [])
    assert (EDGE in block.rows[0][3]) is edge
    assert bool(block.notes) is edge


def test_rows_are_read_in_the_order_of_k(tmp_path, tasks_module):
    path = tasks_module.write_memory(tmp_path / "cpu")
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "rows": content["rows"][::-1], "unit": "bytes"}), encoding="utf-8")
    memory, problems = read_memory(tmp_path / "cpu")
    assert [row.keep for row in memory.rows] == [1, 3, 6, 12, 18]
    assert problems == []


def test_absent_is_no_problem_and_broken_is_named(tmp_path):
    assert read_memory(None) == read_memory(tmp_path) == (None, [])
    (tmp_path / "memory.json").write_text('{"backbone": "x", "batch": 1, "length": 2, "rows": []}', encoding="utf-8")
    memory, problems = read_memory(tmp_path)
    assert memory is None
    assert "memory.json, rows" in problems[0]
