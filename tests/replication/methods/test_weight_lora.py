"""WeightLoRA's settings and modules; what it does in training is in test_selection_training.py."""

import copy
import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from replication.counting import parameter_counts
from replication.errors import AdapterError, ConfigError
from replication.methods import (
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
from replication.methods.selection import apply_structure, present_updates
from replication.methods.shared.base import IMPORTANCE_NAME
from replication.methods.weight_lora import (
    WEIGHT_LORA,
    WEIGHT_LORA_PLUS,
    SelectionAdamW,
    WeightLoraConfig,
    build_selection_optimizer,
    exchange,
    forget,
    preset,
)
from replication.methods.weight_lora_plus import WeightLoraPlusConfig
from replication.training.config import TrainingConfig

TRAINING = TrainingConfig(steps=50, warmup_steps=0)


def tiny_deberta(labels=2):
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = DebertaV2Config(
        vocab_size=97, max_position_embeddings=32, **sizes, relative_attention=True, share_att_key=True,
        pos_att_type=["p2c", "c2p"], position_buckets=8, type_vocab_size=0, num_labels=labels,
    )  # fmt: skip
    return DebertaV2ForSequenceClassification(config).eval()


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


# --- the update ----------------------------------------------------------------------


def test_each_adapter_is_a_pair_and_one_scalar_that_starts_at_one():
    model = attach(tiny_deberta(), WeightLoraConfig(rank=2, keep=4))
    prefix = "deberta.encoder.layer.0.attention.self.query_proj.query."
    names = [name for name in trainable_parameters(model) if name.startswith(prefix)]
    assert names == [prefix + end for end in ("lora_A", "lora_B", IMPORTANCE_NAME)]
    assert len(present_updates(model)) == 6
    for update in present_updates(model).values():
        assert update.importance_weight.shape == (1,)
        assert update.importance_weight.item() == 1
        assert (update.lora_B == 0).all()
        assert update.scaling == 16
    head = {"pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias"}
    assert head < set(trainable_parameters(model))


@given(weight=st.floats(-3, 3, width=32), alpha=st.floats(0.5, 64), rank=st.integers(1, 8), seed=st.integers(0, 99))
def test_the_update_is_the_weighted_product(weight, alpha, rank, seed):
    generator = torch.Generator().manual_seed(seed)
    model = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(9, 12)})
    attach(model, WeightLoraConfig(rank=rank, alpha=alpha, keep=1, targets=("query",), dropout=0.0))
    stir(model, seed)
    with torch.no_grad():
        model.q_proj.query.importance_weight.fill_(weight)
    A, B, x = model.q_proj.query.lora_A, model.q_proj.query.lora_B, torch.randn(2, 3, 9, generator=generator)
    expected = alpha / rank * weight * x @ A.T @ B.T
    torch.testing.assert_close(model.q_proj(x) - model.q_proj.base_layer(x), expected, atol=1e-4, rtol=1e-4)


class Shapes(TorchDispatchMode):
    """Shapes of everything that is computed, forward and backward; views of given tensors are left out."""

    def __init__(self, *given):
        super().__init__()
        self.given, self.seen = {tensor.untyped_storage().data_ptr() for tensor in given}, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self.given:
                self.seen.add(tuple(tensor.shape))
        return result


def test_no_matrix_of_the_weights_size_is_ever_built():
    model = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(19, 23, bias=False)})
    stir(attach(model, WeightLoraConfig(rank=2, keep=1, targets=("query",))))
    with Shapes(*model.parameters()) as shapes:
        model.q_proj(torch.randn(5, 19, requires_grad=True)).sum().backward()
    assert (5, 2) in shapes.seen
    assert not {(19, 23), (23, 19)} & shapes.seen
    with Shapes(*model.parameters()) as shapes:
        merge(model)
    assert (23, 19) in shapes.seen  # the probe sees one where there is one


def test_a_weight_of_zero_has_a_gradient_and_its_pair_has_none():
    model = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(4, 4)})
    stir(attach(model, WeightLoraConfig(rank=2, keep=1, targets=("query",))))
    update = model.q_proj.query
    with torch.no_grad():
        update.importance_weight.zero_()
    model.q_proj(torch.ones(1, 4)).square().sum().backward()
    assert update.importance_weight.grad != 0  # so that it may come back in phase 1
    assert (update.lora_A.grad == 0).all()
    assert (update.lora_B.grad == 0).all()


@pytest.mark.parametrize(("chosen", "bound"), [("inputs", 1 / math.sqrt(32)), ("rank", 1 / math.sqrt(4))])
def test_the_range_of_a_is_loras_or_the_codes(tiny_gpt2, chosen, bound):
    attach(tiny_gpt2, WeightLoraConfig(rank=4, initial_range=chosen))
    values = torch.cat([update.lora_A.flatten() for update in present_updates(tiny_gpt2).values()])
    assert bound * 0.95 < values.abs().max() <= bound
    assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_the_pairs_start_where_loras_start(tiny_gpt2):
    ours = attach(copy.deepcopy(tiny_gpt2), WeightLoraConfig(rank=3, init_seed=5))
    theirs = attach(tiny_gpt2, LoraConfig(rank=3, init_seed=5, targets=("query", "key", "value")))
    for name, parameter in trainable_parameters(theirs).items():
        assert torch.equal(dict(ours.named_parameters())[name], parameter)


@pytest.mark.parametrize("applied", [True, False])
def test_dropout_is_applied_or_ignored(tiny_gpt2, applied):
    stir(attach(tiny_gpt2, WeightLoraConfig(rank=2, dropout=0.5, apply_dropout=applied)))
    layer = tiny_gpt2.transformer.h[0].attn.c_attn.train()
    x = torch.ones(1, 50, 32)
    rows = (layer(x) - layer.base_layer(x))[0]
    assert torch.equal(rows[0], rows[1]) != applied


# --- the same laws as for LoRA -------------------------------------------------------


@settings(max_examples=6)
@given(
    fixture=st.sampled_from(["tiny_gpt2", "tiny_llama"]),
    targets=st.sampled_from([("query", "key", "value"), ("value", "output")]),
    survivors=st.sets(st.integers(0, 11), min_size=1),
    seed=st.integers(0, 100),
)
def test_merging_includes_the_weight_and_unmerging_restores(request, fixture, targets, survivors, seed):
    model = copy.deepcopy(request.getfixturevalue(fixture))
    base = logits_of(model)
    attach(model, WeightLoraConfig(rank=2, targets=targets, keep=1))
    assert torch.equal(logits_of(model), base)
    apply_structure(model, {"survivors": sorted(survivors), "ranks": {str(i): 2 + i % 3 for i in survivors}})
    stir(model, seed, size=0.1)
    before, weights = logits_of(model), copy.deepcopy(model.state_dict())
    torch.testing.assert_close(logits_of(merge(model)), before, atol=1e-4, rtol=1e-3)
    assert any(not torch.equal(value, weights[key]) for key, value in model.named_parameters())
    assert all(torch.equal(value, weights[key]) for key, value in unmerge(model).state_dict().items())
    assert torch.equal(logits_of(detach(merge(model))), base)


@settings(max_examples=6)
@given(survivors=st.sets(st.integers(0, 5), min_size=1), grown=st.integers(2, 8), fixed=st.booleans())
def test_what_training_left_is_saved_and_loaded(tmp_path_factory, survivors, grown, fixed):
    folder = tmp_path_factory.mktemp("adapter")
    model = attach(tiny_deberta(), WeightLoraConfig(rank=2, keep=4, init_seed=1))
    asked = {
        "survivors": sorted(survivors),
        "ranks": {str(index): grown for index in survivors},
        "fixed_weights": sorted(survivors) if fixed else [],
        "frozen_pairs": [],
    }
    apply_structure(stir(model), asked)
    stir(model)
    save(model, folder)
    loaded = load(tiny_deberta(), folder)
    assert torch.equal(logits_of(loaded), logits_of(model))
    assert list(trainable_parameters(loaded)) == list(trainable_parameters(model))
    assert str(loaded) == str(model)
    assert parameter_counts(loaded) == parameter_counts(model)


def test_a_saved_structure_that_does_not_fit_leaves_the_model_plain(tmp_path):
    import json

    save(attach(tiny_deberta(), WeightLoraConfig(rank=2, keep=4)), tmp_path)
    path = tmp_path / "adapter_config.json"
    description = json.loads(path.read_text())
    description["structure"]["survivors"] = [0, 77]
    path.write_text(json.dumps(description))
    model = tiny_deberta()
    with pytest.raises(AdapterError, match=r"adapter_config\.json: field 'structure' .*\[77\]"):
        load(model, tmp_path)
    assert not lora_layers(model)


@given(
    width=st.sampled_from([8, 12, 16]),
    blocks=st.integers(1, 4),
    rank=st.integers(1, 8),
    keep=st.integers(1, 12),
    remove=st.booleans(),
)
def test_the_closed_form_counts_what_is_there_before_and_after(width, blocks, rank, keep, remove):
    from transformers import GPT2Config, GPT2LMHeadModel

    keep = min(keep, 3 * blocks)
    config = WeightLoraConfig(rank=rank, keep=keep, remove_losers=remove)
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=width, n_layer=blocks, n_head=2))
    attach(model, config)
    counts = parameter_counts(model)
    assert (counts.adapter, counts.importance) == (config.closed_form_parameters(width, blocks), 3 * blocks)
    survivors = list(range(3 * blocks))[-keep:] if remove else list(range(3 * blocks))
    structure = {"survivors": survivors, "ranks": dict.fromkeys(map(str, survivors), rank), "fixed_weights": survivors}
    apply_structure(model, structure)
    counts = parameter_counts(model)
    assert counts.adapter == config.closed_form_parameters(width, blocks, "final")
    assert counts.adapter == config.closed_form_parameters(width, blocks, "selected")
    assert counts.importance == 0
    assert (counts.adapter == 2 * rank * width * keep) or not remove


def test_debertas_published_arithmetic():
    """DeBERTaV3-base, r=8 on q, k, v: 442,368 for LoRA, 61,440 at K=5 and 122,880 at K=10 (dossier)."""
    for keep, final in ((5, 61_440), (10, 122_880)):
        config = WeightLoraConfig(rank=8, keep=keep)
        assert config.closed_form_parameters(768, 12) == 442_368
        assert config.closed_form_parameters(768, 12, "final") == final
    with pytest.raises(ConfigError, match="moment='end': must be one of start, selected, final"):
        config.closed_form_parameters(768, 12, "end")


# --- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"keep": 0}, "keep=0"),
        ({"keep": None}, "keep=None"),
        ({"keep": 2.0}, "keep=2.0"),
        ({"selection_steps": 0}, "selection_steps=0"),
        ({"selection_steps": True}, "selection_steps=True"),
        ({"weight_learning_rate": 0}, "weight_learning_rate=0"),
        ({"weight_learning_rate": math.inf}, "weight_learning_rate=inf"),
        ({"project_every": 0}, "project_every=0"),
        ({"rank_by": "absolute"}, "rank_by='absolute': must be 'signed' or 'magnitude'"),
        ({"initial_range": "wide"}, "initial_range='wide': must be 'inputs' or 'rank'"),
        ({"remove_losers": 1}, "remove_losers=1"),
        ({"freeze_losers": "no"}, "freeze_losers='no'"),
        ({"apply_dropout": None}, "apply_dropout=None"),
        ({"freeze_weights_after": 0}, "freeze_weights_after=0"),
        ({"reset_adapters_after": "end"}, "reset_adapters_after='end'"),
        ({"reset_adapters_after": "selection", "selection_steps": None}, "the selection never ends"),
        ({"adam_epsilon": 0.0}, "adam_epsilon=0.0"),
        ({"rank": 0}, "weight_lora: rank=0"),
        ({"targets": ()}, r"weight_lora: targets=\(\)"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, text):
    with pytest.raises(ConfigError, match=text) as error:
        WeightLoraConfig(**settings)
    assert "must be" in str(error.value)


def test_what_does_not_fit_the_model_is_refused_before_any_change():
    model = tiny_deberta()
    before = str(model)
    names = [f"deberta.encoder.layer.{b}.attention.self.{t}_proj" for b in (0, 1) for t in ("query", "key", "value")]
    for wrong, parts in (
        ({"keep": 7}, ("keep=7 exceeds the 6 adapters found; use up to 6", *names)),
        ({"targets": ("gate",)}, ("target 'gate' matches no linear module", "query_proj", "intermediate.dense")),
        ({"rank": 17, "keep": 1}, ("weight_lora: rank=17 exceeds 16", names[0], "use a rank up to 16")),
    ):
        with pytest.raises(AdapterError) as error:
            attach(model, WeightLoraConfig(**wrong))
        assert all(part in str(error.value) for part in parts)
        assert str(model) == before


def test_a_fused_projection_is_listed_slice_by_slice(tiny_gpt2):
    with pytest.raises(AdapterError, match=r"18 adapters found.*h\.0\.attn\.c_attn \[query\], .*c_attn \[key\]"):
        attach(tiny_gpt2, WeightLoraConfig(keep=19))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"selection_steps": 51}, "selection_steps=51 exceeds the training's steps=50: use up to 50"),
        ({"selection_steps": 9, "freeze_weights_after": 60}, "freeze_weights_after=60 exceeds"),
        ({"selection_steps": 9, "reset_adapters_after": 51}, "reset_adapters_after=51 exceeds"),
        ({"selection_steps": 1}, "after update 1 comes before any importance weight.*at least 2"),
    ],
)
def test_what_does_not_fit_the_training_is_refused(settings, text):
    with pytest.raises(ConfigError, match=text):
        WeightLoraConfig(**settings).training_callback(TRAINING)


def test_the_first_selection_waits_for_the_warm_up():
    config = WeightLoraConfig(selection_steps=2)
    config.training_callback(TRAINING)
    with pytest.raises(ConfigError, match="at least 3"):
        config.training_callback(dataclasses.replace(TRAINING, warmup_steps=1))
    WeightLoraConfig(selection_steps=50).training_callback(TRAINING)
    WeightLoraConfig(selection_steps=None).training_callback(TRAINING)


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


@given(
    rate=st.floats(1e-4, 1.0),
    decay=st.floats(0, 0.3),
    epsilon=st.sampled_from([1e-8, 1e-6]),
    seed=st.integers(0, 99),
    steps=st.integers(1, 4),
)
def test_pairs_take_adamws_step_and_weights_a_plain_one(rate, decay, epsilon, seed, steps):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(2, 3, generator=generator)
    pair, twin, weight = nn.Parameter(start.clone()), nn.Parameter(start.clone()), nn.Parameter(torch.tensor(1.0))
    plain = {"params": [weight], "weight_decay": 0.0, "plain_sgd": True}
    ours = SelectionAdamW([{"params": [pair]}, plain], lr=rate, eps=epsilon, weight_decay=decay)
    reference = torch.optim.AdamW([twin], lr=rate, eps=epsilon, weight_decay=decay)
    expected = 1.0
    for _ in range(steps):
        pair.grad = torch.randn(2, 3, generator=generator)
        twin.grad, weight.grad = pair.grad.clone(), torch.randn((), generator=generator)
        expected -= rate * float(weight.grad)
        ours.step()
        reference.step()
        assert torch.equal(pair, twin)
        assert weight.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert list(ours.state) == [pair]
    assert len(ours.param_groups) == 2
    assert ours.step(lambda: 7.0) == 7.0


def some_optimizer():
    names = ["a.lora_A", "a.lora_B", f"a.{IMPORTANCE_NAME}", f"b.{IMPORTANCE_NAME}"]
    named = {name: nn.Parameter(torch.ones(())) for name in names}
    optimizer = build_selection_optimizer(named, TrainingConfig(steps=9, weight_decay=0.1, warmup_steps=0), 5.0, 1e-8)
    for parameter in named.values():
        parameter.grad = torch.ones(())
    optimizer.step()
    return named, optimizer


def test_what_is_forgotten_leaves_neither_state_nor_an_empty_group():
    named, optimizer = some_optimizer()
    first, second, one, other = named.values()
    forget(optimizer, [one])
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1]
    assert (one.grad, other.grad is None) == (None, False)
    forget(optimizer, [other, second])
    assert [group["params"] for group in optimizer.param_groups] == [[first]]
    assert list(optimizer.state) == [first]
    forget(optimizer, [first])
    assert (optimizer.param_groups, dict(optimizer.state)) == ([], {})


def test_what_is_exchanged_keeps_its_place_and_starts_without_state():
    named, optimizer = some_optimizer()
    first, second = list(named.values())[:2]
    new = nn.Parameter(torch.ones(3))
    exchange(optimizer, {first: new})
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(new), id(second)]
    assert list(optimizer.state) == [second]
