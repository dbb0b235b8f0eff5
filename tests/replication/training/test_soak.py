"""2,000 steps with a selection, expansions, checkpoints and evaluations: memory, open files and threads stay flat."""

import json
import subprocess
import sys

import pytest

# In a process of its own: the test run's own memory would hide a leak. A sample every 20 steps, when a row is measured.
SCRIPT = """
import json, sys, tempfile
import psutil, torch
from transformers import GPT2Config, GPT2LMHeadModel
from replication.examples import Encoded
from replication.methods import attach, method_config
from replication.training.config import TrainingConfig
from replication.training.loop import train

shape = {"vocab_size": 31, "n_positions": 32, "n_embd": 16, "n_layer": 4, "n_head": 2, "bos_token_id": 0}
method = method_config(
    "weight_lora_plus", rank=2, keep=8, selection_steps=400, expand_every=200, expansions=3, targets=["query", "value"]
)
model = attach(GPT2LMHeadModel(GPT2Config(**shape, eos_token_id=0)), method)
rows = [
    Encoded([1 + (n + i) % 30 for i in range(4 + n % 8)], [0, 0] + [1] * (2 + n % 8), text=str(n)) for n in range(64)
]
process, samples = psutil.Process(), []

def sample(_):
    samples.append((process.memory_info().rss, process.num_fds(), process.num_threads()))
    return {}

config = TrainingConfig(
    steps=2000, warmup_steps=20, learning_rate=0.01, batch_size=4, log_every=20, eval_every=20, checkpoint_every=20,
    threads=1,
)
callback = method.training_callback(config)
with tempfile.TemporaryDirectory() as folder:
    train(
        model, rows, rows[:8], config, seed=0, pad_id=0, checkpoint_directory=folder, report_state=sample,
        callback=callback,
    )
summary = callback.summary()
print(json.dumps({"samples": samples, "removed_at": summary["removed_at"], "expansions": len(summary["expansions"])}))
"""


@pytest.mark.slow
def test_two_thousand_steps_are_flat():
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert (found["removed_at"], found["expansions"]) == (600, 3)
    assert len(found["samples"]) == 101
    memory, files, threads = zip(*found["samples"], strict=True)
    settled = slice(50, None)  # the last expansion is at step 1,000
    print(f"{memory[50] / 1e6:.1f} to {memory[-1] / 1e6:.1f} MB, {set(files)} files, {set(threads)} threads")
    assert max(memory[settled]) - memory[50] < 4e6  # 4 kB a step
    assert len(set(files)) == 1
    assert len(set(threads)) == 1
