import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.judge.number_format import format_flop
from analysis.load.runs import load_experiment
from analysis.show.blocks import sort_value
from analysis.show.run_tables import cost_note, cpu_seconds, training_compute, training_cost


@pytest.fixture
def cpu_lora(write_runs, tmp_path):
    return write_runs(tmp_path, profile="cpu", experiments=["lora"], items=4) / "lora"


def test_cpu_seconds_are_wall_time_times_threads_over_seeds(cpu_lora):
    """The synthetic files say 24.5, 25.5 and 26.5 s on two threads."""
    assert cpu_seconds(load_experiment(cpu_lora)) == pytest.approx(2 * 25.5)
    assert training_cost(load_experiment(cpu_lora)) == "51 s"


def test_a_seed_without_a_timing_leaves_the_estimate(cpu_lora):
    path = cpu_lora / "cost" / "training.json"
    costs = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({"18": costs["18"]}), encoding="utf-8")
    assert cpu_seconds(load_experiment(cpu_lora)) is None
    assert training_cost(load_experiment(cpu_lora)).endswith("FLOP")
    path.write_text("{", encoding="utf-8")
    assert cpu_seconds(load_experiment(cpu_lora)) is None
    shutil.rmtree(cpu_lora / "cost")
    assert cpu_seconds(load_experiment(cpu_lora)) is None


def test_the_quick_profile_is_never_timed_on_its_page(quick_runs):
    """Its cost files are not committed, and its page is to be the same on every machine."""
    lora = load_experiment(quick_runs / "lora")
    assert (lora.directory / "cost" / "training.json").is_file()
    assert cpu_seconds(lora) is None
    assert "CPU seconds never repeat" in cost_note("quick")
    assert "CPU seconds, wall time x threads" in cost_note("cpu")


def test_compute_is_six_per_parameter_and_token_for_full_fine_tuning_and_four_for_a_small_adapter(quick_runs):
    full, lora, frozen = (load_experiment(quick_runs / name) for name in ("full", "lora", "frozen"))
    tokens = full.record.result.tokens_seen
    assert training_compute(full) == 6 * full.record.counts.total * tokens
    assert training_compute(lora) == pytest.approx(4 * lora.record.counts.total * tokens, rel=0.01)
    assert training_compute(frozen) == 0


@given(st.integers(0, 10**21))
def test_flops_are_readable_and_sort_by_size(count):
    text = format_flop(count)
    assert len(text) <= 11
    assert sort_value(text) == pytest.approx(count, rel=0.006, abs=0.51)
