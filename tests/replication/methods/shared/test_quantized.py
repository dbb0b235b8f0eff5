"""Quantised bases: adapters beside them train, save and load; what would change their weights is refused."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing._internal.two_tensor import TwoTensor
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from replication.errors import AdapterError
from replication.methods import attach, detach, load, merge, method_config, save, trainable_parameters
from replication.methods.shared.quantized import quantized_weight
from replication.testing.laws import logits_of, loss_of, some_ids, stir, train_steps
from replication.testing.tiny_models import tiny_gpt2, tiny_llama

METHODS = {
    "lora": {"rank": 2},
    "weight_lora": {"rank": 2, "keep": 2, "selection_steps": None},
    "random_lora": {"rank": 2, "keep": 2},
    "solo_connection": {"rank": 4, "lora": method_config("lora", rank=2)},
    "peft_baselines": {"name": "lora"},
}


class Int8Linear(nn.Linear):
    """A stand-in for quantised layers: int8 weights with one scale an output."""

    def __init__(self, plain):
        super().__init__(plain.in_features, plain.out_features, bias=plain.bias is not None)
        scale = plain.weight.detach().abs().amax(1, keepdim=True) / 127
        self.weight = nn.Parameter((plain.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.bias = plain.bias
        self.register_buffer("scale", scale)

    def forward(self, x):
        return F.linear(x, self.weight * self.scale, self.bias)


class PackedLinear(nn.Module):
    """A stand-in for the layers of GPTQ and AWQ, which are no nn.Linear."""

    def __init__(self, plain):
        super().__init__()
        self.in_features, self.out_features, self.plain = plain.in_features, plain.out_features, plain


def quantized(model, kind=Int8Linear, keep=("lm_head",)):
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and name not in keep:
                setattr(parent, name, kind(child).eval())
    return model


@pytest.mark.parametrize("method", METHODS)
def test_adapters_train_save_and_load_beside_quantised_weights(method, tmp_path):
    base = quantized(tiny_llama())
    start = logits_of(base, some_ids())
    model = attach(copy.deepcopy(base), method_config(method, **METHODS[method]))
    assert torch.equal(logits_of(model, some_ids()), start)
    assert {parameter.dtype for parameter in trainable_parameters(model).values()} == {torch.float32}
    train_steps(stir(model))
    trained = logits_of(model, some_ids())
    assert not torch.equal(trained, start)
    assert torch.equal(logits_of(load(copy.deepcopy(base), save(model, tmp_path)), some_ids()), trained)
    if method != "solo_connection":
        with pytest.raises(
            AdapterError, match=r"cannot be merged: .*Int8Linear, torch\.int8\).* unquantised and merge"
        ):
            merge(model)
        merge(load(tiny_llama(), tmp_path))  # as the message says
    assert torch.equal(logits_of(detach(model), some_ids()), start)


def test_what_would_train_quantised_weights_is_refused_before_any_change():
    base = quantized(tiny_llama())
    before = {name: parameter.requires_grad for name, parameter in base.named_parameters()}
    with pytest.raises(AdapterError, match=r"full: model\..*weight is to train, but is quantised \(torch\.int8\)"):
        attach(base, method_config("full"))
    assert {name: parameter.requires_grad for name, parameter in base.named_parameters()} == before
    config = LlamaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, pad_token_id=0)
    with pytest.raises(AdapterError, match=r"llm_int8_skip_modules=\['score'\]"):
        attach(quantized(LlamaForSequenceClassification(config), keep=()), method_config("lora", rank=2))


@pytest.mark.parametrize("rival", ["dora", "loha", "vera", "boft"])
def test_rivals_that_compute_with_the_weight_are_refused(rival):
    settings = {"r": 4} if rival == "vera" else {}
    with pytest.raises(AdapterError, match=rf"PEFT's {rival} has no layer for a quantised weight"):
        attach(quantized(tiny_llama()), method_config("peft_baselines", name=rival, settings=settings))


def test_layers_of_other_classes_are_refused_with_the_reason():
    with pytest.raises(AdapterError, match=r"The layers of PackedLinear cannot be wrapped: load the model unquantised"):
        attach(quantized(tiny_llama(), PackedLinear), method_config("lora", rank=2))
    without = tiny_llama()
    for layer in without.model.layers:
        del layer.self_attn.q_proj.weight
    with pytest.raises(AdapterError, match=r"q_proj \(Linear\) keeps a quantised weight in a form"):
        attach(without, method_config("lora", rank=2))


def test_what_counts_as_quantised():
    plain = nn.Linear(4, 4)
    assert quantized_weight(plain) is None
    assert quantized_weight(plain.to(torch.bfloat16)) is None
    assert all(quantized_weight(m) is None for m in tiny_gpt2().modules() if hasattr(m, "weight"))
    plain.weight = nn.Parameter(TwoTensor(torch.ones(4, 4), torch.ones(4, 4)))  # as torchao's are
    assert quantized_weight(plain) == "Linear, TwoTensor"
    plain.weight = nn.Parameter(torch.ones(4, 4).to(torch.float8_e4m3fn), requires_grad=False)
    assert quantized_weight(plain) == "Linear, torch.float8_e4m3fn"


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("method", METHODS)
def test_bitsandbytes(method, bits, tmp_path):
    bnb = pytest.importorskip("bitsandbytes", reason="not run: bitsandbytes is not installed")

    def layer(plain):
        shape = (plain.in_features, plain.out_features, plain.bias is not None)
        if bits == 4:
            made = bnb.nn.Linear4bit(*shape, compute_dtype=torch.float32, quant_type="nf4")
            made.weight = bnb.nn.Params4bit(plain.weight.data, requires_grad=False, quant_type="nf4", module=made)
        else:
            made = bnb.nn.Linear8bitLt(*shape, has_fp16_weights=False)
            made.weight = bnb.nn.Int8Params(plain.weight.data, requires_grad=False, has_fp16_weights=False)
        return made

    def base():
        torch.manual_seed(0)
        sizes = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
        model = quantized(LlamaForCausalLM(LlamaConfig(vocab_size=97, **sizes)).eval(), layer).to("cpu")
        setattr(model, f"is_loaded_in_{bits}bit", True)
        return model

    evaluated = base()
    start = logits_of(evaluated, some_ids())
    model = attach(evaluated, method_config(method, **METHODS[method]))  # evaluated before: 4-bit weights are packed
    torch.testing.assert_close(logits_of(model, some_ids()), start, atol=0.05, rtol=0)
    loss_of(stir(model), some_ids()).backward()
    assert all(parameter.grad is not None for parameter in trainable_parameters(model).values())
    train_steps(model)
    fresh = base()
    logits_of(fresh, some_ids())  # packing and unpacking rounds
    loaded = load(fresh, save(model, tmp_path))
    assert torch.equal(logits_of(loaded, some_ids()), logits_of(model, some_ids()))
    if method != "solo_connection":
        with pytest.raises(AdapterError, match=r"cannot be merged: .* is quantised"):
            merge(model)
