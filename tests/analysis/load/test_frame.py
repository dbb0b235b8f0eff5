import shutil
import subprocess
import sys

import pytest

import analysis
from analysis.load.frame import COLUMNS, frame, frame_of
from analysis.load.runs import load_profile
from replication.errors import DataError


def test_there_is_one_row_an_experiment_seed_and_metric(quick_runs, task_runs):
    generation, tasks = load_profile(quick_runs), load_profile(task_runs)
    found = frame_of([*generation, *tasks])
    assert tuple(found.columns) == COLUMNS
    keys = ["profile", "experiment", "seed", "metric"]
    assert not found.duplicated(keys).any()
    expected = [
        (e.profile, e.name, seed, metric)
        for e in (*generation, *tasks)
        for seed in e.metrics.seeds
        for metric in e.metrics.metrics
    ]
    assert list(found[keys].itertuples(index=False, name=None)) == expected
    lora = next(e for e in generation if e.name == "lora")
    shown = found.query("experiment == 'lora' and metric == 'BLEU'").set_index("seed")["value"]
    assert shown.to_dict() == {seed: scores["BLEU"] for seed, scores in lora.metrics.seeds.items()}


def test_the_frame_tells_methods_with_k_adapters_apart(task_runs):
    found = frame(task_runs.parent, task_runs.name).query("primary")
    assert set(found.groupby("method")["K"].max().dropna().index) >= {"weight_lora", "random_lora"}
    assert found.query("method == 'weight_lora'")["K"].unique().tolist() == [3]
    assert set(found["status"]) == {"complete"}


def test_seeds_that_predict_one_class_are_named(project_root, tmp_path):
    name = "cola-2000-weight-lora-plus"
    shutil.copytree(project_root / "runs/cpu" / name, tmp_path / "runs/cpu" / name)
    shutil.copytree(project_root / "gold/cpu", tmp_path / "gold/cpu")
    found = frame(tmp_path / "runs", "cpu")
    assert found.set_index("seed")["constant"].to_dict() == {
        seed: seed != 7 for seed in (18, 52, 1917, 7, 101, 404, 2718, 31415)
    }


def test_a_metric_that_was_not_measured_has_no_value(write_runs, tmp_path):
    found = frame(write_runs(tmp_path, java=False, items=6).parent)
    assert found.query("metric == 'METEOR'")["value"].isna().all()


def test_the_public_name_is_read_only_when_asked_for(project_root):
    assert analysis.results_frame is frame
    program = "import sys, analysis; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=project_root, check=True)
    assert done.stdout.strip() == "False"


def test_a_folder_that_does_not_exist_is_no_empty_frame(quick_runs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"cpu: no such folder; .*results_frame\(profile="):
        frame("cpu")
    with pytest.raises(DataError, match=r"mygpu: no such folder; profiles with runs: .*quick"):
        frame(quick_runs.parent, "mygpu")


def test_rank_and_counts_are_those_that_a_seed_trains_in_the_end(project_root):
    found = frame(project_root / "runs", "quick").query("primary").set_index(["experiment", "seed"])
    assert found.loc["llama-sentiment-weight-lora"]["adapter_parameters"].to_dict() == {
        18: 1_728, 52: 1_920, 1917: 2_112,
    }  # fmt: skip
    plus, dora = found.loc["sentiment-weight-lora-plus"], found.loc["sentiment-dora"]
    assert set(zip(plus["K"], plus["rank"], strict=True)) == {(3, 8)}
    assert (set(dora["rank"]), dora["K"].isna().all()) == ({4}, True)
