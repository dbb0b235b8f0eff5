import csv
import io
import re
import shutil
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analysis.judge.number_format import format_count, format_score
from analysis.show.blocks import (
    Block,
    Cell,
    csv_text,
    escape_latex,
    is_numeric,
    sort_value,
    to_csv,
    to_latex,
    to_markdown,
    told_once,
)
from analysis.stats.seeds import SeedSummary

PRINTED = Block(
    "Published & measured, 59 % fewer",
    ("Method", "BLEU", "Note"),
    (("LoRA_4", Cell("0.704 ± 0.001", standing="paper", best=True), "read → twice"),
     ("Solo ≈ k=2", Cell("0.6?", standing="unreadable"), "a note that is much longer than a column may be, †")),
    ("One note: £5 < 10 |x| “quoted”.",),
    key="published",
)  # fmt: skip


def test_a_cell_is_its_text_and_knows_more():
    cell = Cell("0.5", best=True, standing="paper")
    assert cell == "0.5"
    assert cell.startswith("0.")
    assert (cell.best, cell.standing) == (True, "paper")
    assert (Cell("x").best, Cell("x").standing) == (False, None)


@given(st.integers(0, 10**12))
def test_counts_sort_by_what_they_count(count):
    assert sort_value(format_count(count)) == count


@given(st.floats(0, 99), st.floats(0.001, 5))
def test_scores_sort_by_their_mean(mean, spread):
    text = format_score(SeedSummary(mean, spread, 3))
    assert sort_value(text) == float(text.split(" ")[0])
    assert sort_value(f"≈ {text}") == sort_value(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("912 MB", 912e6), ("1.3 GB", 1.3e9), ("618 GFLOP", 618e9), ("0 FLOP", 0), ("1,363 s", 1363), ("−0.189", -0.189),
     ("+0.2 to +0.3", 0.2), ("66.0 %", 66), ("not measured", None), ("", None), ("one seed", None), ("0.35M", 0.35)],
)  # fmt: skip
def test_a_cell_sorts_by_its_first_number_in_its_unit(text, value):
    assert sort_value(text) == value


@given(st.lists(st.sampled_from(["", "rule a", "rule b"]), max_size=6))
def test_a_rule_stands_under_the_first_table_that_has_it(rules):
    blocks = [
        Block(f"t{number}", ("a",), (("1",),), rules=tuple(filter(None, [rule]))) for number, rule in enumerate(rules)
    ]
    shown = [rule for block in told_once(blocks) for rule in block.rules]
    assert shown == [rule for rule in dict.fromkeys(rules) if rule]
    text = to_markdown(blocks)
    assert all(text.count(f"- {rule}") == 1 for rule in shown)
    assert [to_markdown([block]).count("- rule") for block in blocks] == [int(bool(rule)) for rule in rules]


def test_columns_of_numbers_are_told_from_text():
    block = Block(
        "x", ("a", "b", "c"), (("m", "1", "first"), ("n", "not run", "2 seeds of 3 that were run twice each"))
    )
    assert [is_numeric(block, index) for index in range(3)] == [False, True, False]
    marked = Block("x", ("a", "b"), (("m", "0.000 ± 0.000 (one class in every seed)"), ("n", "not run")))
    assert is_numeric(marked, 1)


def test_standings_and_bests_are_seen_in_every_form():
    markdown, latex = to_markdown([PRINTED]), to_latex([PRINTED])
    assert "**0.704 ± 0.001** <sup>p</sup>" in markdown
    assert "p = read in the paper; x = unreadable" in markdown
    assert r"\textbf{0.704 $\pm$ 0.001}\textsuperscript{p}" in latex
    first, second = list(csv.DictReader(io.StringIO(to_csv(PRINTED))))
    assert (first["BLEU"], first["standing"]) == ("0.704 ± 0.001", "BLEU: paper")
    assert second["standing"] == "BLEU: unreadable"
    assert "standing" not in to_csv(Block("x", ("a",), (("1",),)))


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=40))
@example("one\ntwo")
def test_markdown_cells_cannot_break_the_table(text):
    block = Block("x", ("a", "b"), ((text, "y"),))
    line = to_markdown([block]).split("\n")[4]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3


@pytest.mark.parametrize(
    ("text", "written"),
    [("=1+1", "'=1+1"), ("@sum", "'@sum"), ("+cmd", "'+cmd"), ("-x", "'-x"), ("−0.01", "−0.01"), ("-0.5", "-0.5"),
     ("+0.007 BLEU", "+0.007 BLEU"), ("LoRA", "LoRA"), ("", ""),
     ("-1+cmd|' /C x'!A0", "'-1+cmd|' /C x'!A0"), ("+1+SUM(1)", "'+1+SUM(1)"),
     ("＝1+1", "'＝1+1"), ("+0.5 (r=8)", "+0.5 (r=8)"), ("-0.1 ± 0.2", "-0.1 ± 0.2")],
)  # fmt: skip
def test_no_cell_of_a_csv_is_a_formula(text, written):
    assert next(csv.DictReader(io.StringIO(to_csv(Block("x", ("a",), ((text or "x",),))))))["a"] == (written or "x")
    assert next(csv.DictReader(io.StringIO(csv_text([{"a": text, "b": 1}]))))["a"] == written
    assert next(csv.reader(io.StringIO(to_csv(Block("x", (text or "x",), ()))))) == [written or "x"]


@given(st.text(st.sampled_from('ab&%$#_{}~^\\<>|"±≈ 1'), max_size=40))
def test_latex_escapes_every_special_character(text):
    escaped = escape_latex(text)
    named = ["textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "textquotedbl"]
    signs = [r"$\pm$", r"$\approx$", *(f"\\{character}" for character in "&%$#_{}")]
    for command in [*(f"\\{name}{{}}" for name in named), *signs]:
        escaped = escaped.replace(command, "")
    assert re.fullmatch(r"[ab 1]*", escaped)


def test_what_latex_does_not_know_is_never_handed_on():
    assert escape_latex("漢\u2192é") == r"?$\rightarrow$é"
    assert escape_latex("a\0b\x1b[1mc\x7f\x85\td") == "a?b?[1mc?? d"


def test_a_row_that_begins_with_a_bracket_is_no_argument_of_the_line_before():
    lines = to_latex([Block("x", ("*", "b"), (("[0.1, 0.2]", "1"),))]).splitlines()
    assert {r"{}* & b \\", r"{}[0.1, 0.2] & 1 \\"} <= set(lines)


def test_markdown_shows_markup_as_text():
    text = to_markdown([Block("<b>x</b>", ("a",), (("<script>&lt;~~[x](y)",),))])
    assert r"\<script\>&amp;lt;\~\~\[x\](y)" in text
    assert r"\<b\>x\</b\>" in text


@pytest.mark.long
def test_pdflatex_compiles_every_table(tmp_path, project_root):
    """The tables of the synthetic block and of every committed report that has tex files."""
    if shutil.which("pdflatex") is None:
        pytest.skip("not run: no pdflatex here (Debian: apt-get install texlive-latex-recommended)")
    parts = [to_latex([PRINTED])]
    parts += [path.read_text(encoding="utf-8") for path in sorted(project_root.glob("reports/*/tables/*.tex"))]
    body = "\n\\clearpage\n".join(parts)
    document = "\n".join(
        [r"\documentclass{article}", r"\usepackage[T1]{fontenc}", r"\usepackage{booktabs}", r"\usepackage{graphicx}",
         r"\begin{document}", body, r"\end{document}"]
    )  # fmt: skip
    (tmp_path / "all.tex").write_text(document, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=tmp_path, capture_output=True
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output[-3000:]
    assert (tmp_path / "all.pdf").stat().st_size > 1000
    assert "undefined" not in re.sub(r"undefined references", "", output).lower()
