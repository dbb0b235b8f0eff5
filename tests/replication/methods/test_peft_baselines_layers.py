"""Merging PEFT's layers and drawing their start values."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from replication.methods import attach, merge, trainable_parameters, unmerge
from replication.methods.peft_baselines import PeftBaselineConfig, copies, drawn_from, put_back, tuner_layers


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
