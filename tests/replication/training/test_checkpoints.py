"""Checkpoints: what is written, what is refused, and that a killed run ends with the same bits."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from replication.errors import CheckpointError
from replication.examples import Encoded
from replication.methods import adapter_parameters, attach, method_config, report_state
from replication.records import write_curves
from replication.training import checkpoints, loop
from replication.training.bfloat16 import narrow_weights
from replication.training.callbacks import Callback
from replication.training.checkpoints import (
    Checkpoint,
    configuration_hash,
    discard_checkpoints,
    load_checkpoint,
    model_fingerprint,
    save_checkpoint,
)
from replication.training.config import TrainingConfig
from replication.training.determinism import deterministic_algorithms
from replication.training.loop import train

CONFIG = TrainingConfig(
    steps=9, warmup_steps=2, learning_rate=0.01, batch_size=2, accumulation_steps=2, label_smoothing=0.1,
    log_every=4, eval_every=3, checkpoint_every=2, threads=1,
)  # fmt: skip
IDENTITY = {"method": {"name": "lora", "rank": 4}, "data": "abc"}


def corpus(count, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 12, (count,), generator=generator).tolist()
    return [Encoded(torch.randint(1, 31, (n,), generator=generator).tolist(), [0] + [1] * (n - 1)) for n in lengths]


TRAIN, DEV = corpus(13, 0), corpus(4, 1)


def tiny(trained=""):
    """GPT-2 with its dropout of 0.1; trains the parameters whose name holds `trained`, like an adapter."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = trained in name
    return model


def run(folder=None, model=None, config=CONFIG, **settings):
    model = model or tiny()
    report = {"report_state": lambda model: {"norm": float(model.transformer.ln_f.weight.norm())}}
    result = train(model, TRAIN, DEV, config, seed=3, pad_id=0, checkpoint_directory=folder, **{**report, **settings})
    return model, result


def assert_same_outcome(one, other):
    (model, result), (reference, expected) = one, other
    assert result.curves == expected.curves
    assert result.tokens_seen == expected.tokens_seen
    for name, tensor in reference.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


# --- files


@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64]),
    step=st.integers(0, 10**9),
)
def test_a_checkpoint_reads_back(shape, dtype, step):
    tensors = {"model/a.b": torch.ones(shape, dtype=dtype), "optimizer/a.b/step": torch.tensor(3.0)}
    state = {"curves": [{"step": 0, "loss": None, "x": 1 / 3}], "tokens_seen": 2**60}
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(folder, IDENTITY, Checkpoint(step, tensors, state))
        found = load_checkpoint(folder, json.loads(json.dumps(IDENTITY)))
    assert found.step == step
    assert {**found.state, **state} == found.state
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def test_only_the_latest_is_kept_and_leftovers_of_a_kill_are_swept(tmp_path):
    for step in (2, 4):
        save_checkpoint(tmp_path, IDENTITY, Checkpoint(step, {"model/w": torch.ones(1)}, {}))
    (tmp_path / ".step-00000006.abc").mkdir()
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    assert load_checkpoint(tmp_path, IDENTITY).step == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "step-00000004"]
    discard_checkpoints(tmp_path)
    discard_checkpoints(tmp_path)
    assert load_checkpoint(tmp_path, IDENTITY) is None


def test_nothing_in_a_checkpoint_is_pickled(tmp_path):
    run(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["state.json", "tensors.safetensors"]
    state = json.loads((folder / "state.json").read_text())
    assert state["step"] == CONFIG.steps
    assert {"python", "numpy", "torch", "cuda"} == state["random"][0].keys()
    names = load_file(folder / "tensors.safetensors").keys()
    assert "model/transformer.ln_f.weight" in names
    assert "optimizer/transformer.ln_f.weight/exp_avg_sq" in names


def test_another_configuration_is_refused_with_each_difference_and_a_cure(tmp_path):
    save_checkpoint(tmp_path, IDENTITY, Checkpoint(1, {}, {}))
    other = {"method": {"name": "lora", "rank": 8}, "seed": 19}
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path, other)
    text = str(error.value)
    assert "method.rank is 4 there and 8 now" in text
    assert "data is 'abc' there and 'absent' now" in text
    assert "seed is 'absent' there and 19 now" in text
    assert "method.name" not in text
    assert f"delete {tmp_path}" in text


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "one bit", "empty", "another shape"])
def test_a_damaged_checkpoint_is_refused_or_passed_over_for_an_older_one(tmp_path, name, damage):
    older = save_checkpoint(tmp_path / "aside", IDENTITY, Checkpoint(1, {"model/w": torch.ones(3)}, {"x": 1}))
    newest = save_checkpoint(tmp_path / "run", IDENTITY, Checkpoint(2, {"model/w": torch.ones(3)}, {"x": 2}))
    file = newest / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "another shape":
        save_file({"w": torch.ones(1)}, file) if name.startswith("tensors") else file.write_text("[1]")
    else:
        flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        file.write_bytes({"truncated": content[:-9], "one bit": flipped, "empty": b""}[damage])
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path / "run", IDENTITY)
    assert str(file) in str(error.value)
    assert "Delete" in str(error.value)
    older.rename(tmp_path / "run" / older.name)
    with pytest.warns(UserWarning, match="damaged"):
        assert load_checkpoint(tmp_path / "run", IDENTITY).step == 1


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    save_checkpoint(tmp_path, IDENTITY, Checkpoint(1, {}, {}))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 2, this version reads 1"):
        load_checkpoint(tmp_path, IDENTITY)


def test_the_configuration_hash_ignores_order_and_sees_values():
    assert configuration_hash({"a": 1, "b": (1, 2)}) == configuration_hash({"b": [1, 2], "a": 1})
    assert configuration_hash({"a": 1}) != configuration_hash({"a": 2})
    assert len(configuration_hash({})) == 16


def test_the_fingerprint_sees_frozen_weights_and_what_is_trained_but_not_trained_values():
    base = model_fingerprint(tiny("attn"))
    assert base == model_fingerprint(tiny("attn"))
    assert base != model_fingerprint(tiny("mlp"))
    changed = tiny("attn")
    with torch.no_grad():
        changed.transformer.h[0].attn.c_attn.weight.add_(1)
    assert model_fingerprint(changed) == base
    with torch.no_grad():
        changed.transformer.ln_f.weight[0] += 1e-6
    assert model_fingerprint(changed) != base


# --- runs


class Stop(Callback):
    """Ends the process's part of a run right after a step, before its checkpoint."""

    def __init__(self, step, end):
        self.step, self.end = step, end

    def on_step_end(self, run):
        if run.step == self.step:
            self.end()


class Interruption(Exception):  # noqa: N818 (nothing is wrong with it)
    pass


def interrupt():
    raise Interruption


@pytest.mark.long
@settings(max_examples=8)
@given(
    stops=st.lists(st.integers(1, CONFIG.steps), min_size=1, max_size=3),
    every=st.integers(1, 5),
    trained=st.sampled_from(["", "attn", "ln_"]),
    smoothing=st.sampled_from([0.0, 0.1]),
)
def test_resuming_equals_no_interruption(stops, every, trained, smoothing):
    config = replace(CONFIG, checkpoint_every=every, label_smoothing=smoothing)
    expected = run(model=tiny(trained), config=config)
    with tempfile.TemporaryDirectory() as folder:
        for stop in stops:
            with pytest.raises(Interruption):  # noqa: PT012 (it may already be past this step)
                run(folder, tiny(trained), config, callback=Stop(stop, interrupt))
                raise Interruption
            torch.manual_seed(stop)  # whatever happens in between does not matter
        outcome = run(folder, tiny(trained), config)
        again = run(folder, tiny(trained), config)
    assert_same_outcome(outcome, expected)
    assert again[1].resumed_from == CONFIG.steps  # a finished run is not trained again
    assert_same_outcome(again, expected)


CHANGES = {
    "learning_rate": {"config": replace(CONFIG, learning_rate=0.02)},
    "steps": {"config": replace(CONFIG, steps=10)},
    "method.rank": {"identity": {"method": {"name": "lora", "rank": 8}, "data": "abc"}},
    "model": {"model": tiny("attn")},
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_run_refuses_the_checkpoint_of_another(field, tmp_path):
    run(tmp_path, identity=IDENTITY)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=field):
        run(tmp_path, **{"identity": IDENTITY, **CHANGES[field]})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_seed_and_examples_are_compared_without_the_callers_help(tmp_path):
    run(tmp_path)
    common = {"pad_id": 0, "checkpoint_directory": tmp_path}
    with pytest.raises(CheckpointError, match="seed is 3 there and 4 now"):
        train(tiny(), TRAIN, DEV, CONFIG, seed=4, **common)
    with pytest.raises(CheckpointError, match="train_examples"):
        train(tiny(), TRAIN[::-1], DEV, CONFIG, seed=3, **common)
    with pytest.raises(CheckpointError, match="dev_examples"):
        train(tiny(), TRAIN, DEV[1:], CONFIG, seed=3, **common)


def test_machine_and_versions_are_a_part_of_a_checkpoint_s_identity():
    accelerator = SimpleNamespace(device=torch.device("cuda"))
    found = loop._identity(tiny(), TRAIN, DEV, CONFIG, 3, accelerator, None)
    assert (found["device"], found["torch"], found["threads"]) == ("cuda", torch.__version__, torch.get_num_threads())


def test_how_often_checkpoints_are_written_may_change(tmp_path):
    with pytest.raises(Interruption):
        run(tmp_path, callback=Stop(5, interrupt))
    outcome = run(tmp_path, config=replace(CONFIG, checkpoint_every=None))
    assert outcome[1].resumed_from == 4
    assert_same_outcome(outcome, run())


@pytest.mark.parametrize("name", ["lora", "solo_connection"])
def test_a_resumed_run_keeps_float32_adapters_in_a_bfloat16_model(tmp_path, name):
    settings = {"rank": 2} if name == "lora" else {"rank": 4, "skip_length": 1, "links": [[1, 2]]}
    config, more = replace(CONFIG, mixed_precision="bf16_weights"), {"report_state": report_state}

    def fresh():
        return attach(narrow_weights(tiny()), method_config(name, **settings))

    def end():
        raise Interruption

    reference = run(None, fresh(), config, **more)
    with pytest.raises(Interruption):
        run(tmp_path, fresh(), config, callback=Stop(5, end), **more)
    held = load_file(next(tmp_path.glob("step-*")) / checkpoints.TENSORS)
    assert {tensor.dtype for tensor in held.values()} == {torch.float32}
    assert any(key.endswith("/exp_avg") for key in held)
    resumed = run(tmp_path, fresh(), config, **more)
    assert resumed[1].resumed_from == 4
    assert_same_outcome(resumed, reference)
    assert {p.dtype for p in adapter_parameters(resumed[0]).values()} == {torch.float32}
    assert resumed[0].transformer.wte.weight.dtype == torch.bfloat16


class FreezeAfter(Callback):
    """Trains all, then only the layer norms, as a method with phases does."""

    def __init__(self, step):
        self.step, self.frozen = step, False

    def freeze(self, model):
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "ln_" in name
        self.frozen = True

    def on_start(self, model):
        if self.frozen:
            self.freeze(model)

    def on_step_end(self, run):
        if run.step == self.step:
            self.freeze(run.model)
            for group in run.optimizer.param_groups:
                group["params"] = [p for p in group["params"] if p.requires_grad]

    def state(self):
        return {"frozen": self.frozen}

    def load_state(self, state):
        self.frozen = state["frozen"]


@pytest.mark.parametrize("stop", [3, 5, 7])
def test_a_method_that_changes_on_the_way_resumes_in_its_phase(stop, tmp_path):
    class Both(FreezeAfter):
        def on_step_end(self, run):
            super().on_step_end(run)
            if run.step == stop:
                interrupt()

    expected = run(callback=FreezeAfter(4))
    with pytest.raises(Interruption):
        run(tmp_path, callback=Both(4))
    assert_same_outcome(run(tmp_path, callback=FreezeAfter(4)), expected)


# --- really killed


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_during(module, name, *, call, after):
    """SIGKILL at the `call`-th use of a function, before it or after it has done its work."""
    original, uses = getattr(module, name), []

    def wrapped(*arguments, **settings):
        uses.append(name)
        if len(uses) == call and not after:
            kill()
        result = original(*arguments, **settings)
        if len(uses) == call:
            kill()
        return result

    setattr(module, name, wrapped)


KILLS = {
    "first step": lambda: Stop(1, kill),
    "step before a checkpoint": lambda: Stop(4, kill),
    "step after a checkpoint": lambda: Stop(7, kill),
    "last step": lambda: Stop(9, kill),
    "before the first tensors": lambda: kill_during(checkpoints, "save_file", call=1, after=False),
    "tensors written, state not": lambda: kill_during(checkpoints, "save_file", call=2, after=True),
    "all written, not renamed": lambda: kill_during(checkpoints, "write_json", call=3, after=True),
    "renamed, the older still there": lambda: kill_during(checkpoints, "_folders", call=3, after=True),
}


def write_outcome(folder, outcome):
    model, result = outcome
    save_file({name: p.detach().clone() for name, p in model.named_parameters()}, folder / "model.safetensors")
    write_curves(folder / "curves.csv", result.curves)


def fork(work):
    """Run `work` in a child process and return its exit status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_and_resume(root):
    """Imports once, then forks one process for every run; prints the exit status of each."""
    (
        tiny(),
        deterministic_algorithms(1).__enter__(),
        torch.optim.AdamW([torch.zeros(1)]),
    )  # import lazily, once
    statuses = {"uninterrupted": [fork(lambda: write_outcome(root, run()))]}
    for number, (name, plan) in enumerate(KILLS.items()):
        folder = root / str(number)
        folder.mkdir()

        def killed(folder=folder, plan=plan):
            callback = plan()
            run(folder / "checkpoints", callback=callback)

        def resumed(folder=folder):
            write_outcome(folder, run(folder / "checkpoints"))

        statuses[name] = [fork(killed), fork(resumed)]
    print(json.dumps(statuses))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    statuses = json.loads(done.stdout)
    assert statuses.pop("uninterrupted") == [0]
    assert statuses == {name: [-signal.SIGKILL, 0] for name in KILLS}
    curves = (tmp_path / "curves.csv").read_bytes()
    tensors = (tmp_path / "model.safetensors").read_bytes()
    for number, name in enumerate(KILLS):
        assert (tmp_path / str(number) / "model.safetensors").read_bytes() == tensors, name
        assert (tmp_path / str(number) / "curves.csv").read_bytes() == curves, name
        left = [path.name for path in (tmp_path / str(number) / "checkpoints").iterdir()]
        assert left == ["step-00000009"], name


if __name__ == "__main__":
    kill_and_resume(Path(sys.argv[1]))
