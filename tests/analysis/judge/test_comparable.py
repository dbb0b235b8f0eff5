"""What makes two runs comparable: the base, the reading, the decoding, the processor."""

import pytest

from analysis.judge.comparable import (
    BUDGET,
    PLAIN_SOLO,
    base_parameters,
    differ_in_processor,
    is_plain,
    is_reading,
    more_is_better,
    processor_of,
    shared_seeds,
    unequal,
)
from analysis.load.runs import load_experiment, load_profile
from replication.fileio import write_json


def test_of_scores_more_is_better_and_of_a_loss_less(quick_runs):
    run = load_profile(quick_runs)[0]
    assert more_is_better(run, "BLEU")
    assert not more_is_better(run, "reference_loss")


@pytest.fixture
def pair(write_runs, tmp_path):
    runs = write_runs(tmp_path, profile="cpu", experiments=("lora", "solo_connection"), items=6)
    return {experiment.name: experiment for experiment in load_profile(runs)}


def test_the_base_is_the_same_for_every_method(quick_runs):
    assert {base_parameters(e.record) for e in load_profile(quick_runs)} == {952_032}


@pytest.mark.parametrize(
    ("name", "reading"), [("solo-k2", (120, 2)), ("solo-none", None), ("lora", None), ("large-solo", (120, 6))]
)
def test_a_reading_has_nothing_else_changed(paper_runs, name, reading):
    experiment = load_experiment(paper_runs / name)
    for candidate in ((120, 2), (120, 6)):
        assert is_reading(experiment, *candidate) == (candidate == reading)


def test_runs_that_were_decoded_otherwise_are_not_compared(pair):
    lora, solo = pair["lora"], pair["solo_connection"]
    assert unequal(solo, lora) is None
    for run, beams in ((lora, 10), (solo, 1)):
        write_json(run.directory / "predictions" / "decoding.json", {"decoding": {"beams": beams}})
    assert "decoded with other settings" in unequal(solo, lora)
    write_json(solo.directory / "predictions" / "decoding.json", {"decoding": {"beams": 10}})
    assert unequal(solo, lora) is None


def test_types_of_processor_are_told_apart_seed_by_seed(pair, moved):
    lora, solo = pair["lora"], pair["solo_connection"]
    other = moved(solo, (52, 1917))
    assert [differ_in_processor(lora, other, seed) for seed in shared_seeds(lora, other)] == [False, True, True]
    assert not any(differ_in_processor(lora, solo, seed) for seed in lora.seeds)
    assert "Another CPU" in processor_of(other, 52)
    assert processor_of(other, 99) is None


@pytest.mark.parametrize("field", BUDGET)
def test_every_part_of_the_budget_counts(pair, altered, field):
    lora, solo = pair["lora"], pair["solo_connection"]
    more = altered(solo, lambda record: {"training": {**record.training, field: 7}})
    assert unequal(more, lora).startswith(f"unequal {field.replace('_', ' ')}: {solo.name} 7")


@pytest.mark.parametrize("field", ["sha256", "train_examples"])
def test_data_are_a_part_of_the_budget_too(pair, altered, field):
    lora, solo = pair["lora"], pair["solo_connection"]
    value = {"sha256": "0" * 64, "train_examples": 7}[field]
    other = altered(solo, lambda record: {"corpus": record.corpus.model_copy(update={field: value})})
    assert "not trained on the same data" in unequal(other, lora)


@pytest.mark.parametrize("field", ["cpu", "blas", "torch_build"])
def test_whatever_floats_depend_on_is_a_type_of_processor(pair, altered, field):
    lora, solo = pair["lora"], pair["solo_connection"]
    other = altered(solo, lambda record: {"conditions": record.conditions.model_copy(update={field: "another"})})
    assert differ_in_processor(lora, other, 18)


SOLO_CHANGES = {
    "sparsity": 0.6,
    "links": ((0, 2),),
    "lora": {"rank": 1},
    "layer_norm": True,
    "homotopy_parameter": None,
    "train_autoencoder": False,
    "shared_autoencoder": False,
}


@pytest.mark.parametrize("field", PLAIN_SOLO)
def test_a_solo_run_with_any_part_changed_is_not_the_published_method(paper_runs, field):
    plain = load_experiment(paper_runs / "solo-k2").record
    other = plain.model_copy(update={"method_config": {**plain.method_config, field: SOLO_CHANGES[field]}})
    assert (is_plain(plain), is_plain(other)) == (True, False)
