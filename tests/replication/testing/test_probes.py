"""Looking without touching: log probabilities, drift and gradients against torch's own."""

import copy

import pytest
import torch
from torch.nn import functional as F

from replication.errors import AdapterError
from replication.examples import Encoded
from replication.methods import attach, trainable_parameters
from replication.methods.frozen import FrozenConfig
from replication.methods.lora import LoraConfig
from replication.testing.probes import drift, gradient_norms, log_probabilities
from replication.training.losses import evaluate_loss

ROWS = [Encoded([3, 4, 5, 6, 7], [0, 0, 1, 1, 1]), Encoded([9, 8, 7], [0, 1, 1])]


def test_log_probabilities_are_normalised_and_give_the_loss(tiny_gpt2):
    values = log_probabilities(tiny_gpt2.train(), ROWS)
    assert tiny_gpt2.training
    assert values.shape == (5, 97)
    torch.testing.assert_close(values.exp().sum(-1), torch.ones(5))
    truth = torch.tensor([5, 6, 7, 8, 7])
    expected = evaluate_loss(tiny_gpt2, ROWS, batch_size=2, pad_id=0)
    assert -values.gather(1, truth[:, None]).mean().item() == pytest.approx(expected, abs=1e-5)


def test_drift_is_the_divergence_and_zero_for_equal_outputs(tiny_gpt2):
    values = log_probabilities(tiny_gpt2, ROWS)
    other = F.log_softmax(values + torch.randn(values.shape, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert drift(values, values) == 0
    distributions = [torch.distributions.Categorical(logits=logits) for logits in (values, other)]
    assert drift(values, other) == pytest.approx(
        torch.distributions.kl_divergence(*distributions).mean().item(), rel=1e-5
    )
    with pytest.raises(ValueError, match="equal shapes"):
        drift(values, other[:2])


def test_gradient_norms_are_those_of_backward_and_leave_nothing_behind(tiny_gpt2):
    attach(tiny_gpt2, LoraConfig(rank=2))
    twin = copy.deepcopy(tiny_gpt2)
    norms = gradient_norms(tiny_gpt2, ROWS)
    assert all(parameter.grad is None for parameter in tiny_gpt2.parameters())
    ids = torch.tensor([[3, 4, 5, 6, 7], [9, 8, 7, 0, 0]])
    labels = torch.tensor([[-100, -100, 5, 6, 7], [-100, 8, 7, -100, -100]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    twin(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
    for name, parameter in trainable_parameters(twin).items():
        assert norms[name] == pytest.approx(parameter.grad.norm().item(), rel=1e-3, abs=1e-6)
    assert any(norms.values())


def test_gradient_norms_need_something_that_trains(tiny_gpt2):
    with pytest.raises(AdapterError, match="attach a method that trains"):
        gradient_norms(attach(tiny_gpt2, FrozenConfig()), ROWS)
