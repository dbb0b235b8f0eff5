"""Which process writes, and stages that run once; two real processes are in tests/pipelines/test_finetune.py."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from pipelines.shared import processes
from pipelines.shared.stage import say
from replication.errors import ConfigError


@pytest.fixture
def among(monkeypatch):
    """This process as one of two."""

    def at(rank):
        for name, value in {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}.items():
            monkeypatch.setenv(name, value)

    return at


def test_one_process_writes_speaks_and_agrees_with_itself(monkeypatch, capsys):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (processes.rank(), processes.count(), processes.writes()) == (0, 1, True)
    assert processes.agreed((True, "a")) == (True, "a")
    say("text")
    assert capsys.readouterr().out == "text\n"


def test_of_two_processes_rank_0_writes_and_speaks(among, capsys):
    among(1)
    say("text")
    assert (processes.writes(), capsys.readouterr().out) == (False, "")
    among(0)
    assert (processes.writes(), processes.count()) == (True, 2)


def test_a_stage_that_runs_once_goes_on_alone_in_rank_0_and_ends_in_the_others(among):
    among(1)
    with pytest.raises(SystemExit) as ended:
        processes.run_once()
    assert ended.value.code == 0
    among(0)
    processes.run_once()
    assert "WORLD_SIZE" not in os.environ
    assert processes.count() == 1


def test_processes_that_do_not_find_each_other_do_not_train_alone(among, monkeypatch):
    import accelerate

    among(0)
    monkeypatch.setattr(accelerate, "PartialState", lambda **_: SimpleNamespace(num_processes=1))
    with pytest.raises(ConfigError, match="WORLD_SIZE=2, but 1 process takes part"):
        processes.join()
