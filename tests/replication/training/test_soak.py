"""2,000 steps with selection, expansion, checkpoints and evaluation: memory, file handles and threads stay flat."""

import gc
import os
import threading
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from replication.examples import Encoded
from replication.methods import attach
from replication.methods.weight_lora_plus import WeightLoraPlusConfig
from replication.training.config import TrainingConfig
from replication.training.loop import train

STEPS, WARM, EVERY = 2000, 600, 100
TOLERANCE = 24 << 20
METHOD = WeightLoraPlusConfig(
    rank=1, alpha=2.0, keep=4, selection_steps=200, expand_every=150, expansions=2, targets=("query", "value")
)
TRAINING = TrainingConfig(
    steps=STEPS, warmup_steps=10, batch_size=4, log_every=50, eval_every=50, checkpoint_every=50, threads=1
)


def _rows(count):
    return [Encoded([1 + (i + j) % 30 for j in range(8)], [0] * 2 + [1] * 6, text=str(i)) for i in range(count)]


def _resources():
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    native = len(list(Path("/proc/self/task").iterdir()))
    return resident, len(list(Path("/proc/self/fd").iterdir())), native, threading.active_count()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_handles_and_threads_stay_flat(tmp_path, record_property):
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "n_positions": 32, "n_embd": 16, "n_layer": 3, "n_head": 2}
    model = attach(GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)), METHOD)
    callback = METHOD.training_callback(TRAINING)
    original, seen = callback.on_step_end, {}

    def on_step_end(run):
        original(run)
        if run.step >= WARM and run.step % EVERY == 0:
            seen[run.step] = _resources()

    callback.on_step_end = on_step_end
    train(model, _rows(40), _rows(8), TRAINING, seed=1, pad_id=0, checkpoint_directory=tmp_path, callback=callback)
    assert len(seen) == (STEPS - WARM) // EVERY + 1
    resident, handles, native, threads = zip(*seen.values(), strict=True)
    figures = f"resident MiB {[r >> 20 for r in resident]}, handles {handles}, threads {native} {threads}"
    record_property("figures", figures)
    print(figures)
    assert max(resident) - resident[0] < TOLERANCE, figures
    assert len(set(handles)) == len(set(native)) == len(set(threads)) == 1, figures
    assert len(list(tmp_path.glob("step-*"))) == 1
    assert [p.shape[0] for name, p in model.named_parameters() if name.endswith("lora_A")] == [4]
