import torch

from replication.methods import attach, trainable_parameters
from replication.methods.solo_connection import SoloConnectionConfig
from replication.training.callbacks import Run
from studies.ablations.decoder_start import PARTS, GradientNorms, start_at_zero


def norms_after_one_backward(model):
    ids = torch.randint(0, 97, (2, 9), generator=torch.Generator().manual_seed(0))
    model(input_ids=ids, labels=ids).loss.backward()
    callback = GradientNorms([1])
    optimizer = torch.optim.SGD(trainable_parameters(model).values(), lr=0.1)
    callback.on_update(Run(model, optimizer, step=1))
    callback.on_update(Run(model, optimizer, step=2))
    assert list(callback.norms) == [1]
    return callback.norms[1]


def test_only_v_has_a_gradient_at_the_first_step_of_the_default(tiny_gpt2):
    norms = norms_after_one_backward(attach(tiny_gpt2, SoloConnectionConfig(rank=8, skip_length=2)))
    assert norms["homotopy vector v"] > 0
    assert {part for part, norm in norms.items() if norm == 0} == set(PARTS) - {"homotopy vector v"}


def test_nothing_has_a_gradient_where_the_decoder_starts_at_zero(tiny_gpt2):
    model = attach(tiny_gpt2, SoloConnectionConfig(rank=8, skip_length=2))
    start_at_zero(model)
    assert set(norms_after_one_backward(model).values()) == {0.0}


def test_every_trained_parameter_belongs_to_one_part(tiny_gpt2):
    model = attach(tiny_gpt2, SoloConnectionConfig(rank=8, skip_length=2))
    for name in trainable_parameters(model):
        assert sum(pattern in name for pattern in PARTS.values()) == 1, name
