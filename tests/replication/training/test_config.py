"""Training settings: checked by name, and the schedule of the learning rate."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_linear_schedule_with_warmup

from replication.errors import ConfigError
from replication.training.config import TrainingConfig, learning_rate_at

CONFIG = TrainingConfig(steps=6, warmup_steps=2, learning_rate=0.01, batch_size=4, log_every=2, threads=1)


@given(steps=st.integers(1, 60), warmup=st.integers(0, 60), rate=st.floats(1e-6, 1.0))
def test_the_rate_is_that_of_transformers_linear_schedule(steps, warmup, rate):
    warmup = min(warmup, steps)
    config = TrainingConfig(steps=steps, warmup_steps=warmup, learning_rate=rate)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, steps)
    for step in range(1, steps + 1):
        assert learning_rate_at(step, config) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9, abs=1e-15)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 2.5),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", "2e-4"),
        ("batch_size", True),
        ("accumulation_steps", 0),
        ("warmup_steps", 7),
        ("warmup_steps", -1),
        ("weight_decay", -0.1),
        ("label_smoothing", 1.0),
        ("eval_every", 0),
        ("checkpoint_every", 1.5),
        ("log_every", None),
        ("max_length", 0),
        ("max_grad_norm", 0),
        ("gradient_checkpointing", "no"),
        ("deterministic", 1),
        ("threads", 0),
        ("mixed_precision", "fp16"),
        ("prefix_cache", True),
        ("prefix_cache", -1),
        ("prefix_cache", 1e300),
        ("attention", 1),
        ("compile", ""),
        ("fused_adamw", 1),
        ("pin_memory", None),
    ],
)
def test_an_invalid_setting_is_refused_by_name_and_value(field, value):
    with pytest.raises(ConfigError) as error:
        replace(CONFIG, **{field: value})
    assert field in str(error.value)
    assert repr(value) in str(error.value)


def test_settings_come_from_and_go_to_a_mapping():
    cached = replace(CONFIG, prefix_cache=0.5)
    assert [TrainingConfig.from_dict(config.to_dict()) for config in (CONFIG, cached)] == [CONFIG, cached]
    assert "prefix_cache" not in CONFIG.to_dict(), "which identities and records of runs without it hold"
    with pytest.raises(ConfigError, match=r"unknown training setting lr; valid are .*learning_rate"):
        TrainingConfig.from_dict({"steps": 3, "lr": 1})
    with pytest.raises(ConfigError, match="steps is missing"):
        TrainingConfig.from_dict({})


def test_compile_and_the_prefix_cache_do_not_go_together():
    with pytest.raises(ConfigError, match="compile must be None with prefix_cache"):
        replace(CONFIG, compile="inductor", prefix_cache=1.0)


SPEED = {"attention": "sdpa", "compile": "inductor", "fused_adamw": True, "pin_memory": True}


@given(st.sets(st.sampled_from(sorted(SPEED))))
def test_settings_that_came_later_are_recorded_only_where_they_are_given(names):
    given = {name: SPEED[name] for name in names}
    recorded = replace(CONFIG, **given).to_dict()
    assert {name: value for name, value in recorded.items() if name in SPEED} == given
    assert TrainingConfig.from_dict(recorded) == replace(CONFIG, **given)
