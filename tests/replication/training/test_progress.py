"""Progress bars and plain lines."""

import io
import json
import re
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import replication.training.progress as progress
from replication.training.progress import progress_bar


@given(total=st.integers(1, 200), jumps=st.lists(st.integers(1, 50), max_size=20), completed=st.integers(0, 50))
def test_without_a_terminal_each_tenth_is_one_plain_line(total, jumps, completed):
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        with progress_bar("pretrain", total, completed=completed) as advance:
            for jump in jumps:
                advance(jump, loss=1.25)
    shares = [int(share) for share in re.findall(r"\((\d+) %\)", stream.getvalue())]
    assert shares == sorted(set(shares))
    assert len(stream.getvalue().splitlines()) == len(shares) <= 10
    done = completed + sum(jumps)
    if done // (total / 10) > completed // (total / 10) and completed < total:
        assert shares[-1] == min(10, 10 * done // total) * 10
        assert "loss 1.25" in stream.getvalue()


def test_on_a_terminal_a_bar_with_its_figures_goes_to_stderr(capsys):
    with progress_bar("fine-tune [lora] seed 18", 3, terminal=True) as advance:
        advance(3, loss=2.34567, tokens_per_second=900)
    written = capsys.readouterr()
    assert "fine-tune [lora] seed 18" in written.err
    assert "3/3" in written.err
    assert "loss 2.346 tokens per second 900" in written.err
    assert written.out == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_passes_through_and_no_description_is_silent(terminal, capsys):
    with progress_bar(None, 2, terminal=terminal) as advance:
        advance(1, loss=1.0)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(KeyError), progress_bar("x", 0, terminal=terminal):
        raise KeyError


@pytest.fixture
def clock(monkeypatch):
    """The time that replication.training.progress reads; tests move it."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "cell.progress.json"
    monkeypatch.setenv(progress.PROGRESS_VARIABLE, str(path))
    return path


@pytest.mark.parametrize("terminal", [True, False])
def test_a_progress_file_takes_the_place_of_bar_and_lines(file, clock, terminal, capsys):
    with progress_bar("fine-tune lora, seed 18", 10, completed=2, terminal=terminal) as advance:
        assert json.loads(file.read_text())["step"] == 2
        clock.seconds = 4.0
        advance(2, loss=2.5, kept="query")
        assert json.loads(file.read_text()) == {
            "title": "fine-tune lora, seed 18",
            "step": 4,
            "total": 10,
            "figures": {"loss": 2.5, "kept": "query"},
            "seconds_left": 12.0,  # two steps took four seconds, six are left
        }
    assert capsys.readouterr() == ("", "")
    assert list(file.parent.iterdir()) == []  # neither the file nor a half-written one stays


def test_a_progress_file_is_written_at_most_once_a_second(file, clock):
    seen = []
    with progress_bar("x", 100) as advance:
        for tick in range(1, 51):
            clock.seconds = tick / 10
            advance()
            seen.append(json.loads(file.read_text())["step"])
    assert sorted(set(seen)) == [0, 10, 20, 30, 40, 50]


def test_a_silent_step_writes_no_progress_file(file):
    with progress_bar(None, 3) as advance:
        advance(1, loss=1.0)
        assert not file.exists()


@pytest.mark.parametrize("broken", ["folder is missing", "file is a folder"])
def test_a_progress_file_that_cannot_be_written_disturbs_nothing(tmp_path, monkeypatch, clock, broken):
    path = tmp_path / "absent" / "file.json"
    if broken == "file is a folder":
        path = tmp_path / "folder"
        (path / "inside").mkdir(parents=True)
    monkeypatch.setenv(progress.PROGRESS_VARIABLE, str(path))
    steps = 0
    with progress_bar("x", 3) as advance:
        for _ in range(3):
            clock.seconds += 2
            advance(1, loss=1.0)
            steps += 1
    assert steps == 3
    assert not (tmp_path / "absent").exists()


def test_a_figure_that_json_cannot_hold_is_text(file, clock):
    class Odd:
        def __str__(self):
            return "odd"

    with progress_bar("x", 3) as advance:
        clock.seconds = 2.0
        advance(1, loss=float("nan"), other=Odd())
        assert json.loads(file.read_text())["figures"] == {"loss": "nan", "other": "odd"}


def test_an_error_passes_through_a_progress_file(file):
    with pytest.raises(KeyError), progress_bar("x", 3):
        raise KeyError
    assert not file.exists()
