"""The toy problem: its rules, that it repeats, and that each method gets the same problem."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import ConfigError
from replication.methods import attached_config
from replication.methods.lora import LoraConfig
from replication.methods.weight_lora import WeightLoraConfig
from replication.testing.toy import (
    GIVEN,
    LENGTH,
    RULES,
    SYMBOLS,
    adapt,
    counting_model,
    sequences,
    splits,
    toy_training,
)


@given(rule=st.sampled_from(sorted(RULES)), count=st.integers(1, 20), seed=st.integers(0, 1000))
def test_sequences_follow_their_rule_and_repeat(rule, count, seed):
    rows = sequences(rule, count, seed)
    assert rows == sequences(rule, count, seed)
    assert len(rows) == count
    for row in rows:
        ids = row.input_ids
        assert len(ids) == LENGTH
        assert all(0 <= symbol < SYMBOLS for symbol in ids)
        assert row.loss_mask == [0] * GIVEN + [1] * (LENGTH - GIVEN)
        steps = {(after - now) % SYMBOLS for now, after in pairwise(ids)}
        if rule == "alternating":
            assert ids[2:] == ids[:-2]
            assert ids[0] != ids[1]
        else:
            assert steps == {{"counting": 1, "skipping": 2}[rule]}


def test_an_unknown_rule_is_refused_with_the_ones_there_are():
    with pytest.raises(ConfigError, match="counting, skipping, alternating"):
        sequences("backwards", 1, 0)


def test_the_counting_model_counts_and_is_always_the_same():
    state = torch.random.get_rng_state()
    model = counting_model(steps=60)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert attached_config(model) is None
    twin = counting_model(steps=60)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    row = torch.tensor([splits("counting")[1][0].input_ids])
    with torch.no_grad():
        guessed = model(row).logits[0, GIVEN - 1 : -1].argmax(-1)
    assert torch.equal(guessed, row[0, GIVEN:])


def test_adapting_trains_a_copy_and_reports_what_a_method_chose():
    base = counting_model(steps=10)
    before = [parameter.clone() for parameter in base.parameters()]
    plain = adapt(base, LoraConfig(rank=2), seed=0, steps=4)
    choosing = adapt(base, WeightLoraConfig(rank=2, keep=2, selection_steps=3), seed=0, steps=4, rule="skipping")
    assert all(torch.equal(a, b) for a, b in zip(before, base.parameters(), strict=True))
    assert plain.choices is None
    assert plain.dev_loss == plain.result.dev_loss
    assert len(choosing.choices["survivors"]) <= 2
    changed = []
    adapt(base, LoraConfig(rank=2), seed=0, steps=1, prepare=lambda model: changed.append(attached_config(model)))
    assert changed == [LoraConfig(rank=2)]


def test_settings_may_be_changed_by_name():
    assert toy_training(5, 0.1).warmup_steps == 2
    assert toy_training(5, 0.1, warmup_steps=0, eval_every=1).eval_every == 1
