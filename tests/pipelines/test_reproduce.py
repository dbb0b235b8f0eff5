from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipelines.reproduce as reproduce
from pipelines.corpus_readiness import unobtainable_tasks
from pipelines.settings import load_settings
from replication.errors import ReplicationError
from replication.fileio import write_json


@given(work=st.dictionaries(st.text(min_size=1), st.floats(0.1, 9), max_size=20), jobs=st.integers(1, 6))
def test_every_stage_is_dealt_once_and_evenly(work, jobs):
    dealt = reproduce.shares(work, jobs)
    assert sorted(stage for share in dealt for stage in share) == sorted(work)
    assert len(dealt) == min(jobs, len(work))
    loads = [sum(work[stage] for stage in share) for share in dealt]
    assert not dealt or max(loads) - min(loads) <= max(work.values()) + 1e-9


@pytest.mark.parametrize("file", ["params.yaml", "pipelines/cpu/params.yaml", "pipelines/paper/params.yaml"])
def test_the_waves_reach_every_stage(project_root, file):
    settings = load_settings(project_root / file)
    sources, last = set(reproduce.sources(settings)), reproduce.experiments(settings)
    assert all(length > 0 for length in {**reproduce.sources(settings), **last}.values())
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
        reproduce.run_wave(Path("dvc.yaml"), {"bad": 1, "good": 1}, 2, keep_going=False)
    assert (tmp_path / "good").exists()
    reproduce.run_wave(Path("dvc.yaml"), {"bad": 1, "good": 1}, 2, keep_going=True)


def test_a_task_that_cannot_be_had_is_left_out_and_the_report_made(monkeypatch, tmp_path, project_root, capsys):
    """No address serves the SQuAD subset: without its file the other cells run and the committed ones are reported."""
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    ran, waves = [], []
    monkeypatch.setattr(reproduce, "run_wave", lambda file, wave, jobs, keep_going: waves.extend(wave))
    monkeypatch.setattr(
        reproduce.subprocess, "run", lambda command, check: ran.append(command) or SimpleNamespace(returncode=0)
    )
    reproduce.main(project_root / "pipelines/cpu/params.yaml", jobs=1, keep_going=False)
    said = capsys.readouterr()
    assert "left out: squad-part" in said.out + said.err
    assert "squad-v1-train-subset.jsonl" in said.out + said.err
    assert not [stage for stage in waves if "squad-part" in stage]
    assert any("stsb-lora" in stage for stage in waves)
    assert ran[0][-2:] == ["--single-item", "pipelines/cpu/dvc.yaml:report"]


def test_a_prepared_task_is_never_left_out(monkeypatch, tmp_path, project_root):
    monkeypatch.delenv("REPLICATION_MIRROR", raising=False)
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path / "cache"))
    settings = load_settings(project_root / "pipelines/cpu/params.yaml")
    assert list(unobtainable_tasks(settings, tmp_path)) == ["squad-part"]
    write_json(tmp_path / "prepared" / "cpu" / "squad-part" / "corpus.json", {})
    assert unobtainable_tasks(settings, tmp_path) == {}
    left = reproduce.without_tasks(settings, ["squad-part"])
    assert set(settings.experiments) - set(left.experiments) == {
        key for key, entry in settings.experiments.items() if entry.task == "squad-part"
    }
