"""A step on fake tensors: bytes by hand, and within ten per cent of what torch's profiler sees on small models."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from replication.memory.profiled import measured_peak
from replication.memory.step import TrainingStep, predict_step
from replication.memory.workloads import Workload, predict, training_step
from replication.methods import method_config

FLOAT = 4


GPT2 = {"vocab_size": 97, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}


LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 8}  # fmt: skip


BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "dropout": 0.1}  # fmt: skip


DEBERTA = {"hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 64, "pooler_hidden_size": 32,
           "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}  # fmt: skip


class Chain(nn.Module):
    """Two linear layers with a ReLU between."""

    def __init__(self, width, train_first):
        super().__init__()
        self.first, self.second = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.first.requires_grad_(train_first)

    def forward(self, x):
        return self.second(F.relu(self.first(x)))


def chain(width=8, rows=16, train_first=True):
    def build():
        model = Chain(width, train_first)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
        return TrainingStep(model, {"x": torch.ones(rows, width)}, lambda m, batch: m(batch["x"]).sum(), optimizer)

    return build


def test_components_by_hand():
    """x is the batch; the ReLU's output is saved once, for the ReLU and for the second layer."""
    found = predict_step(chain())
    assert found.parameters == found.optimizer_state == found.all_gradients == 2 * 64 * FLOAT
    assert found.batch == 16 * 8 * FLOAT
    assert found.saved_after_forward == 16 * 8 * FLOAT
    assert found.buffers == 0


def test_what_does_not_train_saves_nothing():
    """Only the input of the second layer is kept, and only its gradient and momentum exist."""
    found = predict_step(chain(train_first=False))
    assert found.saved_after_forward == 16 * 8 * FLOAT
    assert found.all_gradients == found.optimizer_state == 64 * FLOAT


def test_small_steps_as_the_profiler_sees_them():
    build = chain(64, 256)
    assert predict_step(build).above_start == pytest.approx(measured_peak(build), rel=0.02)


def test_fused_masks_take_a_byte():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.dropout = nn.Parameter(torch.ones(1000)), nn.Dropout(0.5)

        def forward(self, x):
            return self.dropout(x * self.scale)

    def build():
        model = Dropped()
        return TrainingStep(
            model, {"x": torch.ones(1000)}, lambda m, b: m(b["x"]).sum(), torch.optim.SGD([model.scale])
        )

    fused, floats = predict_step(build, fused_dropout=True), predict_step(build)
    assert (fused.saved_after_forward, floats.saved_after_forward) == (1000, 4000)


def test_nothing_real_is_allocated():
    """A width that no machine here could hold."""
    assert predict_step(chain(1_000_000, 1)).parameters == 2 * 10**12 * FLOAT


SMALL = {
    "microworld-gpt2": GPT2,
    "microworld-llama": LLAMA,
    "microworld-bart": BART,
    "microworld-deberta": DEBERTA,
}


METHODS = {
    "full": (method_config("full"), {}),
    "lora": (method_config("lora"), {}),
    "solo": (method_config("solo_connection", rank=8, skip_length=1), {}),
    "weight_lora": (method_config("weight_lora", keep=2, rank=4), {}),
    "two_left": (method_config("weight_lora", keep=2, rank=4), {"adapters": 2}),
    "two_left_at_the_top": (method_config("weight_lora", keep=2, rank=4), {"adapters": 2, "order": "top"}),
}


@pytest.mark.long
@pytest.mark.parametrize("precision", ["bf16", "bf16_weights"])
@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize("name", ["lora", "solo", "two_left"])
def test_half_precision_as_the_profiler_sees_it(backbone, name, precision):
    if name == "solo" and backbone == "microworld-deberta":
        pytest.skip("an encoder has no decoder blocks to connect")
    method, more = METHODS[name]
    workload = Workload(
        backbone, method, 8, 32, fused_dropout=False, attention="eager", changes=SMALL[backbone], precision=precision,
        **more,
    )  # fmt: skip
    torch.manual_seed(0)
    measured = measured_peak(lambda: training_step(workload))
    assert predict(workload).above_start == pytest.approx(measured, rel=0.1)


@pytest.mark.long
@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize("name", METHODS)
def test_within_ten_per_cent_of_the_profiler(backbone, name):
    if name == "solo" and backbone == "microworld-deberta":
        pytest.skip("an encoder has no decoder blocks to connect")
    method, more = METHODS[name]
    changes = SMALL[backbone]
    workload = Workload(backbone, method, 4, 24, fused_dropout=False, attention=None, changes=changes, **more)
    torch.manual_seed(0)
    measured = measured_peak(lambda: training_step(workload))
    assert predict(workload).above_start == pytest.approx(measured, rel=0.1)
