"""Configurations by name and as JSON, and what attach and detach promise."""

import copy
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from replication.errors import AdapterError, ConfigError
from replication.methods import (
    adapter_parameters,
    attach,
    attached_config,
    config_from_dict,
    config_to_dict,
    detach,
    load,
    merge_and_unload,
    method_class,
    method_config,
    report_state,
    save,
    trainable_parameters,
)
from replication.methods.frozen import FrozenConfig
from replication.methods.full import FullConfig
from replication.methods.lora import LoraConfig
from replication.methods.shared.base import ADAPTER_DTYPES
from replication.methods.shared.blocks import head_parameters
from replication.methods.solo_connection import SoloConnectionConfig
from replication.methods.weight_lora import WeightLoraConfig
from replication.testing.laws import replica_of, some_ids, state_of

lora_configs = st.builds(
    LoraConfig,
    rank=st.integers(1, 64),
    alpha=st.one_of(st.integers(1, 64), st.floats(0.5, 64)),
    dropout=st.floats(0, 0.9),
    targets=st.lists(st.sampled_from(["query", "key", "value", "mlp.c_fc"]), min_size=1),
    init_seed=st.integers(0, 2**40),
    adapter_dtype=st.sampled_from(ADAPTER_DTYPES),
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
        match=r"'lorra'.*baseline, frozen, ft_top2, full, lora, peft_baselines, random_lora, solo_connection",
    ):
        method_config("lorra")
    with pytest.raises(ConfigError, match="frozen, ft_top2, full, lora"):
        config_from_dict({"rank": 3})
    with pytest.raises(ConfigError, match="did you mean 'solo_connection'"):
        method_config("solo_conection")


def test_what_is_no_model_is_refused():
    with pytest.raises(AdapterError, match="needs a model, got str"):
        attach("gpt2", LoraConfig())


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


@pytest.mark.parametrize("name", ["lora", "frozen"])
def test_a_part_of_a_model_that_carries_a_method_and_what_holds_one_are_refused(tiny_gpt2, name):
    attach(tiny_gpt2.transformer, method_config(name))
    with pytest.raises(AdapterError, match="has a method in it already, at transformer: counting and saving know one"):
        attach(tiny_gpt2, method_config("lora"))
    detach(tiny_gpt2.transformer)
    attach(tiny_gpt2, method_config("lora"))
    with pytest.raises(AdapterError, match=r"GPT2Model has a method in it already, at h\.0\.attn\.c_attn\.query"):
        attach(tiny_gpt2.transformer, method_config("lora"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wanted", ["float32", "model"])
def test_new_parameters_take_the_dtype_of_the_weights_or_float32_where_it_is_narrower(tiny_gpt2, dtype, wanted):
    config = SoloConnectionConfig(
        rank=4, layer_norm=True, lora=LoraConfig(rank=2, adapter_dtype=wanted), adapter_dtype=wanted
    )
    attach(tiny_gpt2.to(dtype), config)
    own = adapter_parameters(tiny_gpt2)
    expected = torch.promote_types(dtype, torch.float32) if wanted == "float32" else dtype
    assert {parameter.dtype for parameter in own.values()} == {expected}
    assert {p.dtype for name, p in tiny_gpt2.named_parameters() if name not in own} == {dtype}


@given(
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    wanted=st.sampled_from(ADAPTER_DTYPES),
)
def test_like_is_the_weight_itself_or_float32(dtype, wanted):
    weight = torch.ones(3, dtype=dtype)
    like = LoraConfig(adapter_dtype=wanted).like(weight)
    widened = dtype.itemsize < 4 and wanted == "float32"
    assert (like is weight) != widened
    assert like.dtype == (torch.float32 if widened else dtype)


@pytest.mark.parametrize("name", ["lora", "weight_lora", "weight_lora_plus", "random_lora", "solo_connection"])
def test_the_default_adapter_dtype_is_in_no_json(name):
    """Records and adapters that were written before the setting existed stay equal, byte by byte."""
    more = {"lora": {}} if name == "solo_connection" else {}
    data = config_to_dict(method_config(name, **more))
    assert "adapter_dtype" not in json.dumps(data)
    changed = method_config(name, adapter_dtype="model", **more)
    assert config_to_dict(changed) == {**data, "adapter_dtype": "model"}
    assert config_from_dict(config_to_dict(changed)) == changed
    with pytest.raises(ConfigError, match=rf"{name}: adapter_dtype='bfloat16': must be 'float32' or 'model'"):
        method_config(name, adapter_dtype="bfloat16")


def test_a_preset_keeps_its_values_beside_positional_settings():
    """`adapter_dtype` is given by name only and shifts no other field."""
    assert method_config("weight_lora", preset="code_2025_08", keep=3).adam_epsilon == 1e-6
    assert WeightLoraConfig(4, 32, 0.0, ("query",), 1, 7, preset="code_2025_08").keep == 7


# --- a task head in a model of half precision ---------------------------------------------------


def classifier(kind, dtype=torch.float32):
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    if kind == "llama":
        model = LlamaForSequenceClassification(LlamaConfig(**sizes, num_hidden_layers=2, pad_token_id=0))
    elif kind == "deberta":
        sizes |= {"pooler_hidden_size": 32, "num_hidden_layers": 2}
        model = DebertaV2ForSequenceClassification(DebertaV2Config(**sizes))
    elif kind == "bart":
        model = BartForSequenceClassification(
            BartConfig(vocab_size=97, d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=64,
                       decoder_ffn_dim=64, encoder_attention_heads=2, decoder_attention_heads=2, eos_token_id=2,
                       pad_token_id=1, num_labels=2)
        )  # fmt: skip
    else:
        model = BertForSequenceClassification(BertConfig(**sizes, num_hidden_layers=2))
    return model.to(dtype).eval()


def sentences(seed=0):
    ids = some_ids(4, 8, seed=seed)
    ids[:, -1] = 2
    return {"input_ids": ids, "labels": torch.tensor([0, 1, 1, 0])}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["frozen", "full", "lora", "peft_baselines"])
@pytest.mark.parametrize("kind", ["llama", "deberta", "bart", "bert"])
def test_a_head_trains_in_float32_and_goes_back_at_detach(kind, name, dtype, tmp_path):
    base = classifier(kind, dtype)
    structure = str(base)
    config = method_config(name, **({"targets": ["query", "value"]} if name == "peft_baselines" else {}))
    model = attach(copy.deepcopy(base), config)
    head = {name: parameter for name, parameter in model.named_parameters() if name in head_parameters(model)}
    assert {parameter.dtype for parameter in head.values()} == {torch.float32}
    assert model(**sentences()).logits.dtype == torch.float32
    start = {name: parameter.detach().clone() for name, parameter in head.items()}
    optimizer = torch.optim.AdamW(head.values(), lr=1e-4)
    for seed in range(20):
        model(**sentences(seed)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(not torch.equal(parameter, start[name]) for name, parameter in head.items())
    copied = copy.deepcopy(model)
    loaded = load(copy.deepcopy(base), save(model, tmp_path))
    for name, parameter in head.items():
        assert torch.equal(loaded.get_parameter(name), parameter)
    assert torch.equal(loaded(**sentences()).logits, model(**sentences()).logits)
    for one in (detach(model), detach(copied)):
        assert {parameter.dtype for parameter in one.parameters()} == {dtype}
        assert str(one) == structure
        assert not [module for module in one.modules() if module._forward_pre_hooks]
        assert one(**sentences()).logits.dtype == dtype


def test_a_model_in_a_wrapper_is_attached_before(tiny_gpt2):
    with pytest.raises(AdapterError, match="DataParallel wraps the model: attach to the model itself first"):
        attach(torch.nn.DataParallel(tiny_gpt2), LoraConfig())


def test_nan_is_not_blamed_on_the_type():
    model = attach(classifier("bert", torch.float16), LoraConfig())
    with torch.no_grad():
        model.get_parameter("classifier.weight").fill_(torch.nan)
    with pytest.raises(AdapterError, match=r"classifier\.weight: the weight of the task head is nan, .* diverged"):
        merge_and_unload(model)


@pytest.mark.parametrize("leave", [detach, merge_and_unload])
def test_a_head_that_does_not_fit_the_models_dtype_is_named_and_kept(leave):
    model = attach(classifier("bert", torch.float16), LoraConfig())
    with torch.no_grad():
        model.get_parameter("classifier.weight").fill_(7e4)
    before = state_of(model)
    with pytest.raises(AdapterError, match=r"classifier\.weight: the weight of the task head is not finite in float16"):
        leave(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert attached_config(model) is not None


@pytest.mark.parametrize("kind", ["llama", "deberta", "bert"])
def test_a_replica_of_data_parallel_has_a_head_in_float32_too(kind):
    """Its parameters are plain attributes, not in `parameters()`."""
    model = attach(classifier(kind, torch.bfloat16), LoraConfig())
    expected = model(**sentences()).logits
    assert torch.equal(replica_of(model)(**sentences()).logits, expected)


def test_a_head_in_the_models_dtype_if_asked_for():
    model = attach(classifier("bert", torch.bfloat16), LoraConfig(adapter_dtype="model"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not [module for module in model.modules() if module._forward_pre_hooks]


def test_heads_of_float32_models_get_no_hook():
    model = attach(classifier("bert"), LoraConfig())
    assert not [module for module in model.modules() if module._forward_pre_hooks]


@pytest.mark.parametrize("kind", ["llama", "deberta", "bert"])
def test_casting_after_attaching_casts_adapters_and_head(kind):
    """As always in torch; the model still computes, and a later detach leaves one dtype."""
    for first, then in (
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
    ):
        model = attach(classifier(kind, first), LoraConfig()).to(then)
        assert {parameter.dtype for parameter in model.parameters()} == {then}
        model(**sentences()).loss.backward()
        assert {p.grad.dtype for p in trainable_parameters(model).values()} == {then}
        assert {parameter.dtype for parameter in detach(model).parameters()} == {then}


def test_a_head_on_the_meta_device():
    with torch.device("meta"):
        model = classifier("bert", torch.bfloat16)
    attach(model, LoraConfig())
    assert {p.dtype for p in trainable_parameters(model).values()} == {torch.float32}
    assert all(p.is_meta for p in model.parameters())


# --- weights that are elsewhere ------------------------------------------------------------


@pytest.mark.parametrize("where", ["cpu", "disk", "mixed"])
def test_a_base_with_offloaded_weights_is_refused_and_unchanged(tiny_gpt2, where, tmp_path):
    from accelerate import cpu_offload, disk_offload, dispatch_model

    state, folder = state_of(tiny_gpt2), save(attach(copy.deepcopy(tiny_gpt2), LoraConfig()), tmp_path / "adapter")
    if where == "cpu":
        cpu_offload(tiny_gpt2, execution_device="cpu")
    elif where == "disk":
        disk_offload(tiny_gpt2, tmp_path, execution_device="cpu")
    else:
        rest = {f"transformer.h.{i}": "cpu" for i in range(5)}
        rest |= {"transformer.wte": "cpu", "transformer.wpe": "cpu", "transformer.ln_f": "cpu", "lm_head": "cpu"}
        device_map = {**rest, "transformer.drop": "cpu", "transformer.h.5": "disk"}
        dispatch_model(tiny_gpt2, device_map, offload_dir=tmp_path, main_device="cpu")
    for config in (LoraConfig(rank=2), SoloConnectionConfig(rank=4), FullConfig()):
        with pytest.raises(AdapterError, match=r"GPT2LMHeadModel.*offloaded.*transformer.*device_map=\{'': 0\}"):
            attach(tiny_gpt2, config)
        assert all(parameter.requires_grad for parameter in tiny_gpt2.parameters())
        assert tiny_gpt2.state_dict().keys() == state.keys()
        assert attached_config(tiny_gpt2) is None
    with pytest.raises(AdapterError, match="offloaded"):
        load(tiny_gpt2, folder)


def test_a_compiled_model_is_refused(tiny_gpt2):
    """Dynamo guards no hooks: those of a method attached later would be passed over in silence."""
    with pytest.raises(AdapterError, match=r"attach first, then torch\.compile"):
        attach(torch.compile(tiny_gpt2), SoloConnectionConfig(rank=4))
    tiny_gpt2.compile()
    with pytest.raises(AdapterError, match=r"attach first, then torch\.compile"):
        attach(tiny_gpt2, SoloConnectionConfig(rank=4))


def test_weights_that_are_partly_on_the_meta_device_are_refused_without_hooks_too(tiny_gpt2):
    tiny_gpt2.transformer.h[2].to("meta")
    with pytest.raises(AdapterError, match=r"transformer\.h\.2\..*meta device"):
        attach(tiny_gpt2, LoraConfig(rank=2))
    attach(tiny_gpt2.to("meta"), LoraConfig(rank=2))
