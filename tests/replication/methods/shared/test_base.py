"""Configurations by name and as JSON, and what attach and detach promise."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import AdapterError, ConfigError
from replication.methods import (
    attach,
    attached_config,
    config_from_dict,
    config_to_dict,
    detach,
    method_class,
    method_config,
    report_state,
    trainable_parameters,
)
from replication.methods.frozen import FrozenConfig
from replication.methods.full import FullConfig
from replication.methods.lora import LoraConfig
from replication.methods.solo_connection import SoloConnectionConfig

lora_configs = st.builds(
    LoraConfig,
    rank=st.integers(1, 64),
    alpha=st.one_of(st.integers(1, 64), st.floats(0.5, 64)),
    dropout=st.floats(0, 0.9),
    targets=st.lists(st.sampled_from(["query", "key", "value", "mlp.c_fc"]), min_size=1),
    init_seed=st.integers(0, 2**40),
)
solo_configs = st.builds(
    SoloConnectionConfig,
    rank=st.integers(1, 300),
    skip_length=st.integers(1, 6),
    dropout=st.one_of(st.none(), st.floats(0, 0.9)),
    homotopy_parameter=st.one_of(st.none(), st.floats(-2, 2)),
    sparsity=st.floats(0, 0.9),
    train_autoencoder=st.booleans(),
    links=st.sampled_from([None, "all_to_last", ((14, 18),), ((1, 2), (1, 3))]),
    shared_autoencoder=st.booleans(),
    layer_norm=st.booleans(),
    lora=st.one_of(st.none(), lora_configs),
)


@given(config=st.one_of(st.just(FullConfig()), st.just(FrozenConfig()), lora_configs, solo_configs))
def test_a_configuration_survives_json(config):
    data = config_to_dict(config)
    through = json.loads(json.dumps(data, allow_nan=False))
    assert through == data
    assert config_from_dict(through) == config
    settings_given = {key: value for key, value in through.items() if key != "method"}
    assert method_config(config.method, **settings_given) == config
    assert hash(config) == hash(config_from_dict(through))


def test_the_methods_are_known_by_name():
    known = {
        "full": FullConfig,
        "frozen": FrozenConfig,
        "lora": LoraConfig,
        "solo_connection": SoloConnectionConfig,
    }
    for name, config_class in known.items():
        assert method_class(name) is config_class
        assert method_config(name) == config_class()
        assert method_config(name).method == name


def test_an_unknown_method_lists_the_valid_ones():
    with pytest.raises(
        ConfigError,
        match=r"'lorra'.*frozen, full, lora, peft_baselines, random_lora, solo_connection, weight_lora",
    ):
        method_config("lorra")
    with pytest.raises(ConfigError, match="frozen, full, lora"):
        config_from_dict({"rank": 3})


@pytest.mark.parametrize(
    ("name", "message"), [("lora", r"r, size.*rank, alpha"), ("full", "r, size.*none"), ("frozen", "none")]
)
def test_unknown_fields_are_named_beside_the_valid_ones(name, message):
    with pytest.raises(ConfigError, match=message):
        method_config(name, size=3, r=2)
    with pytest.raises(ConfigError, match=message):
        config_from_dict({"method": name, "size": 3, "r": 2})


def test_attach_returns_the_model_itself_and_remembers_the_configuration(tiny_gpt2):
    assert attached_config(tiny_gpt2) is None
    config = LoraConfig(rank=2)
    assert attach(tiny_gpt2, config) is tiny_gpt2
    assert attached_config(tiny_gpt2) is config
    assert report_state(tiny_gpt2) == {}
    assert detach(tiny_gpt2) is tiny_gpt2
    assert attached_config(tiny_gpt2) is None


def test_attach_wants_a_configuration(tiny_gpt2):
    with pytest.raises(AdapterError, match=r"got str.*method_config"):
        attach(tiny_gpt2, "lora")


def test_what_was_frozen_before_a_failed_attach_stays_so(tiny_gpt2):
    tiny_gpt2.transformer.wpe.requires_grad_(False)
    with pytest.raises(AdapterError):
        attach(tiny_gpt2, LoraConfig(targets=("nothing",)))
    frozen = [name for name, parameter in tiny_gpt2.named_parameters() if not parameter.requires_grad]
    assert frozen == ["transformer.wpe.weight"]
    assert attached_config(tiny_gpt2) is None


def test_trainable_parameters_come_in_module_order(tiny_gpt2):
    attach(tiny_gpt2, SoloConnectionConfig(rank=4, lora=LoraConfig(rank=2)))
    in_order = [name for name, parameter in tiny_gpt2.named_parameters() if parameter.requires_grad]
    assert list(trainable_parameters(tiny_gpt2)) == in_order
    assert all(isinstance(parameter, torch.nn.Parameter) for parameter in trainable_parameters(tiny_gpt2).values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_new_parameters_take_the_dtype_of_the_weights(tiny_gpt2, dtype):
    attach(tiny_gpt2.to(dtype), SoloConnectionConfig(rank=4, layer_norm=True, lora=LoraConfig(rank=2)))
    assert {parameter.dtype for parameter in tiny_gpt2.parameters()} == {dtype}
