"""Rivals from PEFT: laws that hold for each of them, closed forms, and PEFT's own wrapper as oracle."""

import copy
import json
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaForSequenceClassification,
    MPNetConfig,
    MPNetModel,
)

from replication.counting import parameter_counts
from replication.errors import AdapterError, ConfigError
from replication.examples import Encoded
from replication.methods import (
    adapter_parameters,
    attach,
    config_from_dict,
    config_to_dict,
    detach,
    load,
    merge,
    method_config,
    save,
    trainable_parameters,
    unmerge,
)
from replication.methods.lora import LoraConfig, lora_layers
from replication.methods.peft_baselines import (
    ALIASES,
    DEFAULTS,
    NOT_ON_CONV1D,
    WITHOUT_TARGETS,
    PeftBaselineConfig,
    complete_settings,
    copies,
    drawn_from,
    ia3_modules,
    is_feedforward,
    modules_ending,
    name_pattern,
    peft_config,
    peft_type,
    put_back,
    rival_names,
    tuner_layers,
    whole_projections,
)
from replication.methods.shared.saving import saved_state
from replication.testing import laws, tiny_models
from replication.training.config import TrainingConfig
from replication.training.loop import train

torch.set_num_threads(1)


SETTINGS = {
    "lora": {"r": 2},
    "dora": {"r": 2},
    "rslora": {"r": 2},
    "adalora": {"init_r": 3, "target_r": 2},
    "loha": {"r": 2},
    "lokr": {"r": 2},
    "vera": {"r": 5},
    "ia3": {},
}


OTHERS = {
    "boft": {"boft_block_size": 4},
    "oft": {"r": 4, "oft_block_size": 0},
    "hra": {"r": 2},
    "fourierft": {"n_frequency": 5},
    "vblora": {"num_vectors": 8, "vector_length": 8},
    "tinylora": {},
    "waveft": {"n_frequency": 5},
}


NOT_THE_BASE_AT_THE_START = ("fourierft", "vblora")


SIZES = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}


def bert():
    config = BertConfig(**SIZES, num_attention_heads=2, max_position_embeddings=16)
    return BertForSequenceClassification(config)


def deberta():
    disentangled = {"relative_attention": True, "position_buckets": 4, "pos_att_type": ["p2c", "c2p"]}
    config = DebertaV2Config(**SIZES, num_attention_heads=2, max_position_embeddings=16, **disentangled)
    return DebertaV2ForSequenceClassification(config)


def llama():
    config = LlamaConfig(**SIZES, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0)
    return LlamaForSequenceClassification(config)


def bart():
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"vocab_size": 31, "d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    tokens = {"max_position_embeddings": 16, "eos_token_id": 2, "num_labels": 2}
    return BartForSequenceClassification(BartConfig(**sizes, **layers, **tokens))


BUILDERS = {"bert": bert, "deberta": deberta, "llama": llama, "bart": bart}


@pytest.fixture(params=BUILDERS)
def model(request):
    return made(request.param)


def made(name):
    torch.manual_seed(0)
    return BUILDERS[name]().eval()


def rival(name, **more):
    settings = {**SETTINGS, **OTHERS}[name]
    return PeftBaselineConfig(name=name, settings=settings, **more)


def logits_of(model):
    ids = torch.randint(3, 31, (2, 6), generator=torch.Generator().manual_seed(3))
    ids[:, -1] = 2  # BART classifies at the last end mark
    with torch.no_grad():
        return model(input_ids=ids).logits


def stir(model, seed=1, size=0.05):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter) * size)
    return model


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def contents(model):
    """Of a merged model too, which gives no state_dict."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in tensors}


# --- laws ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_attached_it_starts_as_the_base_and_leaves_the_rest_alone(model, name):
    base, kind, before = logits_of(model), type(model), contents(model)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    attach(model, rival(name))
    assert type(model) is kind
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()
    torch.testing.assert_close(logits_of(model), base, atol=1e-6, rtol=1e-5)
    owned = set(adapter_parameters(model))
    rest = {key.replace(".base_layer", ""): v for key, v in contents(model).items() if ".base_layer" in key}
    rest |= {key: v for key, v in contents(model).items() if key in before}
    assert same(rest, before)
    trained = set(trainable_parameters(model))
    assert trained - owned == {
        key for key in before if key.startswith(("classifier", "score", "pooler.dense", "bert.pooler"))
    } | {key for key in before if key.startswith("classification_head")}
    assert all(not module.training for module in model.modules())
    assert not hasattr(model, "peft_config")


@pytest.mark.parametrize("name", SETTINGS)
def test_saved_and_loaded_it_gives_the_same_bits(model, name, tmp_path):
    fresh, base = copy.deepcopy(model), logits_of(model)
    stir(attach(model, rival(name, init_seed=7)))
    after = logits_of(model)
    assert not torch.allclose(after, base, atol=1e-4)
    save(model, tmp_path)
    state = torch.get_rng_state()
    assert torch.equal(logits_of(load(fresh, tmp_path)), after)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(trainable_parameters(fresh)) == set(trainable_parameters(model))


@pytest.mark.parametrize("name", SETTINGS)
def test_merging_keeps_the_function_and_all_of_it_is_undone(model, name, tmp_path):
    before = contents(model)
    thawed = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    stir(attach(model, rival(name)))
    after, weights = logits_of(model), contents(model)
    assert merge(model) is model
    assert not same(contents(model), weights)
    torch.testing.assert_close(logits_of(model), after, atol=1e-5, rtol=1e-4)
    save(merge(model), tmp_path / "merged")
    save(unmerge(unmerge(model)), tmp_path / "plain")
    assert same(contents(model), weights)
    assert torch.equal(logits_of(model), after)
    one, other = (tmp_path / folder / "adapter_model.safetensors" for folder in ("merged", "plain"))
    assert one.read_bytes() == other.read_bytes()
    head = {key: tensor for key, tensor in weights.items() if key in trainable_parameters(model)}
    detach(merge(model))
    assert same(contents(model), {**before, **{key: head[key] for key in before if key in head}})
    assert {key for key, parameter in model.named_parameters() if parameter.requires_grad} == thawed
    assert not tuner_layers(model)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_copy_is_complete_and_independent(name):
    model = made("bert")
    stir(attach(model, rival(name)))
    twin, after = copy.deepcopy(model), logits_of(model)
    stir(twin, seed=2)
    assert torch.equal(logits_of(model), after)
    assert not torch.equal(logits_of(twin), after)
    detach(merge(twin))
    assert tuner_layers(model)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_seed_decides_the_start(name):
    draws = []
    for seed in (0, 0, 1):
        model = attach(made("bert"), rival(name, init_seed=seed))
        draws.append({key: v.clone() for key, v in saved_state(model).items() if not key.startswith("classifier")})
    assert same(draws[0], draws[1])
    assert same(draws[0], draws[2]) == (name == "ia3")  # its vectors start at one


@pytest.mark.parametrize("name", SETTINGS)
def test_counts_are_the_same_on_the_meta_device_and_in_bfloat16(name):
    counts = [parameter_counts(attach(made("llama"), rival(name)))]
    with torch.device("meta"):
        counts.append(parameter_counts(attach(BUILDERS["llama"](), rival(name))))
    half = attach(made("llama").to(torch.bfloat16), rival(name))
    counts.append(parameter_counts(half))
    assert counts[0] == counts[1] == counts[2]
    assert {tensor.dtype for tensor in saved_state(half).values()} == {torch.float32}
    assert logits_of(stir(half)).dtype == torch.float32  # the head's


@pytest.mark.parametrize("name", SETTINGS)
def test_adapters_in_the_models_dtype_if_asked_for(name):
    half = attach(made("llama").to(torch.bfloat16), rival(name, adapter_dtype="model"))
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert config_to_dict(rival(name, adapter_dtype="model"))["adapter_dtype"] == "model"
    assert "adapter_dtype" not in config_to_dict(rival(name))
    with pytest.raises(ConfigError, match="adapter_dtype='half'"):
        rival(name, adapter_dtype="half")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SETTINGS)
def test_merging_into_half_precision_rounds_once(name, dtype):
    """The merged weight is PEFT's own merge into the same weight in float32, rounded; unmerging gives the bits back."""
    half = made("llama").to(dtype)
    wide = copy.deepcopy(half).float()
    for one in (half, wide):
        stir(attach(one, rival(name)))
    with torch.no_grad():
        for mine, theirs in zip(saved_state(half).values(), saved_state(wide).values(), strict=True):
            theirs.copy_(mine)
    before = {key: layer.get_base_layer().weight.detach().clone() for key, layer in tuner_layers(half).items()}
    merge(half)
    merge(wide)
    for key, layer in tuner_layers(half).items():
        merged = layer.get_base_layer().weight
        assert merged.dtype == dtype
        assert torch.equal(merged, wide.get_submodule(key).get_base_layer().weight.to(dtype))
    unmerge(half)
    for key, layer in tuner_layers(half).items():
        assert torch.equal(layer.get_base_layer().weight, before[key])


def test_a_merge_that_overflows_in_float16_names_the_module_and_changes_nothing(tiny_llama):
    model = attach(tiny_llama.to(torch.float16), PeftBaselineConfig(name="lora", targets=("query", "value")))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "v_proj.lora" in name:
                parameter.fill_(100.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(AdapterError, match=r"layers\.0\.self_attn\.v_proj: the merged weight is not finite in float16"):
        merge(model)
    assert not any(layer.merged for layer in tuner_layers(model).values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("vera", {"r": 4}),
        ("dora", {}),
        ("loha", {}),
        ("lora", {"init_lora_weights": "pissa", "r": 2}),
        ("vblora", {"num_vectors": 8, "vector_length": 8}),
    ],
)
def test_merged_and_unloaded_it_is_a_plain_model(name, settings, tiny_llama, tmp_path):
    config = PeftBaselineConfig(name=name, settings=settings, targets=("query", "value"))
    laws.merges_into_a_plain_model(tiny_llama, config, tmp_path)


def test_a_merge_that_fails_leaves_the_dtype():
    half = attach(made("llama").to(torch.bfloat16), rival("lora"))
    layer = next(iter(tuner_layers(half).values()))
    layer.merge = lambda: (_ for _ in ()).throw(NotImplementedError("no"))
    with pytest.raises(AdapterError, match="cannot be merged: no"):
        merge(half)
    assert {layer.get_base_layer().weight.dtype for layer in tuner_layers(half).values()} == {torch.bfloat16}


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_tuner_goes_by_its_name(name, tmp_path):
    model, fresh = made("bert"), made("bert")
    base, before = logits_of(model), contents(model)
    attach(model, rival(name))
    if name not in NOT_THE_BASE_AT_THE_START:
        torch.testing.assert_close(logits_of(model), base, atol=1e-6, rtol=1e-5)
    stir(model)
    assert not torch.allclose(logits_of(model), base, atol=1e-4)
    save(model, tmp_path)
    assert torch.equal(logits_of(load(fresh, tmp_path)), logits_of(model))
    detach(model)
    assert same({**contents(model), **{k: v for k, v in before.items() if "classifier" in k or "pooler" in k}}, before)


def test_a_tuner_that_cannot_merge_says_so_and_stays_unmerged():
    model = made("bert")
    stir(attach(model, PeftBaselineConfig(name="lily", settings={"r": 2})))
    after = logits_of(model)
    with pytest.raises(AdapterError, match="lily cannot be merged"):
        merge(model)
    assert torch.equal(logits_of(model), after)


def test_norms_are_found_by_the_end_of_their_name():
    model = made("bert")
    attach(model, PeftBaselineConfig(name="ln_tuning", targets=("LayerNorm",)))
    assert parameter_counts(model).adapter == (1 + 2 * 2) * 2 * 16
    with pytest.raises(AdapterError, match="cannot be merged"):
        merge(model)
    with pytest.raises(AdapterError, match=r"'Norm'.*LayerNorm"):
        attach(made("bert"), PeftBaselineConfig(name="ln_tuning", targets=("Norm",)))


# --- closed forms and PEFT as oracle --------------------------------------------------

SHAPES = [(16, 16), (16, 8), (16, 8)] * 2  # query, key, value of two blocks of the Llama: two key-value heads of four


CLOSED_FORMS = {
    "lora": sum(2 * (i + o) for i, o in SHAPES),
    "dora": sum(2 * (i + o) + o for i, o in SHAPES),
    "rslora": sum(2 * (i + o) for i, o in SHAPES),
    "adalora": sum(3 * (i + o + 1) for i, o in SHAPES),
    "loha": sum(2 * 2 * (i + o) for i, o in SHAPES),
    # 16 = 4 x 4 and 8 = 2 x 4: a full first factor; the second (4 x 4) in full too, as r=2 is not below half its side
    "lokr": sum({16: 4, 8: 2}[o] * 4 + 4 * 4 for i, o in SHAPES),
    "vera": sum(5 + o for i, o in SHAPES),
    "ia3": 2 * (8 + 8 + 24),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_counts_follow_the_closed_form_and_peft(name):
    from peft import get_peft_model

    from replication.methods.peft_baselines import peft_config

    model, theirs = made("llama"), made("llama")
    config = rival(name)
    counts = parameter_counts(attach(model, config))
    assert counts.adapter == CLOSED_FORMS[name]
    assert counts.head == 2 * 16
    targets = ["k_proj", "v_proj", "down_proj"] if name == "ia3" else ["q_proj", "k_proj", "v_proj"]
    own = {"feedforward_modules": ["down_proj"]} if name == "ia3" else {}
    own |= {"total_step": 9} if name == "adalora" else {}
    wrapped = get_peft_model(theirs, peft_config(name, config.settings, target_modules=targets, **own))
    assert wrapped.get_nb_trainable_parameters()[0] == CLOSED_FORMS[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_values_in_pefts_own_wrapper_give_the_same_logits(name):
    from peft import get_peft_model

    from replication.methods.peft_baselines import peft_config

    model, theirs = made("llama"), made("llama")
    config = rival(name)
    stir(attach(model, config))
    targets = ["k_proj", "v_proj", "down_proj"] if name == "ia3" else ["q_proj", "k_proj", "v_proj"]
    own = {"feedforward_modules": ["down_proj"]} if name == "ia3" else {}
    own |= {"total_step": 9} if name == "adalora" else {}
    wrapped = get_peft_model(theirs, peft_config(name, config.settings, target_modules=targets, **own)).eval()
    ours = model.state_dict()
    target = {key.removeprefix("base_model.model."): tensor for key, tensor in wrapped.state_dict().items()}
    assert set(ours) <= set(target)  # PEFT's wrapper lists VeRA's shared matrices once more
    for key, tensor in ours.items():
        target[key].copy_(tensor)
    assert torch.equal(logits_of(wrapped), logits_of(model))


def test_pefts_lora_and_ours_have_the_same_loss_trajectory(tiny_llama):
    settings = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
    theirs = attach(copy.deepcopy(tiny_llama), PeftBaselineConfig(name="lora", settings=settings))
    ours = attach(tiny_llama, LoraConfig(rank=4, alpha=8, dropout=0.1, targets=("query", "key", "value")))
    for name, layer in lora_layers(ours).items():
        with torch.no_grad():
            layer.updates()[0][1].lora_A.copy_(theirs.get_submodule(name).lora_A["default"].weight)
    rows = torch.randint(3, 97, (12, 9), generator=torch.Generator().manual_seed(0)).tolist()
    examples = [Encoded(row, [0, 0] + [1] * 7) for row in rows]
    config = TrainingConfig(steps=8, warmup_steps=2, learning_rate=0.01, batch_size=4, log_every=1, threads=1)
    losses = []
    for model in (theirs, ours):
        result = train(model, examples, examples[:4], config, seed=5, pad_id=0)
        losses.append([row["loss"] for row in result.curves[1:]] + [result.dev_loss])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][-2] < losses[0][0] - 0.05


# --- special cases --------------------------------------------------------------------


def test_veras_random_matrices_are_shared_and_saved_once(tmp_path):
    from safetensors import safe_open

    model = made("bert")
    attach(model, rival("vera"))
    layers = list(tuner_layers(model).values())
    assert len({id(layer.vera_A["default"]) for layer in layers}) == 1
    save(model, tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", framework="pt") as handle:
        shared = [name for name in handle.keys() if ".vera_A." in name or ".vera_B." in name]  # noqa: SIM118
    assert len(shared) == 2


def test_the_start_values_of_pissa_are_taken_out_of_the_base_and_put_back(tmp_path):
    model, fresh = made("bert"), made("bert")
    base, before = logits_of(model), contents(model)
    attach(model, PeftBaselineConfig(name="lora", settings={"r": 2, "init_lora_weights": "pissa"}))
    name = "bert.encoder.layer.0.attention.self.query"
    assert not torch.equal(model.state_dict()[f"{name}.base_layer.weight"], before[f"{name}.weight"])
    torch.testing.assert_close(logits_of(model), base, atol=1e-5, rtol=1e-4)
    stir(model)
    save(model, tmp_path)
    torch.testing.assert_close(logits_of(load(fresh, tmp_path)), logits_of(model), atol=1e-6, rtol=1e-5)
    detach(merge(model))
    assert same({**contents(model), **{k: v for k, v in before.items() if "classifier" in k or "pooler" in k}}, before)


def test_a_slice_of_the_fused_projection_is_refused(tiny_gpt2):
    before = contents(tiny_gpt2)
    with pytest.raises(AdapterError, match=r"dora cannot wrap only query: transformer\.h\.0\.attn\.c_attn .*'c_attn'"):
        attach(tiny_gpt2, PeftBaselineConfig(name="dora"))
    assert same(contents(tiny_gpt2), before)
    attach(tiny_gpt2, PeftBaselineConfig(name="dora", settings={"r": 4}, targets=("c_attn",)))
    assert parameter_counts(tiny_gpt2).adapter == 6 * (4 * (32 + 96) + 96)


# Settings with which the tiny GPT-2 is not too small.
SMALL = {
    "c3a": {"block_size": 8},
    "boft": {"boft_block_size": 4},
    "fourierft": {"n_frequency": 5},
    "miss": {"r": 2},
    "psoft": {"r": 2},
    "road": {"group_size": 8},
    "shira": {"r": 2},
    "vblora": {"num_vectors": 8, "vector_length": 8},
    "vera": {"r": 5},
    "waveft": {"n_frequency": 5},
}
ON_PROJECTIONS = sorted(set(rival_names()) - set(WITHOUT_TARGETS) - {"ln_tuning", "adamss"})


def test_what_peft_cannot_place_on_a_conv1d_is_refused_with_what_it_can(monkeypatch):
    plain = tiny_models.tiny_gpt2()
    before = contents(plain)
    configs = {name: PeftBaselineConfig(name, SMALL.get(name, {}), ("c_attn",)) for name in ON_PROJECTIONS}
    for name, config in configs.items():
        if peft_type(name) in NOT_ON_CONV1D:
            with pytest.raises(
                AdapterError, match=rf"{name}: PEFT has no .*h\.0\.attn\.c_attn, a Conv1D .*adalora.*dora"
            ):
                attach(plain, config)
    assert same(contents(plain), before)
    monkeypatch.setattr("replication.methods.peft_baselines.NOT_ON_CONV1D", ())
    assert {name for name, config in configs.items() if not trains(copy.deepcopy(plain), config)} == {
        *NOT_ON_CONV1D
    } - {"adamss"}  # its package is not installed


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(rival_names()) - {"adamss", "xlora"}))  # a package; trained adapters
def test_every_type_trains_on_a_llama(name, tiny_llama):
    settings = {"cpt": {"cpt_token_ids": [4, 5]}, "trainable_tokens": {"token_indices": [*range(3, 97)]}, **SMALL}
    targets = ("input_layernorm",) if name == "ln_tuning" else None
    model = attach(tiny_llama, PeftBaselineConfig(name, settings.get(name, {}), targets))
    before = laws.logits_of(model, laws.some_ids())
    assert not torch.equal(laws.logits_of(laws.train_steps(model), laws.some_ids()), before)


def trains(model, config):
    try:
        return bool(trainable_parameters(attach(model, config)))
    except AdapterError as error:
        if "Conv1D" in str(error):
            return False
        raise


def test_a_role_of_a_conv1d_is_refused_for_the_same_reason_first(tiny_gpt2):
    with pytest.raises(AdapterError, match="PEFT has no such layer"):
        attach(tiny_gpt2, PeftBaselineConfig("lokr"))


def test_ia3_finds_its_modules_on_every_architecture(tiny_gpt2, tiny_bart):
    widths = {"bert": 2 * (16 + 16 + 24), "deberta": 2 * (16 + 16 + 24), "llama": 2 * (8 + 8 + 24)}
    for name, expected in widths.items():
        assert parameter_counts(attach(made(name), rival("ia3"))).adapter == expected
    assert parameter_counts(attach(tiny_bart, rival("ia3"))).adapter == 2 * (64 + 64) + 6 * (4 * 32 + 64)
    assert parameter_counts(attach(tiny_gpt2, rival("ia3"))).adapter == 6 * (96 + 128)
    layer = tiny_gpt2.transformer.h[0].mlp.c_proj
    assert layer.is_feedforward
    assert not tiny_gpt2.transformer.h[0].attn.c_attn.is_feedforward
    model = attach(made("bert"), rival("ia3"))
    assert not hasattr(model.bert.encoder.layer[0].attention.output.dense, "is_feedforward")


def test_a_module_in_two_places_is_wrapped_in_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.query = nn.Linear(4, 4)
            self.again = nn.ModuleDict({"key": self.query})

    model = Twice()
    plain = model.query
    attach(model, PeftBaselineConfig(name="lora", settings={"r": 1}, targets=("query",)))
    assert model.again["key"] is model.query
    assert model.query is not plain
    detach(model)
    assert model.again["key"] is model.query is plain


def test_a_failed_injection_leaves_the_model_as_it_was():
    model = made("llama")
    before = contents(model)
    thawed = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    config = PeftBaselineConfig(name="c3a", settings={"block_size": 16})  # fits the query, not the 8 wide key
    with pytest.raises(AdapterError, match=r"c3a does not fit LlamaForSequenceClassification: .*8 .*16"):
        attach(model, config)
    assert same(contents(model), before)
    assert not tuner_layers(model)
    assert {key for key, parameter in model.named_parameters() if parameter.requires_grad} == thawed


@pytest.mark.parametrize(("name", "settings"), [("dora", {"r": 9}), ("adalora", {"init_r": 9})])
def test_a_rank_above_the_smaller_side_names_the_module(name, settings):
    with pytest.raises(AdapterError, match=r"r=9 exceeds 8.*layers\.0\.self_attn\.k_proj: 16 in, 8 out; .* up to 8"):
        attach(made("llama"), PeftBaselineConfig(name=name, settings=settings))


def test_a_target_that_matches_nothing_lists_the_modules():
    with pytest.raises(AdapterError, match=r"'nothing'.*self_attn\.k_proj"):
        attach(made("llama"), PeftBaselineConfig(name="dora", targets=("nothing",)))


# --- configurations -------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_a_configuration_makes_a_round_trip_through_json(name):
    config = method_config("peft_baselines", name=name, settings=SETTINGS[name], init_seed=3)
    assert config == rival(name, init_seed=3)
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config


def test_what_is_given_does_not_change_afterwards():
    settings = {"r": 2, "rank_pattern": {"query": 1}}
    config = PeftBaselineConfig(name="lora", settings=settings)
    settings["rank_pattern"]["query"] = 5
    assert config.settings["rank_pattern"] == {"query": 1}


def test_targets_may_be_one_name_and_have_defaults():
    assert PeftBaselineConfig(name="dora", targets="query").targets == ("query",)
    assert PeftBaselineConfig(name="dora").targets == ("query", "key", "value")
    assert PeftBaselineConfig(name="ia3").targets is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targets": ()}, "targets="),
        ({"targets": [1]}, "targets="),
        ({"init_seed": -1}, "init_seed=-1"),
        ({"init_seed": 2**32}, "init_seed=4294967296"),
        ({"name": "ln_tuning"}, "targets must be given"),
    ],
)
def test_bad_fields_are_refused_by_name(fields, message):
    with pytest.raises(ConfigError, match=message):
        PeftBaselineConfig(**{"name": "dora", **fields})


@pytest.mark.long
def test_the_package_is_imported_without_peft():
    code = "import sys, replication.methods; sys.exit('peft' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_rivals_of_the_paper_and_more_are_known():
    names = rival_names()
    assert {"adalora", "dora", "rslora", "loha", "lokr", "vera", "ia3", "boft", "oft", "lora"} <= set(names)
    assert peft_type("dora") == peft_type("rslora") == "lora"


def test_defaults_are_those_of_the_papers_controls():
    assert complete_settings("dora", {}) == {"r": 8, "lora_alpha": 32, "lora_dropout": 0.05}
    assert complete_settings("adalora", {})["target_r"] == 8
    assert complete_settings("loha", {"r": 4}) == {"r": 4, "alpha": 32}
    assert DEFAULTS["lora"]["r"] == 8


def test_a_switch_of_lora_is_set_by_the_name():
    assert peft_config("dora", {"r": 2}, target_modules="x").use_dora
    assert peft_config("rslora", {"r": 2}, target_modules="x").use_rslora
    plain = peft_config("lora", {"r": 2}, target_modules="x")
    assert not plain.use_dora
    assert not plain.use_rslora


def test_an_unknown_name_lists_the_valid_ones():
    with pytest.raises(ConfigError, match=r"name='doar': unknown; valid names are .*adalora.*dora.*vera"):
        complete_settings("doar", {})
    with pytest.raises(ConfigError, match=r"name=\['dora'\]"):
        complete_settings(["dora"], {})


def test_every_type_of_peft_is_a_rival():
    from peft.utils import PeftType

    assert {kind.value.lower() for kind in PeftType} | set(ALIASES) == set(rival_names())


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("replication.methods.peft_baselines.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match="adamss needs scikit-learn, which is not installed: pip install scikit-learn"
    ):
        PeftBaselineConfig(name="adamss")


def test_an_unknown_keyword_lists_the_fields():
    with pytest.raises(ConfigError, match=r"dora: unknown setting\(s\) rank; valid are .*lora_alpha.*, r,"):
        complete_settings("dora", {"rank": 8})
    with pytest.raises(ConfigError, match=r"adalora: unknown setting\(s\) r; valid are .*init_r.*target_r"):
        complete_settings("adalora", {"r": 8})


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dora", {"target_modules": ["x"]}, "settings.target_modules cannot be given: use `targets`"),
        ("dora", {"modules_to_save": ["x"]}, "task head"),
        ("lora", {"bias": "all"}, "detach"),
        ("lora", {"use_dora": True}, "name='dora'"),
        ("ia3", {"feedforward_modules": ["fc2"]}, "feedforward"),
        ("vera", {}, r"settings.r must be given: .*1024.*256"),
        ("dora", {"r": 0}, "settings.r=0"),
        ("dora", {"r": True}, "settings.r=True"),
        ("dora", {"r": 2.0}, "settings.r=2.0"),
        ("adalora", {"init_r": -1}, "settings.init_r=-1"),
        ("loha", {"alpha": 0}, "settings.alpha=0"),
        ("dora", {"lora_alpha": "32"}, "settings.lora_alpha='32'"),
        ("dora", {"lora_dropout": 1.0}, "settings.lora_dropout=1.0"),
        ("vera", {"r": 4, "vera_dropout": -0.1}, "settings.vera_dropout=-0.1"),
        ("lora", {"init_lora_weights": "eva"}, "needs data"),
        ("dora", {"r": {1, 2}}, "must be JSON values"),
        ("dora", {"lora_alpha": float("nan")}, "must be JSON values"),
        ("dora", [("r", 8)], "must be a mapping"),
    ],
)
def test_bad_settings_are_refused_with_a_reason(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        complete_settings(name, settings)


def test_pefts_own_refusal_is_passed_on():
    with pytest.raises(ConfigError, match=r"adalora: PEFT refuses the settings: .*orth_reg_weight"):
        peft_config("adalora", {"orth_reg_weight": -1.0, "total_step": 9}, target_modules="x")


def empty(kind, config):
    with torch.device("meta"):
        return kind(config)


EMPTY_SIZES = {
    "vocab_size": 9,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def test_roles_give_full_names_in_module_order():
    model = empty(BertModel, BertConfig(**EMPTY_SIZES))
    start = "encoder.layer.0.attention.self."
    assert whole_projections(model, ("value", "query"), "dora") == [start + "query", start + "value"]


def test_a_fused_projection_is_taken_whole_or_not_at_all():
    model = empty(GPT2Model, GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2))
    assert whole_projections(model, ("c_attn",), "dora") == ["h.0.attn.c_attn"]
    with pytest.raises(AdapterError, match=r"dora cannot wrap only value: h\.0\.attn\.c_attn"):
        whole_projections(model, ("c_fc", "value"), "dora")
    assert ia3_modules(model) == ["h.0.attn.c_attn", "h.0.mlp.c_proj"]


def test_the_feedforward_of_a_bert_is_not_the_output_of_its_attention():
    model = empty(BertModel, BertConfig(**EMPTY_SIZES))
    start = "encoder.layer.0."
    assert ia3_modules(model) == [f"{start}attention.self.key", f"{start}attention.self.value", f"{start}output.dense"]
    assert not is_feedforward(f"{start}attention.output.dense")
    assert not is_feedforward(f"{start}intermediate.dense")


def test_mpnet_is_known():
    model = empty(MPNetModel, MPNetConfig(**EMPTY_SIZES))
    start = "encoder.layer.0."
    assert ia3_modules(model) == [f"{start}attention.attn.k", f"{start}attention.attn.v", f"{start}output.dense"]


def test_a_model_without_a_feedforward_says_what_was_looked_for():
    attention = torch.nn.ModuleDict({"key": torch.nn.Linear(2, 2), "value": torch.nn.Linear(2, 2)})
    model = torch.nn.ModuleDict({"attention": attention})
    with pytest.raises(AdapterError, match=r"no second projection .* \(looked for output\.dense, fc2"):
        ia3_modules(model)


def test_modules_are_found_by_the_end_of_their_name():
    model = empty(BertModel, BertConfig(**EMPTY_SIZES))
    norms = modules_ending(model, ("LayerNorm",))
    assert len(norms) == 3
    with pytest.raises(AdapterError, match=r"'encoder' matches no module .*LayerNorm"):
        modules_ending(model, ("encoder",))  # it has children: it is no layer


NAMES = st.lists(st.text("a0_.", min_size=1, max_size=6), max_size=5)


@given(chosen=NAMES, others=NAMES)
def test_the_pattern_matches_the_names_and_nothing_else(chosen, others):
    pattern = name_pattern(chosen)
    for name in [*chosen, *others, "", "x" + ".".join(chosen)]:
        assert bool(re.fullmatch(pattern, name)) == (name in chosen)


def test_warnings_of_peft_reach_the_user():
    config = PeftBaselineConfig("lora", {"r": 2, "alpha_pattern": {"nothing": 3}, "rank_pattern": {"nowhere": 1}})
    with pytest.warns(RuntimeWarning, match=r"alpha_pattern keys did not match .*nothing") as caught:
        attach(made("llama"), config)
    assert any("rank_pattern keys" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("name", ["boft", "ln_tuning", "frod", "prompt_tuning"])
def test_what_is_intended_brings_no_warning(name, recwarn):
    settings, targets = OTHERS.get(name, {}), ("LayerNorm",) if name == "ln_tuning" else None
    attach(made("bert"), PeftBaselineConfig(name, settings, targets))
    assert [str(warning.message) for warning in recwarn] == []


def test_a_warning_about_settings_comes_once(recwarn):
    PeftBaselineConfig("lora", {"loftq_config": {"loftq_bits": 4}})
    assert len(recwarn) == 1
    attach(made("llama"), PeftBaselineConfig("lora", {"r": 2, "loftq_config": {"loftq_bits": 4}}))
    assert len([warning for warning in recwarn if "loftq" in str(warning.message)]) == 2


def test_every_source_of_chance_is_put_back():
    torch.manual_seed(5)
    expected = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    draws = []
    for _ in range(2):
        with drawn_from(3):
            draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    with pytest.raises(KeyError), drawn_from(4):
        raise KeyError(torch.rand(1))
    assert random.getstate() == expected[0]
    assert np.random.get_state()[1].tolist() == expected[1]
    assert torch.equal(torch.get_rng_state(), expected[2])


def test_merging_a_tied_head_leaves_the_embedding_alone(tiny_gpt2):
    attach(tiny_gpt2, PeftBaselineConfig(name="dora", settings={"r": 2}, targets=("lm_head",)))
    with torch.no_grad():
        for parameter in trainable_parameters(tiny_gpt2).values():
            parameter.add_(0.1)
    embedding = tiny_gpt2.transformer.wte.weight
    before = embedding.detach().clone()
    merge(tiny_gpt2)
    assert torch.equal(tiny_gpt2.transformer.wte.weight, before)
    assert not torch.equal(tiny_gpt2.lm_head.base_layer.weight, before)
    unmerge(tiny_gpt2)
    assert tiny_gpt2.lm_head.base_layer.weight is embedding
    assert torch.equal(embedding, before)


def test_unmerging_after_a_change_of_dtype_keeps_the_new_one(tiny_llama):
    attach(tiny_llama, PeftBaselineConfig(name="rslora", settings={"r": 2}))
    unmerge(merge(tiny_llama).to(torch.bfloat16))
    assert {parameter.dtype for parameter in tiny_llama.parameters()} == {torch.bfloat16}
    assert len(tuner_layers(tiny_llama)) == 18


def test_copies_are_put_back_in_the_dtype_of_the_moment():
    layer = nn.Linear(2, 3)
    weight, kept = layer.weight.detach().clone(), copies(layer)
    with torch.no_grad():
        layer.weight.zero_()
    layer.to(torch.float64)
    put_back(layer, kept)
    assert torch.equal(layer.weight, weight.double())
    assert set(kept) == {"weight", "bias"}
