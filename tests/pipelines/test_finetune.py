"""Stage `finetune`: which rows a run learns from, and which seed."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pipelines.finetune as finetune
import pipelines.predict as predict
import replication.training.loop as loop
from pipelines.shared import signals
from pipelines.shared.experiment import resolve
from pipelines.shared.settings import load_settings
from replication.errors import ConfigError, DataError, Stopped
from replication.fileio import read_json, system_fault, write_json, write_jsonl, write_text
from replication.records import read_record
from replication.training.tracking import Track

PARAMS = Path("params.yaml")
KEY = "sentiment-lora"


def rows(split, count):
    return [{"id": f"{split}-{n}", "text": f"{split} text {n}", "pair": None, "label": n % 2} for n in range(count)]


@pytest.fixture
def home(project_root, tmp_path, monkeypatch):
    """The quick profile with prepared rows that say their split, and weights that cannot be loaded."""
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((project_root / "params.yaml").read_text())
    write_text(PARAMS, yaml.safe_dump(content))
    plan = content["experiments"][KEY]
    write_text(f"weights/{plan['backbone']}/model.safetensors", "no weights")
    folder = Path("prepared/quick") / plan["task"]
    for split, count in (("train", 9), ("dev", 4), ("test", 5)):
        write_jsonl(folder / f"{split}.jsonl", rows(split, count))
    write_json(folder / "corpus.json", {"name": "toy"})
    return tmp_path


def test_every_seed_learns_from_the_training_rows_alone(home, monkeypatch):
    seen = []

    def fit(experiment, train_rows, dev_rows, *, seed, **_):
        seen.append(seed)
        assert train_rows == rows("train", 9), "what is held out, or reported, must not be learnt from"
        assert dev_rows == rows("dev", 4)

    monkeypatch.setattr(finetune, "fit", fit)
    monkeypatch.setattr(finetune, "keep", lambda *_, **__: None)
    monkeypatch.setattr(finetune, "complete", lambda *_, **__: None)
    plan = resolve(load_settings(PARAMS), KEY)
    for seed in plan.seeds:
        finetune.finished_seed(plan, seed)
    assert seen == list(plan.seeds)


def test_the_record_says_how_much_ran_without_its_dropout(small_home):
    content = yaml.safe_load(PARAMS.read_text())
    content["tasks"]["sentiment"]["training"]["prefix_cache"] = 0.01
    content["methods"]["lora"]["r4-qkv"]["targets"] = ["layer.1.attention.self.value_proj"]
    content["experiments"][KEY]["seeds"] = [18]
    write_text(PARAMS, yaml.safe_dump(content))
    finetune.main(PARAMS, KEY)
    record = read_record(Path("runs/quick") / KEY / "training/seed-18/record.json")
    assert record.training["prefix_cache"] == 0.01
    assert record.frozen_prefix.blocks == 1
    assert not list(Path("checkpoints").rglob("prefix*"))


# --- what the identity of a run leaves out


def test_trackers_and_processes_are_no_part_of_the_identity_and_a_missing_tracker_is_refused(home, monkeypatch):
    plan = resolve(load_settings(PARAMS), KEY)
    assert plan.track == (), "off by default"
    identity, seen = plan.identity(18), []
    with monkeypatch.context() as patched:
        patched.setenv("WORLD_SIZE", "2")
        assert plan.identity(18) == identity, "a restart may have another number of processes"
    content = yaml.safe_load(PARAMS.read_text())
    write_text(PARAMS, yaml.safe_dump({**content, "track": ["tensorboard"]}))
    plan = resolve(load_settings(PARAMS), KEY)
    assert plan.identity(18) == identity
    with monkeypatch.context() as patched:
        patched.setattr("replication.training.tracking.importlib.util.find_spec", lambda name: None)
        with pytest.raises(ConfigError, match=r"install -c constraints\.txt tensorboard$"):
            finetune.main(PARAMS, KEY)
    monkeypatch.setattr("replication.training.tracking.importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(finetune, "fit", lambda *_, track, **__: seen.append(track))
    monkeypatch.setattr(finetune, "keep", lambda *_, **__: None)
    monkeypatch.setattr(finetune, "complete", lambda *_, **__: None)
    finetune.finished_seed(plan, 18)
    assert seen == [Track(("tensorboard",), Path("logs/quick", KEY, "seed-18"))]


# --- a record that cannot be written


def outputs(folder=Path("runs/quick") / KEY):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "cost" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def broken(small_home, monkeypatch):
    """The stage failed after the first seed's training: its record could not be filled."""
    finetune.main(PARAMS, KEY)
    expected = outputs()
    shutil.rmtree("runs")
    shutil.rmtree("checkpoints")

    def fails(*_):
        raise DataError("record.json: a fault that no preflight saw")

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "training_record", fails)
        with pytest.raises(
            DataError, match=r"no preflight saw. Training is complete and its adapter is kept in (\S+):"
        ) as e:
            finetune.main(PARAMS, KEY)
    kept = Path(re.search(r"is kept in (\S+):", str(e.value))[1])
    return expected, kept


def no_training(monkeypatch, seed):
    real = finetune.fit

    def fit(*arguments, **named):
        assert named["seed"] != seed, "trained a second time"
        return real(*arguments, **named)

    monkeypatch.setattr(finetune, "fit", fit)


@pytest.mark.long
def test_finished_seeds_stay_until_predict_has_taken_them(small_home, monkeypatch):
    """Two `dvc repro` at once: the one that cannot lock its repository leaves outputs that the next start removes."""
    finetune.main(PARAMS, KEY)
    expected = outputs()
    shutil.rmtree("runs")
    monkeypatch.setattr(finetune, "fit", lambda *_, **__: pytest.fail("trained a second time"))
    finetune.main(PARAMS, KEY)
    assert outputs() == expected


@pytest.mark.long
def test_a_restart_goes_on_from_the_adapter_and_ends_with_the_same_bytes(broken, monkeypatch):
    expected, kept = broken
    assert (kept / "adapter/adapter_model.safetensors").read_bytes() == expected[
        "adapter/seed-18/adapter_model.safetensors"
    ]
    no_training(monkeypatch, 18)
    finetune.main(PARAMS, KEY)
    assert outputs() == expected
    assert not kept.exists()


@pytest.mark.long
def test_a_correction_of_the_code_costs_no_training_and_the_record_names_the_code_that_trained(
    broken, monkeypatch, capsys
):
    expected, kept = broken
    trained_by = read_json(kept / finetune.OUTCOME)["code_sha256"]
    monkeypatch.setattr("pipelines.shared.experiment.made_by", lambda *_: "f" * 64)
    no_training(monkeypatch, 18)
    finetune.main(PARAMS, KEY)
    assert f"To train again instead, delete {kept}" in capsys.readouterr().out
    codes = [read_record(Path("runs/quick", KEY, f"training/seed-{s}/record.json")).code_sha256 for s in (18, 52)]
    assert codes == [trained_by, "f" * 64]
    name = "adapter/seed-18/adapter_model.safetensors"
    assert outputs()[name] == expected[name]


@pytest.mark.long
def test_other_settings_do_not_take_the_adapter(broken, monkeypatch):
    content = yaml.safe_load(PARAMS.read_text())
    content["experiments"][KEY]["learning_rate"] = 0.001
    write_text(PARAMS, yaml.safe_dump(content))
    trained = []
    real = finetune.fit
    monkeypatch.setattr(finetune, "fit", lambda *a, **named: trained.append(named["seed"]) or real(*a, **named))
    finetune.main(PARAMS, KEY)
    assert trained == [18, 52]


# --- several processes


SHARDING = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}


def torchrun(key, stage="finetune", count=2, **settings):
    root = Path(finetune.__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **settings}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += ["-m", f"pipelines.{stage}", "--params", str(PARAMS), "--experiment", key]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, SHARDING], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize("key", [KEY, "sentiment-weight-lora"])
def test_two_processes_learn_what_one_learns_and_rank_0_alone_writes(small_home, key, settings):
    from safetensors.torch import load_file

    finetune.main(PARAMS, key)
    alone = Path("alone")
    Path("runs/quick", key).rename(alone)
    shutil.rmtree("checkpoints")  # its finished seeds, which the next start would take
    said = torchrun(key, **settings)
    assert said.count("seed 18: dev loss") == 1, "one process speaks"
    together = Path("runs/quick", key)
    assert set(outputs(together)) == set(outputs(alone))
    ours, theirs = (read_record(run / "training/seed-18/record.json") for run in (together, alone))
    assert (ours.conditions.processes, theirs.conditions.processes) == (2, None)
    assert ours.result.tokens_seen == theirs.result.tokens_seen
    assert ours.result.dev_loss == pytest.approx(theirs.result.dev_loss, rel=1e-4)
    assert ours.counts == theirs.counts
    tensors = [load_file(run / "adapter/seed-18/adapter_model.safetensors") for run in (together, alone)]
    assert tensors[0].keys() == tensors[1].keys()
    for name, value in tensors[0].items():
        assert value.numpy() == pytest.approx(tensors[1][name].numpy(), abs=2e-3), name
    assert not [path for path in Path().rglob("*") if path.name.startswith(".") and path.is_dir()], "no torn folder"

    said = torchrun(key, "predict")
    assert said.count("seed 18: 6 predictions") == 1, "the stage runs once"
    assert json.loads((together / "predictions/decoding.json").read_text())["gold"]


@pytest.mark.slow
def test_a_batch_that_the_processes_cannot_share_is_refused_before_any_work(small_home):
    content = yaml.safe_load(PARAMS.read_text())
    content["tasks"]["sentiment"]["training"]["batch_size"] = 3
    write_text(PARAMS, yaml.safe_dump(content))
    with pytest.raises(AssertionError, match="batch_size 3 must be a multiple of 2 processes"):
        torchrun(KEY)
    assert not Path("runs/quick", KEY).exists()


@pytest.mark.long
def test_finished_seeds_and_predictions_of_old_code_are_discarded_with_a_word(small_home, monkeypatch, capsys):
    """Killed after the first seed, then the code changed: nothing of the old code enters the new results."""

    def dies(stage, name):
        real = getattr(stage, name)

        def second(*given, **named):
            if 52 in (*given, named.get("seed")):
                raise KeyboardInterrupt
            return real(*given, **named)

        return second

    changed = {"finetune": "a" * 64, "predict": "b" * 64}
    for stage, name in ((finetune, "fit"), (predict, "predict")):
        with monkeypatch.context() as patch:
            patch.setattr(stage, name, dies(stage, name))
            with pytest.raises(KeyboardInterrupt):
                stage.main(PARAMS, KEY)
        capsys.readouterr()
        monkeypatch.setattr("pipelines.shared.experiment.made_by", lambda _, stage, *__: changed[stage])
        stage.main(PARAMS, KEY)
        said = capsys.readouterr().out
        assert f"{KEY}: checkpoints/quick/{KEY}/{stage.__name__.rpartition('.')[2]}/seed-18-" in said
        assert "discarded: made with other settings, data, code or versions" in said
        assert "earlier run" not in said
        monkeypatch.undo()
        monkeypatch.chdir(small_home)
    codes = [read_record(Path("runs/quick", KEY, f"training/seed-{s}/record.json")).code_sha256 for s in (18, 52)]
    assert codes == ["a" * 64] * 2
    assert read_json(Path("runs/quick", KEY, "predictions/decoding.json"))["code_sha256"] == "b" * 64


@pytest.mark.slow
def test_a_signal_and_a_full_disk_on_the_way_change_no_byte(small_home, monkeypatch):
    """Both end the stage at a moment of their own; the next start goes on from the checkpoint."""
    finetune.main(PARAMS, KEY)
    expected = outputs()
    shutil.rmtree("runs")
    shutil.rmtree("checkpoints")
    choose = loop.indices_of_step

    def signalled(step, *given):
        if step == 3:
            signals.take(signal.SIGTERM)
        return choose(step, *given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "indices_of_step", signalled)
        with pytest.raises(Stopped, match=r"SIGTERM \(checkpoint of step 3 written\); run the same command again"):
            finetune.main(PARAMS, KEY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # bytes of a file: the next checkpoint has more
    try:
        with pytest.raises(OSError) as caught:
            finetune.main(PARAMS, KEY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert re.fullmatch(r"checkpoints/\S+/step-00000004: there is no space left; .*", system_fault(caught.value))
    started = []
    load = loop.load_checkpoint
    monkeypatch.setattr(loop, "load_checkpoint", lambda *given: started.append(load(*given)) or started[-1])
    finetune.main(PARAMS, KEY)
    assert [start and start.step for start in started] == [3, None]
    assert outputs() == expected
