"""AdamW and plain SGD in one optimizer, and parameters that leave it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from replication.methods.shared.base import IMPORTANCE_NAME
from replication.methods.shared.base import IMPORTANCE_NAME as COUNTED_NAME
from replication.methods.weight_lora import SelectionAdamW, build_selection_optimizer, exchange, forget
from replication.training.config import TrainingConfig


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


def test_importance_weights_are_known_by_the_name_that_is_counted():
    assert IMPORTANCE_NAME == COUNTED_NAME
