import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.judge.number_format import format_flop
from analysis.load.runs import load_experiment, load_profile
from analysis.show.blocks import sort_value
from analysis.show.render import column_classes
from analysis.show.run_tables import (
    corpora_block,
    cost_note,
    cpu_seconds,
    licence_of,
    page_command,
    record_paths,
    training_compute,
    training_cost,
)


@pytest.fixture
def cpu_lora(write_runs, tmp_path):
    return write_runs(tmp_path, profile="cpu", experiments=["lora"], items=4) / "lora"


def test_cpu_seconds_are_the_processor_time_over_seeds(cpu_lora):
    """The synthetic files say 40, 41 and 42 s of processor time."""
    assert cpu_seconds(load_experiment(cpu_lora)) == pytest.approx(41)
    assert training_cost(load_experiment(cpu_lora)) == "41 s"


def test_time_by_the_clock_alone_is_no_cost_to_compare_methods_by(cpu_lora):
    path = cpu_lora / "cost" / "training.json"
    costs = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({seed: {**cost, "cpu_seconds": None} for seed, cost in costs.items()}))
    assert cpu_seconds(load_experiment(cpu_lora)) is None
    assert training_cost(load_experiment(cpu_lora)).endswith("FLOP")


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
    assert "CPU seconds of the process" in cost_note("cpu")


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


def test_each_corpus_is_listed_once_with_its_licence(quick_runs):
    block = corpora_block(load_profile(quick_runs))
    (row,) = block.rows
    shown = dict(zip(block.headers, row, strict=True))
    assert shown["Licence"] == "Apache-2.0"
    assert (shown["Training examples"], shown["Test examples"], shown["Split"]) == ("2,400", "16", "test")
    assert column_classes(block)[block.headers.index("Licence")]  # text, not a number


def test_the_records_own_licence_goes_first(task_runs):
    experiments = load_profile(task_runs)
    block = corpora_block(experiments)
    assert len(block.rows) == 2
    assert {row[block.headers.index("Licence")] for row in block.rows} == {"CC BY 4.0"}
    corpus = experiments[0].record.corpus
    assert licence_of(corpus.model_copy(update={"licence": ""})) == "not stated"
    assert licence_of(corpus.model_copy(update={"licence": "", "name": "e2e"})) == "CC BY-SA 4.0"


def test_records_are_named_by_experiment_with_all_seeds(quick_runs):
    loaded = load_profile(quick_runs, ["lora", "frozen", "absent"])
    assert record_paths(loaded) == (
        "runs/quick/lora/training/seed-{18,52,1917}/record.json",
        "runs/quick/frozen/training/seed-18/record.json",
    )


def test_each_profile_has_a_command_of_its_own(project_root):
    assert page_command("quick") == "python -m pipelines.report --params params.yaml"
    for profile in ("quick", "cpu", "paper"):
        assert (project_root / page_command(profile).split(" ")[-1]).is_file()
