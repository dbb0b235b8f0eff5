"""What goes wrong without a word elsewhere: parameters without gradients, foreign ones that train, merged models."""

import copy
import gc
import pickle
import warnings
import weakref

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2ForSequenceClassification

from replication.errors import AdapterError, ReplicationWarning
from replication.methods import attach, detach, merge, merge_and_unload, method_config, save, unmerge
from replication.methods.lora import LoraLinear
from replication.methods.selection import remove_adapters
from replication.methods.shared.base import trainable_parameters
from replication.methods.shared.watching import PATIENCE, state_names
from replication.testing.laws import logits_of, some_ids, stir

MERGING = {
    "lora": method_config("lora", rank=2),
    "weight_lora": method_config("weight_lora", rank=2, keep=2),
    "dora": method_config("peft_baselines", name="dora"),
}


def passes(model, number, loss=lambda model: model(input_ids=some_ids()).logits.float().pow(2).mean()):
    """The warnings of so many backward passes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(number):
            loss(model).backward()
    return [str(w.message) for w in caught if issubclass(w.category, ReplicationWarning)]


class Reader(nn.Module):
    """Reads one projection's weight, and calls the other."""

    def __init__(self):
        super().__init__()
        self.read, self.called = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.called(x @ self.read.weight.T)


def test_adapters_that_the_model_does_not_call_are_named_once():
    model = attach(Reader(), method_config("lora", rank=1, targets=("read", "called")))

    def loss(model):
        return model(torch.ones(1, 4)).sum()

    assert passes(model, PATIENCE - 1, loss) == []
    (message,) = passes(model, 1, loss)
    assert "2 trained parameters, such as read.whole.lora_A, had no gradient in 10 backward passes" in message
    assert passes(model, 2 * PATIENCE, loss) == []


USED = {
    "lora": {},
    "weight_lora": {"keep": 2, "selection_steps": None},
    "random_lora": {"keep": 2},
    "solo_connection": {"rank": 4},
    "adapter_h": {},
    "full": {},
}


@pytest.mark.parametrize("name", USED)
def test_a_model_that_uses_all_its_adapters_is_silent(tiny_gpt2, name):
    model = attach(tiny_gpt2, method_config(name, **USED[name]))
    assert passes(model, 2 * PATIENCE) == []


def test_what_was_frozen_or_taken_out_is_not_called_silent(tiny_gpt2):
    model = attach(tiny_gpt2, method_config("lora", rank=2))
    for name, parameter in trainable_parameters(model).items():
        parameter.requires_grad_("lora_B" in name)
    assert passes(model, PATIENCE) == []
    assert passes(detach(model).requires_grad_(True), PATIENCE) == []


def test_weights_of_the_base_that_train_are_told_during_training_and_at_save(tiny_gpt2, tmp_path):
    model = attach(tiny_gpt2, method_config("lora", rank=2))
    model.transformer.ln_f.requires_grad_(True)
    (message,) = passes(model, PATIENCE)
    assert "transformer.ln_f.weight trains (2 such parameters)" in message
    for write in (save, lambda model, folder: model.save_pretrained(folder)):
        with pytest.warns(ReplicationWarning, match=r"ln_f\.weight trains .* `save` leaves it out"):
            write(model, tmp_path / "adapter")
    model.transformer.ln_f.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(model, tmp_path)


@pytest.mark.parametrize("name", ["lora", "weight_lora", "adapter_h"])
def test_what_leaves_the_model_leaves_the_memory(tiny_gpt2, name):
    """A watch that held parameters would keep those that a selection removes, with their gradients."""
    model = attach(copy.deepcopy(tiny_gpt2), method_config(name, **USED[name]))
    trained = [weakref.ref(parameter) for parameter in model.parameters() if parameter.requires_grad]
    passes(model, 2)
    if name == "weight_lora":
        remove_adapters(model, range(3, 18))
        gc.collect()
        assert sum(ref() is not None for ref in trained) == 9
    del model
    gc.collect()
    assert not [ref for ref in trained if ref() is not None]


def test_a_watch_ends_with_the_method():
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification(GPT2Config(vocab_size=97, n_embd=16, n_layer=1, n_head=2, pad_token_id=0))

    def loss(model):
        return model(input_ids=some_ids()).logits.sum()

    config = method_config("weight_lora", keep=1)
    assert passes(attach(model, config), PATIENCE - 1, loss) == []
    assert passes(attach(detach(model), config), PATIENCE - 1, loss) == []
    assert ["all 3 adapters remain" in text for text in passes(model, PATIENCE, loss)] == [True]


# --- a merged model ------------------------------------------------------------


def pickled(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("name", MERGING)
@pytest.mark.parametrize("twin", [lambda model: model, copy.deepcopy, pickled])
def test_a_merged_model_neither_trains_nor_gives_nor_takes_a_state(tiny_llama, name, twin):
    model = stir(attach(tiny_llama, MERGING[name]))
    state, before = copy.deepcopy(model.state_dict()), logits_of(model, some_ids())
    merged = twin(merge(merge(model)))
    with pytest.raises(AdapterError, match="is merged: its state_dict would hold the update"):
        merged.state_dict()
    with pytest.raises(AdapterError, match="is merged: load_state_dict would leave the merged update"):
        merged.load_state_dict(state)
    merged.train()
    with pytest.raises(AdapterError, match=r"call unmerge\(model\) before training"):
        merged(input_ids=some_ids())
    with torch.no_grad():
        merged(input_ids=some_ids())
    torch.testing.assert_close(logits_of(merged.eval(), some_ids()), before, atol=1e-4, rtol=1e-3)
    unmerge(merged)
    merged.load_state_dict(state)
    assert all(torch.equal(value, state[key]) for key, value in merged.state_dict().items())
    merged.train()(input_ids=some_ids()).logits.sum().backward()
    assert torch.equal(logits_of(merged.eval(), some_ids()), before)


def test_the_body_of_a_merged_model_is_guarded_too(tiny_llama):
    model = merge(attach(tiny_llama, MERGING["lora"]))
    with pytest.raises(AdapterError, match="LlamaModel is merged"):
        model.model.state_dict()
    with pytest.raises(AdapterError, match="LlamaModel is merged"):
        model.model.train()(input_ids=some_ids())
    unmerge(model).model.state_dict()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, KeyboardInterrupt])
def test_a_merge_that_is_interrupted_leaves_the_model_unmerged(tiny_gpt2, error, monkeypatch):
    model = stir(attach(tiny_gpt2, MERGING["lora"]))
    before, real, calls = copy.deepcopy(model.state_dict()), LoraLinear.merge, []

    def merge_two(layer, name):
        calls.append(name)
        if len(calls) == 3:
            raise error
        real(layer, name)

    monkeypatch.setattr(LoraLinear, "merge", merge_two)
    with pytest.raises(error):
        merge(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("leave", [detach, merge_and_unload])
def test_a_model_that_was_merged_and_left_is_a_plain_one(tiny_gpt2, leave):
    names = list(tiny_gpt2.state_dict())
    model = leave(merge(stir(attach(tiny_gpt2, MERGING["lora"]))))
    assert list(model.state_dict()) == names
    model.load_state_dict(model.state_dict())
    model.train()(input_ids=some_ids())


@pytest.mark.parametrize("name", ["full", "frozen"])
def test_where_there_is_nothing_to_merge_nothing_is_refused(tiny_gpt2, name):
    model = merge(attach(tiny_gpt2, method_config(name)))
    model.load_state_dict(model.state_dict())
    model.train()(input_ids=some_ids())


@pytest.mark.parametrize("config", [*MERGING.values(), method_config("peft_baselines", name="vera", settings={"r": 4})])
@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_bart"])
def test_state_names_are_those_of_the_state_dict(request, fixture, config):
    model = request.getfixturevalue(fixture)
    assert state_names(model) == set(model.state_dict())
    attach(model, config)
    assert state_names(model) == set(model.state_dict())
