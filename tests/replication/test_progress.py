"""Progress bars and plain lines."""

import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.progress import progress_bar


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
