"""The random control: LoRA on K places, and nothing else."""

import copy
import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from replication.counting import parameter_counts
from replication.errors import AdapterError, ConfigError
from replication.examples import Encoded, indices_of_step
from replication.methods import attach, config_from_dict, config_to_dict, detach, load, save, trainable_parameters
from replication.methods.lora import LoraConfig, lora_layers
from replication.methods.random_lora import RandomLoraConfig
from replication.methods.selection import present_updates
from replication.training.config import TrainingConfig
from replication.training.loop import train

TRAINING = TrainingConfig(steps=6, warmup_steps=0, learning_rate=0.01, batch_size=4, log_every=1, threads=1)
ALL = ("query", "key", "value")


def corpus(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 12, (count,), generator=generator).tolist()
    return [Encoded(torch.randint(1, 97, (n,), generator=generator).tolist(), [0] + [1] * (n - 1)) for n in lengths]


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 12)[None]).logits


def losses_of(model, config=TRAINING, callback=None):
    result = train(model, corpus(13), corpus(4, 1), config, seed=3, pad_id=0, callback=callback)
    return [row["loss"] for row in result.curves[1:]]


@settings(max_examples=15)
@given(keep=st.integers(1, 18), seed=st.integers(0, 2**31), fixture=st.sampled_from(["tiny_gpt2", "tiny_llama"]))
def test_k_pairs_train_and_the_rest_is_never_wrapped(request, keep, seed, fixture):
    model = copy.deepcopy(request.getfixturevalue(fixture))
    before, plain = logits_of(model), str(model)
    config = RandomLoraConfig(rank=2, keep=keep, selection_seed=seed)
    state = torch.random.get_rng_state()
    attach(model, config)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(logits_of(model), before)
    assert list(present_updates(model)) == config.drawn(18)
    assert len(config.drawn(18)) == keep
    updates = [update for layer in lora_layers(model).values() for _, update in layer.updates()]
    assert len(updates) == keep
    counts = parameter_counts(model)
    assert counts.adapter == sum(p.numel() for update in updates for p in (update.lora_A, update.lora_B))
    assert counts.importance == 0
    assert str(detach(model)) == plain


def test_the_count_is_the_closed_form(tiny_gpt2):
    config = RandomLoraConfig(rank=3, keep=5)
    assert parameter_counts(attach(tiny_gpt2, config)).adapter == config.closed_form_parameters(32, 6) == 5 * 2 * 3 * 32


def test_the_places_depend_on_their_seed_alone():
    def places(**seeds):
        return RandomLoraConfig(keep=5, **seeds).drawn(18)

    assert places(init_seed=3) == places(selection_seed=3) == places(selection_seed=3, init_seed=9)
    assert len({tuple(places(selection_seed=seed)) for seed in range(20)}) > 15
    drawn = [index for seed in range(400) for index in places(selection_seed=seed)]
    shares = [drawn.count(index) / 400 for index in range(18)]
    assert all(abs(share - 5 / 18) < 0.1 for share in shares)  # every place has the same chance


def test_the_pairs_start_where_loras_start(tiny_gpt2):
    lora = dict(attach(copy.deepcopy(tiny_gpt2), LoraConfig(rank=2, init_seed=4, targets=ALL)).named_parameters())
    attach(tiny_gpt2, RandomLoraConfig(rank=2, init_seed=4, keep=7))
    for name, parameter in trainable_parameters(tiny_gpt2).items():
        assert torch.equal(parameter, lora[name]), name


def test_with_every_place_it_is_lora_to_the_last_bit(tiny_llama):
    ours, theirs = copy.deepcopy(tiny_llama), copy.deepcopy(tiny_llama)
    config = RandomLoraConfig(rank=2, keep=18)
    attach(ours, config)
    attach(theirs, LoraConfig(rank=2, dropout=0.05, targets=ALL))
    assert losses_of(ours, callback=config.training_callback(TRAINING)) == losses_of(theirs)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor)


@settings(max_examples=4)
@given(seed=st.integers(0, 99), keep=st.integers(1, 18), rank=st.integers(1, 8))
def test_pefts_lora_has_the_same_losses_from_the_same_start(tiny_llama, seed, keep, rank):
    """PEFT's own training: its modules, torch's AdamW, transformers' schedule and loss."""
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model
    from transformers import get_linear_schedule_with_warmup

    ours = attach(copy.deepcopy(tiny_llama), RandomLoraConfig(rank=rank, keep=keep, dropout=0.0, init_seed=seed))
    layers = lora_layers(ours)
    settings = {"r": rank, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": list(layers)}
    theirs = get_peft_model(copy.deepcopy(tiny_llama), PeftLoraConfig(**settings))
    state = theirs.state_dict()
    for name, layer in layers.items():
        ((_, update),) = layer.updates()
        for matrix in ("lora_A", "lora_B"):
            state[f"base_model.model.{name}.{matrix}.default.weight"].copy_(getattr(update, matrix).detach())
    training = dataclasses.replace(TRAINING, label_smoothing=0.0, warmup_steps=2, steps=8)
    measured = losses_of(ours, training)
    optimizer = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=0.01, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, 8)
    expected = []
    for step in range(1, 9):
        rows = [corpus(13)[i] for i in indices_of_step(step, [1] * 13, 4, 3)]
        total, count = 0.0, 0
        for row in rows:
            ids = torch.tensor([row.input_ids])
            logits = theirs(input_ids=ids).logits
            total = total + F.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum")
            count += len(row) - 1
        (total / count).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        expected.append(float(total.detach()) / count)
    assert measured == pytest.approx(expected, rel=2e-4)
    assert expected[-1] != pytest.approx(expected[0], rel=1e-3)


def test_saved_places_do_not_depend_on_drawing_them_again(tiny_gpt2, tmp_path, monkeypatch):
    base = copy.deepcopy(tiny_gpt2)
    attach(tiny_gpt2, RandomLoraConfig(rank=2, keep=4))
    with torch.no_grad():
        for parameter in trainable_parameters(tiny_gpt2).values():
            parameter.add_(0.1)
    save(tiny_gpt2, tmp_path)
    places = list(present_updates(tiny_gpt2))
    monkeypatch.setattr(RandomLoraConfig, "drawn", lambda self, adapters: [0, 1, 2, 3])
    assert places != [0, 1, 2, 3]
    loaded = load(base, tmp_path)
    assert list(present_updates(loaded)) == places
    assert torch.equal(logits_of(loaded), logits_of(tiny_gpt2))
    with pytest.raises(AdapterError, match=r"survivors \[44\] are none of the 18"):
        RandomLoraConfig(rank=2, keep=4).restructure(loaded, {"survivors": [44]})


def test_the_report_has_the_form_of_weight_loras(tiny_gpt2):
    config = RandomLoraConfig(rank=2, keep=4)
    attach(tiny_gpt2, config)
    callback = config.training_callback(TRAINING)
    callback.on_start(tiny_gpt2)
    summary = callback.summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["survivors"] == config.drawn(18)
    assert summary["final_ranks"] == {str(index): 2 for index in config.drawn(18)}
    assert len(summary["adapters"]) == 18
    assert (summary["trace"], summary["removed_at"]) == ({"steps": [], "weights": []}, None)


def test_settings():
    config = RandomLoraConfig(keep=3, selection_seed=7)
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
    for wrong, text in (
        ({"keep": 0}, "random_lora: keep=0"),
        ({"selection_seed": -1}, "selection_seed=-1"),
        ({"rank": 0}, "random_lora: rank=0"),
    ):
        with pytest.raises(ConfigError, match=text):
            RandomLoraConfig(**wrong)


def test_more_places_than_there_are_is_refused_with_their_names(tiny_llama):
    before = str(tiny_llama)
    with pytest.raises(AdapterError, match=r"keep=19 exceeds the 18 adapters found; use up to 18.*layers\.5.*v_proj"):
        attach(tiny_llama, RandomLoraConfig(keep=19))
    with pytest.raises(AdapterError, match=r"rank=17 exceeds 16"):
        attach(tiny_llama, RandomLoraConfig(keep=1, rank=17))
    assert str(tiny_llama) == before
