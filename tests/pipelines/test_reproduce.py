from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipelines.reproduce as reproduce
from pipelines.settings import load_settings
from replication.errors import ReplicationError


@given(wave=st.lists(st.text(min_size=1), unique=True, max_size=20), jobs=st.integers(1, 6))
def test_every_stage_is_dealt_once_and_evenly(wave, jobs):
    dealt = reproduce.shares(wave, jobs)
    assert sorted(stage for share in dealt for stage in share) == sorted(wave)
    assert len(dealt) == min(jobs, len(wave))
    assert not dealt or max(map(len, dealt)) - min(map(len, dealt)) <= 1


@pytest.mark.parametrize("file", ["params.yaml", "pipelines/cpu/params.yaml", "pipelines/paper/params.yaml"])
def test_the_waves_reach_every_stage(project_root, file):
    settings = load_settings(project_root / file)
    sources, last = set(reproduce.sources(settings)), reproduce.experiments(settings)
    assert sources == {f"pretrain@{key}" for key in settings.backbones} | {f"prepare@{key}" for key in settings.tasks}
    assert sorted(last) == sorted(f"finetune@{key} predict@{key} score@{key}" for key in settings.experiments)


def test_commands_name_the_profile_of_a_linked_dvc_file():
    own = reproduce.command(Path("dvc.yaml"), ["score@lora"], False)
    other = reproduce.command(Path("pipelines/cpu/dvc.yaml"), ["score@lora"], True)
    assert own == [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", "score@lora"]
    assert other[-2:] == ["--keep-going", "pipelines/cpu/dvc.yaml:score@lora"]
    several = reproduce.command(Path("dvc.yaml"), ["finetune@a score@a", "score@b"], False)
    assert several[-3:] == ["finetune@a", "score@a", "score@b"]


def test_the_command_is_one_that_dvc_understands():
    from dvc.cli import parse_args

    parsed = parse_args(reproduce.command(Path("dvc.yaml"), ["score@lora"], True)[3:])
    assert parsed.targets == ["score@lora"]
    assert parsed.wait_for_lock
    assert parsed.single_item
    assert parsed.on_error == "keep-going"


def test_a_failed_share_is_named_after_the_others_have_ended(monkeypatch, tmp_path):
    def stand_in(file, stages, keep_going):
        program = "import sys, pathlib; pathlib.Path(sys.argv[1]).touch(); sys.exit('bad' in sys.argv[2:])"
        return [sys.executable, "-c", program, str(tmp_path / stages[0]), *stages]

    monkeypatch.setattr(reproduce, "command", stand_in)
    with pytest.raises(ReplicationError, match="bad"):
        reproduce.run_wave(Path("dvc.yaml"), ["bad", "good"], 2, keep_going=False)
    assert (tmp_path / "good").exists()
    reproduce.run_wave(Path("dvc.yaml"), ["bad", "good"], 2, keep_going=True)
