"""LoRA: structure, resolver, merging, and PEFT as oracle."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForSequenceClassification
from transformers.pytorch_utils import Conv1D

from replication.errors import AdapterError, ConfigError
from replication.methods import (
    attach,
    attached_config,
    detach,
    load,
    merge,
    merge_and_unload,
    save,
    trainable_parameters,
    unmerge,
)
from replication.methods.lora import LoraConfig, lora_layers
from replication.testing import laws


def logits_of(model, seed=3):
    ids = torch.randint(3, 97, (2, 7), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model(input_ids=ids).logits


def stir(model, seed=1, size=0.2):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    return model


def test_each_slice_of_the_fused_projection_has_its_own_pair(tiny_gpt2):
    attach(tiny_gpt2, LoraConfig(rank=3))
    names = [f"transformer.h.{b}.attn.c_attn.{t}.lora_{m}" for b in range(6) for t in ("query", "value") for m in "AB"]
    assert list(trainable_parameters(tiny_gpt2)) == names
    shapes = {name[-6:]: tuple(p.shape) for name, p in trainable_parameters(tiny_gpt2).items()}
    assert shapes == {"lora_A": (3, 32), "lora_B": (32, 3)}


@pytest.mark.parametrize(("target", "start"), [("query", 0), ("key", 32), ("value", 64)])
def test_an_update_reaches_its_own_slice_only(tiny_gpt2, target, start):
    attach(tiny_gpt2, LoraConfig(rank=3, targets=(target,)))
    stir(tiny_gpt2)
    layer = tiny_gpt2.transformer.h[2].attn.c_attn
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    change = layer(x) - layer.base_layer(x)
    A, B = layer.get_submodule(target).lora_A, layer.get_submodule(target).lora_B
    expected = torch.zeros(2, 5, 96)
    expected[..., start : start + 32] = 32 / 3 * x @ A.T @ B.T
    torch.testing.assert_close(change, expected, atol=1e-5, rtol=1e-5)
    others = torch.ones(96, dtype=torch.bool)
    others[start : start + 32] = False
    assert (change[..., others] == 0).all()


def test_the_whole_fused_projection_is_another_model_with_the_same_count(tiny_gpt2):
    twin = copy.deepcopy(tiny_gpt2)
    split = trainable_parameters(attach(tiny_gpt2, LoraConfig(rank=4)))
    whole = trainable_parameters(attach(twin, LoraConfig(rank=4, targets=("c_attn",))))
    assert sum(p.numel() for p in split.values()) == sum(p.numel() for p in whole.values())
    assert tuple(next(p for n, p in whole.items() if n.endswith("lora_B")).shape) == (96, 4)
    assert len(whole) == len(split) / 2


def test_start_values_and_scale(tiny_llama):
    attach(tiny_llama, LoraConfig(rank=8, alpha=12))
    for layer in lora_layers(tiny_llama).values():
        for piece, update in layer.updates():
            assert update.scaling == 1.5
            assert piece.label in ("query", "value")
            bound = 1 / 32**0.5  # kaiming uniform with a = sqrt(5) over 32 inputs
            assert update.lora_A.abs().max() <= bound
            assert update.lora_A.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)
            assert (update.lora_B == 0).all()
    first, second = list(lora_layers(tiny_llama).values())[:2]
    assert not torch.equal(first.updates()[0][1].lora_A, second.updates()[0][1].lora_A)


def test_the_seed_decides_the_start(tiny_gpt2):
    draws = []
    for seed in (0, 0, 1):
        attach(tiny_gpt2, LoraConfig(init_seed=seed))
        draws.append(next(iter(trainable_parameters(tiny_gpt2).values())).detach().clone())
        detach(tiny_gpt2)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_dropout_is_on_the_input_of_the_update_only(tiny_gpt2):
    attach(tiny_gpt2, LoraConfig(rank=2, dropout=0.5))
    stir(tiny_gpt2)
    layer = tiny_gpt2.transformer.h[0].attn.c_attn
    assert not layer.dropout.training  # attached to a model in evaluation mode
    x = torch.ones(1, 2000, 32)
    layer.train()
    layer.value.load_state_dict(layer.query.state_dict())
    change = (layer(x) - layer.base_layer(x))[0]
    assert change.std(dim=0)[:32].min() > 0
    torch.testing.assert_close(change[:, :32], change[:, 64:], atol=1e-5, rtol=1e-4)  # one mask for all slices
    assert (change[:, 32:64] == 0).all()
    expected = layer.query(x)[0].mean(0)
    torch.testing.assert_close(change[:, :32].mean(0), expected, atol=0.4, rtol=0.2)


# --- merging -------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["tiny_gpt2", "tiny_llama"])
@settings(max_examples=12)
@given(
    rank=st.integers(1, 8),
    alpha=st.floats(0.1, 64),
    targets=st.sets(st.sampled_from(["query", "key", "value", "output"]), min_size=1),
    seed=st.integers(0, 100),
)
def test_merge_keeps_the_function_and_unmerge_restores_the_weights(request, fixture, rank, alpha, targets, seed):
    model = copy.deepcopy(request.getfixturevalue(fixture))
    base = logits_of(model)
    attach(model, LoraConfig(rank=rank, alpha=alpha, targets=sorted(targets)))
    stir(model, seed, size=0.05)
    before, weights = logits_of(model), copy.deepcopy(model.state_dict())
    assert not torch.equal(before, base)
    assert merge(model) is model
    merged = {key: value.detach().clone() for key, value in model.named_parameters()}
    assert any(not torch.equal(value, weights[key]) for key, value in merged.items())
    torch.testing.assert_close(logits_of(model), before, atol=1e-4, rtol=1e-3)
    merge(model)
    assert all(torch.equal(value, merged[key]) for key, value in model.named_parameters())
    assert unmerge(unmerge(model)) is model
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert torch.equal(logits_of(model), before)
    assert torch.equal(logits_of(detach(merge(model))), base)


@pytest.mark.parametrize("fixture", ["tiny_gpt2", "tiny_llama", "tiny_bart"])
def test_saving_while_merged_writes_the_same_bytes(request, fixture, tmp_path):
    model = request.getfixturevalue(fixture)
    base = copy.deepcopy(model)
    stir(attach(model, LoraConfig(rank=2)))
    before = logits_of(model)
    save(model, tmp_path / "plain")
    save(merge(model), tmp_path / "merged")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "merged" / name).read_bytes()
    assert torch.equal(logits_of(load(base, tmp_path / "merged")), before)


def test_a_copy_made_while_merged_unmerges_by_itself(tiny_gpt2):
    stir(attach(tiny_gpt2, LoraConfig(rank=2)))
    before = logits_of(tiny_gpt2)
    twin = copy.deepcopy(merge(tiny_gpt2))
    assert torch.equal(logits_of(unmerge(twin)), before)
    assert all(layer.merged for layer in lora_layers(tiny_gpt2).values())


def test_merging_a_tied_head_leaves_the_embedding_alone(tiny_gpt2):
    stir(attach(tiny_gpt2, LoraConfig(rank=2, targets=("lm_head",))))
    embedding, before = tiny_gpt2.transformer.wte.weight.detach().clone(), logits_of(tiny_gpt2)
    merge(tiny_gpt2)
    assert torch.equal(tiny_gpt2.transformer.wte.weight, embedding)
    torch.testing.assert_close(logits_of(tiny_gpt2), before, atol=1e-5, rtol=1e-4)
    assert unmerge(tiny_gpt2).lm_head.base_layer.weight is tiny_gpt2.transformer.wte.weight


def test_unmerging_after_a_change_of_dtype_keeps_the_new_one(tiny_gpt2):
    stir(attach(tiny_gpt2, LoraConfig(rank=2)))
    unmerge(merge(tiny_gpt2).to(torch.bfloat16))
    assert {parameter.dtype for parameter in tiny_gpt2.parameters()} == {torch.bfloat16}


# --- half precision ---------------------------------------------------------------------


def moved(parameters, before):
    """Share of the entries that are not what they were."""
    changed = sum(int((p != before[name]).sum()) for name, p in parameters.items())
    return changed / sum(p.numel() for p in parameters.values())


def twenty_updates(model, parameters):
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    for step in range(20):
        ids = torch.randint(3, 97, (4, 9), generator=torch.Generator().manual_seed(step))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return moved(parameters, before)


def test_as_much_of_A_moves_in_a_bfloat16_model_as_with_stock_peft(tiny_llama):
    from peft import LoraConfig as PeftLora
    from peft import get_peft_model

    base = tiny_llama.to(torch.bfloat16)

    def of_A(model):
        return {name: p for name, p in model.named_parameters() if "lora_A" in name}

    theirs = get_peft_model(copy.deepcopy(base), PeftLora(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"]))
    ours = attach(copy.deepcopy(base), LoraConfig(rank=4, dropout=0.0))
    narrow = attach(copy.deepcopy(base), LoraConfig(rank=4, dropout=0.0, adapter_dtype="model"))
    assert twenty_updates(ours, of_A(ours)) == twenty_updates(theirs, of_A(theirs)) == 1.0
    assert twenty_updates(narrow, of_A(narrow)) < 0.9


@pytest.mark.parametrize("wanted", ["float32", "model"])
def test_float16_with_a_gradient_scaler(tiny_gpt2, wanted):
    model = attach(tiny_gpt2.to(torch.float16), LoraConfig(rank=2, adapter_dtype=wanted))
    parameters = trainable_parameters(model)
    optimizer, scaler = torch.optim.AdamW(parameters.values(), lr=1e-3), torch.amp.GradScaler("cpu")
    ids = torch.randint(3, 97, (2, 7), generator=torch.Generator().manual_seed(0))
    scaler.scale(model(input_ids=ids, labels=ids).loss).backward()
    if wanted == "model":
        with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
            scaler.unscale_(optimizer)
        return
    scaler.unscale_(optimizer)
    assert all(p.grad.dtype == torch.float32 for p in parameters.values())


@settings(max_examples=10)
@given(dtype=st.sampled_from([torch.bfloat16, torch.float16]), seed=st.integers(0, 2**31), size=st.floats(1e-4, 1.0))
def test_merging_into_half_precision_rounds_once(tiny_gpt2, dtype, seed, size):
    model = copy.deepcopy(tiny_gpt2).to(dtype)
    stir(attach(model, LoraConfig(rank=2)), seed, size)
    expected = {}
    for name, layer in lora_layers(model).items():
        weight = layer.weight.detach().float().T.contiguous()  # Conv1D stores it transposed
        for piece, update in layer.updates():
            weight[piece.start : piece.stop] += update.delta()
        expected[name] = weight.T.to(dtype)
    before = {name: layer.weight.detach().clone() for name, layer in lora_layers(model).items()}
    merge(model)
    for name, layer in lora_layers(model).items():
        assert torch.equal(layer.weight, expected[name])
    unmerge(model)
    for name, layer in lora_layers(model).items():
        assert torch.equal(layer.weight, before[name])


def test_the_file_of_a_bfloat16_models_adapter_holds_float32(tiny_gpt2, tmp_path):
    from safetensors.torch import load_file

    base = tiny_gpt2.to(torch.bfloat16)
    model = stir(attach(copy.deepcopy(base), LoraConfig(rank=2)))
    tensors = load_file(save(model, tmp_path) / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    loaded = load(copy.deepcopy(base), tmp_path)
    for name, parameter in trainable_parameters(model).items():
        assert torch.equal(loaded.get_parameter(name), parameter)
        assert not torch.equal(parameter, parameter.bfloat16().float())  # it would not survive rounding


# --- oracle --------------------------------------------------------------------------


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), rank=st.integers(1, 16), alpha=st.integers(1, 64))
def test_the_same_weights_in_peft_give_the_same_logits(tiny_llama, seed, rank, alpha):
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    ours = copy.deepcopy(tiny_llama)
    stir(attach(ours, LoraConfig(rank=rank, alpha=alpha, dropout=0.0)), seed)
    theirs_config = PeftLoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])
    theirs = get_peft_model(copy.deepcopy(tiny_llama), theirs_config).eval()
    state = theirs.state_dict()
    for name, layer in lora_layers(ours).items():
        ((_, update),) = layer.updates()
        for matrix in ("lora_A", "lora_B"):
            state[f"base_model.model.{name}.{matrix}.default.weight"].copy_(getattr(update, matrix).detach())
    assert not torch.equal(logits_of(ours), logits_of(tiny_llama))
    torch.testing.assert_close(logits_of(ours), logits_of(theirs), atol=1e-6, rtol=1e-5)


def test_a_rank_above_the_smaller_side_names_the_module(tiny_llama):
    attach(tiny_llama, LoraConfig(rank=16))  # v_proj is 32 in, 16 out
    detach(tiny_llama)
    with pytest.raises(AdapterError, match=r"rank=17 .* 16.*model\.layers\.0\.self_attn\.v_proj"):
        attach(tiny_llama, LoraConfig(rank=17))
    assert not lora_layers(tiny_llama)


# --- settings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"rank": 0}, "rank=0"),
        ({"rank": -3}, "rank=-3"),
        ({"rank": 2.0}, "rank=2.0"),
        ({"rank": True}, "rank=True"),
        ({"alpha": 0}, "alpha=0"),
        ({"alpha": float("inf")}, "alpha=inf"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"alpha": 1e300}, "alpha=1e"),
        ({"alpha": "32"}, "alpha='32'"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"dropout": -0.1}, "dropout=-0.1"),
        ({"dropout": None}, "dropout=None"),
        ({"targets": ()}, "targets="),
        ({"targets": [""]}, "targets="),
        ({"targets": [1]}, "targets="),
        ({"targets": None}, "targets="),
        ({"init_seed": -1}, "init_seed=-1"),
        ({"init_seed": 2**63}, "must be below"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, field):
    with pytest.raises(ConfigError) as error:
        LoraConfig(**settings)
    assert field in str(error.value)
    assert "must be" in str(error.value)


def test_targets_may_be_given_as_a_list_or_one_name():
    assert LoraConfig(targets=["query"]) == LoraConfig(targets=("query",)) == LoraConfig(targets="query")


@given(
    width=st.sampled_from([8, 12, 16, 24]),
    blocks=st.integers(1, 4),
    rank=st.integers(1, 8),
    count=st.integers(1, 3),
)
def test_the_closed_form_counts_what_is_there(width, blocks, rank, count):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = LoraConfig(rank=rank, targets=("query", "value", "key")[:count])
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=width, n_layer=blocks, n_head=2))
    counted = sum(p.numel() for p in trainable_parameters(attach(model, config)).values())
    assert counted == config.closed_form_parameters(width, blocks)


def test_the_base_layer_stays_what_it_was(tiny_gpt2):
    plain = tiny_gpt2.transformer.h[0].attn.c_attn
    attach(tiny_gpt2, LoraConfig(rank=2))
    wrapper = tiny_gpt2.transformer.h[0].attn.c_attn
    assert wrapper.base_layer is plain
    assert isinstance(plain, Conv1D)
    assert wrapper.weight is plain.weight
    assert wrapper.bias is plain.bias
    detach(tiny_gpt2)
    assert tiny_gpt2.transformer.h[0].attn.c_attn is plain


@pytest.mark.parametrize("call", [merge, merge_and_unload])
def test_a_merge_that_overflows_in_float16_names_the_module_and_changes_nothing(tiny_llama, call):
    model = attach(tiny_llama.to(torch.float16), LoraConfig(rank=2))
    with torch.no_grad():
        for pair in (layer.updates()[0][1] for layer in list(lora_layers(model).values())[1:]):
            pair.lora_A.fill_(100.0)
            pair.lora_B.fill_(100.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(AdapterError, match=r"layers\.0\.self_attn\.v_proj: the merged weight is not finite in float16"):
        call(model)
    assert not any(layer.merged for layer in lora_layers(model).values())
    assert attached_config(model) == LoraConfig(rank=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("fixture", ["tiny_gpt2", "tiny_bart"])
def test_a_merged_head_is_no_longer_tied_and_survives_from_pretrained(request, fixture, tmp_path):
    model = request.getfixturevalue(fixture)
    embedding = model.get_input_embeddings().weight
    laws.merges_into_a_plain_model(model, LoraConfig(rank=2, targets=("lm_head",)), tmp_path)
    assert model.get_input_embeddings().weight is embedding
    assert model.lm_head.weight is not embedding
    assert not model.config.tie_word_embeddings


def test_weights_that_were_tied_and_not_merged_stay_tied(tiny_gpt2):
    merge_and_unload(stir(attach(tiny_gpt2, LoraConfig(rank=2))))
    assert tiny_gpt2.lm_head.weight is tiny_gpt2.transformer.wte.weight
    assert tiny_gpt2.config.tie_word_embeddings


def test_a_trained_head_is_rounded_to_the_models_dtype(tmp_path):
    torch.manual_seed(0)
    shape = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    base = LlamaForSequenceClassification(LlamaConfig(**shape, num_attention_heads=4, pad_token_id=0))
    base.save_pretrained(tmp_path / "base")
    base = LlamaForSequenceClassification.from_pretrained(tmp_path / "base", dtype=torch.bfloat16).eval()
    model = stir(attach(base, LoraConfig(rank=2)))
    head = model.score.weight.detach().clone()
    merge_and_unload(model).save_pretrained(tmp_path)
    assert head.dtype == torch.float32
    assert torch.equal(model.score.weight, head.bfloat16())
    again = LlamaForSequenceClassification.from_pretrained(tmp_path, dtype="auto").eval()
    assert again.dtype == torch.bfloat16
    assert torch.equal(logits_of(again), logits_of(model))
