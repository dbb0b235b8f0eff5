import sys

from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from replication.terminal import console, examples, examples_in, sparkline, working

commands = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1).map(lambda t: f"replicate {t}")


@given(st.lists(commands, min_size=1, max_size=4))
def test_examples_are_read_back(lines):
    assert examples_in(examples(*lines)) == [line.strip() for line in lines]


def test_a_long_example_is_broken_as_a_shell_takes_it():
    text = examples("replicate predict --adapter A\n--mr 'name[X]'")
    assert "A \\\n" in text
    assert examples_in(text) == ["replicate predict --adapter A --mr 'name[X]'"]


@given(st.lists(st.floats(-1e6, 1e6), max_size=200), st.integers(1, 40))
def test_a_sparkline_has_a_character_a_part_and_both_ends_of_the_scale(values, width):
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    assert set(line) <= set("▁▂▃▄▅▆▇█")
    if len(set(values)) > 1 and len(values) <= width:
        assert {line[values.index(min(values))], line[values.index(max(values))]} == {"▁", "█"}


def test_a_sign_of_life_is_on_stderr_and_only_on_a_terminal(capsys, monkeypatch):
    with working("reading") as say:
        say("more")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with working("reading [x]"):
        pass
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "reading [x]" in shown.err


def test_nothing_that_is_printed_steers_the_terminal(capsys):
    evil = "a\x1b[2Jb\u202ec"
    table = Table(evil)
    table.add_row(Text(evil), style="bold")
    out = console()
    for shown in (evil, Text(evil, style="bold"), table):
        out.print(shown)
    text = capsys.readouterr().out
    assert text.count("a\ufffd[2Jb\ufffdc") == 4
    assert not set("\x1b\u202e") & set(text)
