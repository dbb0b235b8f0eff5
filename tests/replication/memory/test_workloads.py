"""Workloads: laws of predicted peaks on a small DeBERTa, the authors' layer, refusals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForSequenceClassification

from replication.backbones import backbone_config, build_empty
from replication.errors import ConfigError
from replication.memory import workloads
from replication.memory.workloads import OutputWeightedLoraConfig, Workload, keep_adapters, method_of, predict
from replication.methods import attach, method_config
from replication.methods.lora import lora_layers
from replication.methods.shared.blocks import head_parameters

WIDTH, BLOCKS = 32, 3
CHANGES = {"hidden_size": WIDTH, "num_hidden_layers": BLOCKS, "intermediate_size": 64, "pooler_hidden_size": WIDTH}
ALL = 3 * BLOCKS
COUNTS = (1, 2, 4, 6, 9)


def workload(method, adapters, order="bottom", **more):
    return Workload("microworld-deberta", method, 4, 24, adapters, order, changes=CHANGES, **more)


@pytest.fixture(scope="module")
def curves():
    """Peaks of WeightLoRA's phase 2 by number of adapters, from either end."""
    method = method_config("weight_lora", rank=4, keep=1)
    return {order: {count: predict(workload(method, count, order)) for count in COUNTS} for order in ("bottom", "top")}


@pytest.mark.long
@given(order=st.sampled_from(["bottom", "top"]), fewer=st.sampled_from(COUNTS), more=st.sampled_from(COUNTS))
def test_more_adapters_never_need_less(curves, order, fewer, more):
    fewer, more = sorted((fewer, more))
    small, large = curves[order][fewer], curves[order][more]
    assert small.total <= large.total
    assert small.saved_after_forward <= large.saved_after_forward
    assert small.parameters <= large.parameters
    assert (small.optimizer_state < large.optimizer_state) == (fewer < more)


@pytest.mark.long
@given(count=st.sampled_from(COUNTS))
def test_as_many_from_the_top_never_need_more(curves, count):
    top, bottom = curves["top"][count], curves["bottom"][count]
    assert top.total <= bottom.total
    assert top.parameters == bottom.parameters
    if count <= ALL - 3:  # a block at the bottom that the backward pass does not reach
        assert top.total < bottom.total
    if count == ALL:
        assert top == bottom


@pytest.mark.parametrize(("rank", "adapters"), [(1, 1), (3, 4)])
def test_optimizer_state_and_parameters_by_formula(rank, adapters):
    method = OutputWeightedLoraConfig(rank=rank)
    found = predict(workload(method, adapters, train_head=False))
    trained = adapters * (2 * WIDTH * rank + 1)
    assert found.all_gradients == 4 * trained
    assert found.optimizer_state == 2 * 4 * trained + 4 * (3 * adapters)  # two moments, and a step for each tensor


@pytest.mark.parametrize(("adapter_dtype", "size"), [("float32", 4), ("model", 2)])
def test_adapters_are_counted_in_float32_beside_bfloat16_weights(adapter_dtype, size):
    method = method_config("lora", rank=4, targets=("query", "key", "value"), adapter_dtype=adapter_dtype)
    found = predict(workload(method, None, train_head=False, precision="bf16_weights"))
    trained, tensors = ALL * 2 * WIDTH * 4, ALL * 2
    assert found.all_gradients == size * trained
    assert found.optimizer_state == 2 * size * trained + 4 * tensors
    base = sum(p.numel() for p in backbone().parameters())
    head = sum(p.numel() for p in head_parameters(backbone()).values())
    assert found.parameters == 2 * (base - head) + size * (head + trained)


def backbone():
    config = backbone_config("microworld-deberta", **CHANGES)
    return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("precision", ["bf16", "bf16_weights"])
def test_the_precision_is_in_json_only_if_it_is_not_the_usual_one(precision):
    usual, other = (workload(method_config("lora"), None, **more) for more in ({}, {"precision": precision}))
    assert other.to_dict() == {**usual.to_dict(), "precision": precision}


def test_shared_keys_save_twice():
    """DeBERTa's query and key projections also read the relative positions; the value projection does not."""
    model = attach(build_empty("microworld-deberta"), method_config("lora", rank=4, targets=("query", "key", "value")))
    calls = dict.fromkeys(lora_layers(model), 0)
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        step = workloads.training_step(workload(method_config("lora", rank=4, targets=("query", "key", "value")), None))
        for name, layer in lora_layers(step.model).items():
            layer.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
        step.loss(step.model, step.batch)
    first = {name.rsplit(".", 1)[-1]: count for name, count in calls.items() if ".layer.0." in name}
    assert first == {"query_proj": 2, "key_proj": 2, "value_proj": 1}


def test_the_authors_layer_computes_what_theirs_does():
    """w * B(A(x)) added to the frozen projection, without scale or dropout."""
    torch.manual_seed(0)
    base = nn.Linear(6, 5)
    update = OutputWeightedLoraConfig(rank=2).new_update(6, 5, base.weight, torch.Generator().manual_seed(0))
    nn.init.normal_(update.lora_B)
    nn.init.constant_(update.weight, 0.5)
    x = torch.randn(3, 6)
    assert torch.allclose(update(x), 0.5 * (x @ update.lora_A.T @ update.lora_B.T))


def test_it_saves_a_tensor_of_full_width_for_each_adapter():
    """The trained scalar on the output is what the slope of the authors' measured files shows."""
    plain, weighted = (
        [predict(workload(method, count, train_head=False)).saved_after_forward for count in (4, 5)]
        for method in (
            method_config("lora", rank=8, dropout=0.0, targets=("query", "key", "value")),
            OutputWeightedLoraConfig(rank=8),
        )
    )
    full_width = 4 * 24 * WIDTH * 4
    assert (weighted[1] - weighted[0]) - (plain[1] - plain[0]) >= full_width


@pytest.mark.parametrize(("order", "expected"), [("bottom", [0, 0, 0, 1]), ("top", [1, 2, 2, 2])])
def test_which_adapters_stay(order, expected):
    from torch._subclasses.fake_tensor import FakeTensorMode

    method = method_config("weight_lora", rank=4, keep=4)
    with FakeTensorMode():
        model = workloads.training_step(workload(method, None)).model
        keep_adapters(model, 4, order)
    names = sorted(name for name in lora_layers(model))
    assert [int(name.split(".layer.")[1].split(".")[0]) for name in names] == expected
    assert not [n for n, p in model.named_parameters() if n.endswith("importance_weight") and p.requires_grad]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "batch=0"),
        ({"adapters": 0}, "adapters=0"),
        ({"adapters": 99}, "only 9"),
        ({"order": "middle"}, "bottom, top"),
        ({"attention": "flash"}, "attention='flash'"),
        ({"precision": "fp16"}, "precision='fp16'.* no, bf16, bf16_weights"),
        ({"task": "masked_lm"}, "task='masked_lm'"),
    ],
)
def test_refusals_name_the_field(settings, message):
    given = {"batch": 4, "length": 24, "changes": CHANGES, **settings}
    with pytest.raises(ConfigError, match=message):
        predict(Workload("microworld-deberta", method_config("lora", targets=("query", "key", "value")), **given))


def test_methods_by_name():
    assert method_of("authors_layer", {"rank": 3}) == OutputWeightedLoraConfig(rank=3)
    assert method_of("lora", {"rank": 3}) == method_config("lora", rank=3)
    with pytest.raises(ConfigError, match="unknown"):
        method_of("nothing", {})
