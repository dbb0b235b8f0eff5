"""SelectionCallback: in transformers.Trainer the trajectory of `train`, resumed or not."""

import dataclasses
import gc
import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from replication import SelectionCallback, detach, load, save
from replication.errors import CheckpointError, ConfigError, ReplicationWarning
from replication.methods.selection import present_updates

SPEC = importlib.util.spec_from_file_location("selecting_cases", Path(__file__).with_name("test_selecting.py"))
cases = importlib.util.module_from_spec(SPEC)
sys.modules["selecting_cases"] = cases
SPEC.loader.exec_module(cases)
CONFIGS, TRAINING = cases.CONFIGS, cases.TRAINING
ROWS = [
    dict(zip(batch, rows, strict=True))
    for step in range(1, TRAINING.steps + 1)
    for batch in [cases.batch_of(step)]
    for rows in zip(*batch.values(), strict=True)
]


@pytest.fixture(autouse=True)
def _as_in_a_fresh_process():
    """The Trainer collects garbage when it starts: not the session's. Accelerate keeps its precision: forget it."""
    gc.freeze()
    yield
    gc.unfreeze()
    AcceleratorState._reset_state(reset_partial_state=True)


class InOrder(Trainer):
    """The batches of our loop."""

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)


def trainer(folder, config, callbacks=None, model=None, **changes):
    settings = {
        "max_steps": TRAINING.steps, "warmup_steps": TRAINING.warmup_steps, "per_device_train_batch_size": 4,
        "learning_rate": TRAINING.learning_rate, "weight_decay": TRAINING.weight_decay, "max_grad_norm": 1.0,
        "save_strategy": "no", "use_cpu": True, "report_to": [], "disable_tqdm": True, "logging_strategy": "no",
    }  # fmt: skip
    return InOrder(
        model or cases.tiny(config), TrainingArguments(str(folder), **{**settings, **changes}), train_dataset=ROWS,
        eval_dataset=ROWS[:4], callbacks=[SelectionCallback()] if callbacks is None else callbacks,
    )  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_the_trajectory_is_that_of_our_loop(name, tmp_path):
    expected, choices = cases.in_our_loop(name)
    callback = SelectionCallback()
    run = trainer(tmp_path, CONFIGS[name], [callback])
    run.train()
    cases.assert_same(run.model, expected)
    cases.assert_same_choices(callback.summary(), choices)


@pytest.mark.parametrize("name", ["adalora"])
def test_accumulated_batches_count_as_one_update(name, tmp_path):
    run = trainer(tmp_path, CONFIGS[name], per_device_train_batch_size=2, gradient_accumulation_steps=2)
    run.train()
    cases.assert_same(run.model, cases.in_our_loop(name)[0])


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "lora"])
def test_a_resumed_training_ends_as_one_that_ran_through(name, tmp_path):
    callback = SelectionCallback()
    through = trainer(
        tmp_path / "through", CONFIGS[name], [callback], save_strategy="steps", save_steps=2, save_total_limit=4
    )
    through.train()
    for step, restores in ((4, False), (6, True)):
        resumed = trainer(
            tmp_path / "resumed", CONFIGS[name], restore_callback_states_from_checkpoint=restores, optim="adamw_torch"
        )
        resumed.train(resume_from_checkpoint=str(tmp_path / "through" / f"checkpoint-{step}"))
        cases.assert_same(resumed.model, through.model, tolerance=0)
        (again,) = [c for c in resumed.callback_handler.callbacks if isinstance(c, SelectionCallback)]
        assert again.summary() == callback.summary()


def test_the_best_checkpoint_comes_back_with_its_adapters(tmp_path):
    """The best one is from before the selection: removed adapters come back, `save` says what has not run."""
    config = dataclasses.replace(CONFIGS["weight_lora"], selection_steps=8)
    run = trainer(
        tmp_path, config, save_strategy="steps", eval_strategy="steps", save_steps=6, eval_steps=6, save_total_limit=1,
        load_best_model_at_end=True, metric_for_best_model="order", greater_is_better=True,
    )  # fmt: skip
    run.compute_metrics = lambda _: {"order": 0.0}
    run.train()
    assert run.state.best_global_step == 6
    assert len(present_updates(run.model)) == 6
    early = trainer(tmp_path / "early", config)
    early.add_callback(StopAt(6))
    early.train()
    cases.assert_same(run.model, early.model, tolerance=0)
    with pytest.warns(ReplicationWarning, match="all 6 adapters remain"):
        save(run.model, tmp_path / "adapter")


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adafactor", "sgd"])
def test_every_optimizer_of_the_trainer_selects_and_what_it_saves_loads(optim, tmp_path):
    config = CONFIGS["weight_lora_plus"]
    run = trainer(tmp_path, config, optim=optim, bf16=optim == "sgd")
    run.train()
    (survivor,) = present_updates(run.model).values()
    assert survivor.lora_A.shape[0] == 8
    save(run.model, tmp_path / "adapter")
    base = detach(cases.tiny(config))
    cases.assert_same(load(base, tmp_path / "adapter"), run.model, tolerance=0)


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused"])
@pytest.mark.parametrize("name", ["weight_lora", "adalora"])
def test_float16_with_a_gradient_scaler_counts_only_the_updates_made(name, optim, tmp_path):
    """transformers and Accelerate refuse fp16 on a CPU when they are set up: switched on afterwards."""
    callback = SelectionCallback()
    run = trainer(tmp_path, CONFIGS[name], [callback], bf16=True, optim=optim)
    run.accelerator.state._mixed_precision = "fp16"
    run.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=100)
    run.train()
    skipped = 20 - round(math.log2(run.accelerator.scaler.get_scale()))
    assert 1 <= skipped <= 5
    assert callback.selection.updates == TRAINING.steps - skipped
    assert all(value.isfinite().all() for value in run.model.state_dict().values())
    if name == "weight_lora":
        assert callback.summary()["removed_at"] == 5
        assert callback.summary()["trace"]["steps"] == [1, 2, 3, 4, 5]


def test_a_checkpoint_without_the_callback_and_a_training_too_short_are_refused(tmp_path):
    config = CONFIGS["weight_lora"]
    trainer(tmp_path, config, callbacks=[], save_strategy="steps", save_steps=4, max_steps=4).train()
    with pytest.raises(CheckpointError, match="holds no state of SelectionCallback: it was written without"):
        trainer(tmp_path, config).train(resume_from_checkpoint=True)
    with pytest.raises(ConfigError, match=r"selection_steps=5 exceeds the training's steps=4"):
        trainer(tmp_path / "short", config, max_steps=4).train()


def test_a_trainer_without_the_callback_warns_during_training(tmp_path):
    with pytest.warns(ReplicationWarning, match=r"SelectionCallback\(\)"):
        trainer(tmp_path, CONFIGS["weight_lora"], callbacks=[]).train()


def test_a_second_training_selects_nothing_more(tmp_path):
    run = trainer(tmp_path, CONFIGS["weight_lora"])
    run.train()
    survivors = list(present_updates(run.model))
    run.train()
    assert list(present_updates(run.model)) == survivors


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weight_lora", "adalora"])
def test_two_processes_train_as_one(name, tmp_path):
    command = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__, name, str(tmp_path)]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    expected = cases.in_our_loop(name)[0].state_dict()
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, atol=1e-5, rtol=1e-5)


if __name__ == "__main__":
    shared = {"per_device_train_batch_size": 2, "ddp_find_unused_parameters": True, "ddp_backend": "gloo"}
    run = trainer(Path(sys.argv[2]) / "run", CONFIGS[sys.argv[1]], **shared)
    run.train()
    torch.save(dict(run.model.state_dict()), Path(sys.argv[2]) / f"{os.environ['RANK']}.pt")
