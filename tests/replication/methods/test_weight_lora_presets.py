"""Presets: the variants table as settings, and explicit fields before a preset's."""

import copy
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import ConfigError
from replication.methods import config_from_dict, config_to_dict, method_config
from replication.methods.weight_lora import WEIGHT_LORA, WEIGHT_LORA_PLUS, WeightLoraConfig, preset
from replication.methods.weight_lora_plus import WeightLoraPlusConfig

CASES = [("weight_lora", name) for name in WEIGHT_LORA] + [("weight_lora_plus", name) for name in WEIGHT_LORA_PLUS]


@pytest.mark.parametrize(("method", "name"), CASES)
def test_a_preset_is_a_flat_set_of_settings(method, name):
    settings = preset(name, method)
    assert not any(isinstance(value, dict) for value in settings.values())
    by_name, spelled_out = method_config(method, preset=name), method_config(method, **settings)
    assert dataclasses.replace(by_name, preset=None) == spelled_out
    for field, value in settings.items():
        assert getattr(by_name, field) == value
    settings["rank_by"] = "magnitude"  # a copy: the table itself is not changed
    assert preset(name, method)["rank_by"] == "signed"


def test_the_variants_of_the_dossier():
    assert set(WEIGHT_LORA) == {"paper", "code_2025_02", "code_2025_02_second", "code_2025_08", "code_2025_11"}
    first, second, third, fourth = (WeightLoraConfig(preset=name) for name in list(WEIGHT_LORA)[1:])
    assert (first.selection_steps, first.project_every, second.selection_steps) == (None, 1, None)
    assert second.project_every > 1
    assert third.selection_steps == fourth.selection_steps == 100
    assert (first.last_step(), third.last_step(), third.reset_step(), fourth.reset_step()) == (None, 100, None, 100)
    for config in (first, second, third, fourth):
        assert not config.remove_losers
        assert config.rank_by == "signed"
        assert config.input_dropout() == 0
        assert config.initial_range == "rank"
    assert [config.freeze_losers for config in (first, second, third, fourth)] == [False, False, False, True]
    assert len(second.targets) > len(first.targets) == 3
    assert WeightLoraConfig(preset="paper") == dataclasses.replace(WeightLoraConfig(), preset="paper")
    assert WeightLoraPlusConfig(preset="paper") == dataclasses.replace(WeightLoraPlusConfig(), preset="paper")


OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "remove_losers": st.booleans(),
        "project_every": st.integers(1, 30),
        "rank_by": st.sampled_from(["signed", "magnitude"]),
        "apply_dropout": st.booleans(),
        "initial_range": st.sampled_from(["inputs", "rank"]),
        "weight_learning_rate": st.floats(0.1, 20),
        "adam_epsilon": st.sampled_from([1e-8, 1e-6]),
        "rank": st.integers(1, 8),
    },
)


@given(case=st.sampled_from(CASES), overrides=OVERRIDES)
def test_explicit_fields_override_the_preset_even_at_their_defaults(case, overrides):
    method, name = case
    config = method_config(method, preset=name, **overrides)
    for field in dataclasses.fields(config):
        if field.name in overrides:
            assert getattr(config, field.name) == overrides[field.name]
        elif field.name in preset(name, method):
            assert getattr(config, field.name) == preset(name, method)[field.name]
    written = json.loads(json.dumps(config_to_dict(config)))
    assert config_from_dict(written) == config
    assert written["preset"] == name
    assert copy.deepcopy(config) == config
    assert dataclasses.replace(config) == config


def test_fields_given_by_place_count_as_given():
    assert WeightLoraConfig(4, 16, preset="code_2025_02_second").rank == 4
    targets = WeightLoraConfig(4, 16, 0.0, ("query",), preset="code_2025_02_second").targets
    assert targets == ("query",)


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"preset='later': unknown; valid names are paper, code_2025_02, .*_11"):
        WeightLoraConfig(preset="later")
    with pytest.raises(ConfigError, match="weight_lora_plus: preset='code_2025_11'"):
        WeightLoraPlusConfig(preset="code_2025_11")
    with pytest.raises(ConfigError, match="valid names are none"):
        preset("paper", "lora")
