"""Estimates of memory, hours and disk: the kept predictions are those of the profile, and the sums are right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.commands import estimates as module
from pipelines.commands.estimates import CARDS, FILE, Estimate, case_of, estimates, known_cases, predict_case, spread
from pipelines.shared.experiment import described
from pipelines.shared.settings import load_settings
from replication.fileio import read_json

GIBI = 2**30


@pytest.fixture(scope="module")
def paper(project_root):
    return load_settings(project_root / "pipelines/paper/params.yaml")


@pytest.fixture(scope="module")
def known(project_root):
    return known_cases(project_root)


def test_every_experiment_of_the_paper_profile_is_predicted_and_no_more(project_root, paper, known):
    """After a change of the profile: replicate plan --profile paper --save."""
    found = estimates(paper, list(paper.experiments), known)
    assert [one.key for one in found if one.memory is None] == []
    used = {module._identity(case_of(one)) for _, one, _ in module.runs_of(paper, list(paper.experiments))}
    assert set(known) == used
    assert len(read_json(project_root / FILE)["cases"]) == len(known)


@pytest.mark.parametrize("key", ["cola-frozen", "gpt2-medium-frozen"])
def test_the_kept_predictions_are_what_the_predictor_says(paper, known, key):
    case = case_of(described(paper, key))
    assert predict_case(case) == known[module._identity(case)]


def test_bf16_takes_less_than_fp32_where_activations_decide_and_llama_needs_a_large_card(paper, known):
    found = {one.key: one for one in estimates(paper, list(paper.experiments), known)}
    assert found["cola-lora"].memory["bf16"] < found["cola-lora"].memory["fp32"]
    llama = found["llama-cola-lora"]
    assert llama.precision == "bf16_weights"
    assert llama.memory["bf16"] > 4 * 8.03e9, "float32 weights"
    assert 2 * 8.03e9 < llama.memory["bf16_weights"] < llama.memory["bf16"] - 2 * 8e9
    assert (llama.fits(24 * GIBI), llama.fits(80 * GIBI)) == (False, True)
    assert found["cola-dora"].approximate
    assert not found["cola-lora"].approximate


def test_operations_count_every_token_of_every_seed(paper, known):
    lora, full, frozen = (estimates(paper, [key], known)[-1] for key in ("cola-lora", "cola-full", "cola-frozen"))
    tokens = 512 * 6 * 32 * 128 * 3
    body = 183_831_552 - 128_100 * 768
    assert lora.operations == pytest.approx(4 * body * tokens, rel=0.05)
    assert full.operations > 1.4 * lora.operations
    assert frozen.operations == pytest.approx(2 * body * tokens, rel=0.05)
    assert estimates(paper, ["gpt2-medium-frozen"], known)[0].operations == 0


def test_a_search_counts_its_trials_once_however_many_wait_for_it(paper, known):
    search, *experiments = estimates(paper, ["cola-frozen", "sst2-frozen"], known)
    assert (search.key, search.is_search, search.disk) == ("search@glue-frozen", True, 0.0)
    assert not any(one.is_search for one in experiments)
    assert search.operations == pytest.approx(experiments[0].operations * 6 * 256 / (3 * 512))


def test_a_case_that_is_not_kept_is_predicted_once_or_left_open(paper):
    asked = []

    def predict(case):
        asked.append(case)
        return {"parameters": 1, "trained": 1, "bytes": {"fp32": 1, "bf16": 1, "bf16_weights": 1}, "approximate": False}

    keys = ["cola-lora", "sst2-lora", "stsb-lora"]  # two labels, two labels, one
    assert [one.memory for one in estimates(paper, keys, {})] == [None] * 3
    assert [one.memory["fp32"] for one in estimates(paper, keys, {}, predict)] == [1, 1, 1]
    assert [case["labels"] for case in asked] == [2, 1]


def test_hours_are_operations_over_the_share_of_the_peak():
    card = CARDS[1]
    one = Estimate("a", "b", "c", "bf16", {"bf16": 0, "fp32": 0}, 0.3 * card.peak["bf16"] * 7200, 0.0)
    assert one.hours(card) == pytest.approx(2.0)
    assert Estimate("a", "b", "c", "bf16", None, None, None).hours(card) is None


def test_what_the_prediction_cannot_see_is_left_free():
    one = Estimate("a", "b", "c", "fp32", {"fp32": 23 * GIBI}, 0.0, 0.0)
    assert one.fits(24 * GIBI) is False
    assert Estimate("a", "b", "c", "fp32", {"fp32": 20 * GIBI}, 0.0, 0.0).fits(24 * GIBI) is True


@given(st.lists(st.floats(0, 100), max_size=12), st.integers(1, 8))
def test_spread_is_between_the_ideal_and_one_card(hours, cards):
    total = spread(hours, cards)
    assert max([*hours, sum(hours) / cards, 0]) <= total * (1 + 1e-9) + 1e-9
    assert total <= sum(hours) + 1e-9
    assert spread(hours, 1) == pytest.approx(sum(hours))
