import dataclasses

import pytest

from analysis.judge.claims import Bench, scores_against
from analysis.judge.number_format import signed
from analysis.judge.study import Study, mixed_conditions, unequal
from analysis.load.paper_folder import load_published
from analysis.load.runs import load_profile
from replication.fileio import write_json


def study(experiments):
    return Bench(Study.of(tuple(experiments)), load_published())


@pytest.fixture
def pair(write_runs, tmp_path):
    runs = write_runs(tmp_path, profile="cpu", experiments=("lora", "solo_connection"), items=6)
    return {experiment.name: experiment for experiment in load_profile(runs)}


def test_every_profile_but_quick_tests_claims(pair):
    for profile, tests in (("paper", True), ("cpu", True), ("another", True), ("quick", False)):
        experiments = [dataclasses.replace(experiment, profile=profile) for experiment in pair.values()]
        assert (study(experiments).never_tests is None) == tests
    assert (
        "quick profile never tests"
        in study([dataclasses.replace(experiment, profile="quick") for experiment in pair.values()]).never_tests
    )


def test_only_the_paper_profile_speaks_of_the_paper(pair):
    assert "to no published cell" in study(pair.values()).scope(["SmolLM2-135M"])
    paper = [dataclasses.replace(experiment, profile="paper") for experiment in pair.values()]
    assert study(paper).scope(["GPT-2 Medium"]) == ""


def test_readings_are_the_papers_rank_with_either_skip_length(paper_runs):
    found = study(load_profile(paper_runs))
    assert [(experiment.name, skip) for experiment, skip in found.readings] == [("large-solo", 6), ("solo-k2", 2)]
    assert found.reading("gpt2-medium", 2).name == "solo-k2"
    assert found.reading("gpt2-medium", 6) is None
    assert found.lora_of(found.reading("gpt2-large", 6)).name == "large-lora"


def test_runs_that_were_decoded_otherwise_are_not_compared(pair):
    lora, solo = pair["lora"], pair["solo_connection"]
    assert unequal(solo, lora) is None
    for run, beams in ((lora, 10), (solo, 1)):
        write_json(run.directory / "predictions" / "decoding.json", {"decoding": {"beams": beams}})
    assert "decoded with other settings" in unequal(solo, lora)
    write_json(solo.directory / "predictions" / "decoding.json", {"decoding": {"beams": 10}})
    assert unequal(solo, lora) is None


def test_a_difference_is_told_seed_by_seed(pair):
    lora, solo = pair["lora"], pair["solo_connection"]
    text = scores_against(study(pair.values()), solo, lora)
    for seed in solo.seeds:
        difference = solo.metrics.seeds[seed]["BLEU"] - lora.metrics.seeds[seed]["BLEU"]
        assert f"{signed(difference)} (seed {seed})" in text


def test_one_seed_is_told_once(write_runs, tmp_path):
    runs = write_runs(tmp_path, profile="cpu", experiments=("lora", "solo_connection"), items=6, seeds=(18,))
    found = {experiment.name: experiment for experiment in load_profile(runs)}
    text = scores_against(study(found.values()), found["solo_connection"], found["lora"])
    assert "one seed" in text
    assert "seed by seed" not in text


def test_runs_from_two_kinds_of_processor_say_so(pair):
    lora, solo = pair["lora"], pair["solo_connection"]
    assert mixed_conditions([lora, solo]) == ""
    elsewhere = {
        seed: record.model_copy(update={"conditions": record.conditions.model_copy(update={"cpu": "Another CPU"})})
        for seed, record in solo.records.items()
    }
    moved = dataclasses.replace(solo, records=elsewhere)
    text = mixed_conditions([lora, moved])
    assert text.startswith(" These runs were not all made on one kind of processor")
    assert text.index("Another CPU") < text.index("solo_connection")
    assert mixed_conditions([moved]) == ""
