"""Trackers get the rows of the curves, in their own folders, and change nothing else."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from replication.errors import ConfigError
from replication.examples import Encoded
from replication.training import tracking
from replication.training.config import TrainingConfig
from replication.training.loop import train
from replication.training.tracking import TRACKERS, Track, check_trackers

EXAMPLES = [Encoded([1 + (start + i) % 30 for i in range(6)], [0] + [1] * 5) for start in range(8)]
CONFIG = TrainingConfig(steps=4, warmup_steps=1, learning_rate=0.01, batch_size=4, log_every=1, eval_every=2, threads=1)


def run(track, folder=None, report=None):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=31, n_positions=16, n_embd=8, n_layer=1, n_head=1))
    config = replace(CONFIG, checkpoint_every=1)
    options = {"checkpoint_directory": folder, "report_state": report}
    return train(model, EXAMPLES, EXAMPLES[:3], config, seed=1, pad_id=0, track=track, **options)


def rows_of_dvclive(folder, name):
    lines = [line.split("\t") for line in (folder / f"dvclive/plots/metrics/{name}.tsv").read_text().splitlines()]
    return {int(dict(zip(lines[0], row, strict=True))["step"]): float(row[lines[0].index(name)]) for row in lines[1:]}


def rows_of_tensorboard(folder, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def test_every_row_reaches_every_tracker_a_restart_goes_on_and_no_repository_changes(tmp_path, monkeypatch):
    """In a repository of git and DVC, as `dvc repro` starts a stage."""
    for name in TRACKERS:
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    subprocess.run(["dvc", "init", "-q"], check=True)
    Path(".gitignore").write_text("logs\ncheckpoint\n")
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "start")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    before = git("status", "--porcelain"), git("for-each-ref"), git("stash", "list")
    track = Track(TRACKERS, Path("logs/seed-1"))

    def stopping(model):
        if Path("checkpoint/step-00000002").exists():
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        run(track, Path("checkpoint"), stopping)
    result = run(track, Path("checkpoint"))
    assert result.resumed_from == 2
    assert result.curves == run(None).curves, "a tracker changes nothing"
    for rows in (rows_of_dvclive, rows_of_tensorboard):
        for name in ("loss", "dev_loss", "learning_rate"):
            expected = {row["step"]: row[name] for row in result.curves if row[name] is not None}
            assert rows(track.directory, name) == pytest.approx(expected, rel=1e-6), name
    assert (git("status", "--porcelain"), git("for-each-ref"), git("stash", "list")) == before
    assert sorted(path.name for path in track.directory.iterdir()) == sorted(TRACKERS)


def test_a_tracker_that_is_not_known_or_not_installed_is_refused(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"track: 'wandb' is no tracker; valid names are dvclive, tensorboard"):
        check_trackers(["wandb"])
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"install -c constraints\.txt tensorboard$"):
        Track(("tensorboard",), tmp_path)
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: name)
    monkeypatch.chdir(tmp_path)
    Path(".git").mkdir()
    with pytest.raises(ConfigError, match=f"dvclive would make {tmp_path} a DVC repository"):
        Track(("dvclive",), tmp_path)
