"""Tables ready to be shown, and the same as csv, Markdown and LaTeX.

A cell is text; a `Cell` is text that also knows whether it is the best of its column, which standing its figure has
and by what it sorts. Whoever makes a table may use plain strings throughout."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.load.paper_files import letter, meaning

LONG = 28  # characters from which a LaTeX column is a paragraph
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "≈": r"$\approx$", "×": r"$\times$", "→": r"$\rightarrow$", "−": r"$-$", "≤": r"$\leq$",
    "≥": r"$\geq$", "·": r"$\cdot$", "†": r"\dag{}", "‡": r"\ddag{}", "³": r"$^3$", "²": r"$^2$", "–": "--", "—": "---",
    "£": r"\pounds{}", "€": r"\texteuro{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "“": "``", "”": "''",
    "‘": "`", "’": "'", "…": r"\dots{}", "\u00a0": "~", "\u2011": "-", "✓": "yes", "✗": "no", "≠": r"$\neq$",
    "∞": r"$\infty$", "α": r"$\alpha$", "ω": r"$\omega$", "σ": r"$\sigma$",
}  # fmt: skip
_NUMBER = re.compile(r"[−+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "kFLOP": 1e3, "MFLOP": 1e6, "GFLOP": 1e9, "TFLOP": 1e12,
          "PFLOP": 1e15, "EFLOP": 1e18}  # fmt: skip


class Cell(str):
    """Text of one cell with its marks; equal to its text."""

    best: bool
    standing: str | None

    def __new__(cls, text: str, *, best: bool = False, standing: str | None = None) -> Cell:
        """`best` of its column; `standing` of a published figure, by its name in `paper_results/`."""
        cell = super().__new__(cls, text)
        cell.best = best
        cell.standing = standing
        return cell


@dataclass(frozen=True)
class Block:
    """A table ready to be shown: a caption, headers and rows of text.

    `key` names its files (`tables/<key>.csv`) and anchor on the page; `command` makes it; `records` are the files it
    was made from. `rules` explain marks that several tables share, so a document states each once.
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    key: str = ""
    command: str = ""
    records: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    def named(self, key: str, command: str = "", records: Sequence[str] = ()) -> Block:
        """The same table with its key, its command and the files it was made from."""
        return replace(self, key=key, command=command or self.command, records=tuple(records) or self.records)

    @property
    def standings(self) -> tuple[str, ...]:
        """Standings of the figures shown, in order of appearance."""
        cells = (cell for row in self.rows for cell in row)
        return tuple(dict.fromkeys(cell.standing for cell in cells if isinstance(cell, Cell) and cell.standing))

    @property
    def legend(self) -> tuple[str, ...]:
        """The standings of its figures, as lines below the table in every format."""
        if not self.standings:
            return ()
        named = "; ".join(f"{letter(name)} = {meaning(name)}" for name in self.standings)
        return (f"Standing of a published figure: {named}.",)

    @property
    def lines_below(self) -> tuple[str, ...]:
        """Notes, rules and legend: everything that a table needs on its own."""
        return (*self.notes, *self.rules, *self.legend)


def told_once(blocks: Sequence[Block]) -> list[Block]:
    """The tables, each rule only under the first that has it."""
    seen: set[str] = set()
    kept = []
    for block in blocks:
        kept.append(replace(block, rules=tuple(rule for rule in block.rules if rule not in seen)))
        seen.update(block.rules)
    return kept


def sort_value(text: str) -> float | None:
    """The number that a cell begins with, scaled by its unit: the sort key of a column. None for words."""
    found = _NUMBER.match(text.removeprefix("≈").strip())
    if found is None:
        return None
    number = float(found[0].replace("−", "-").replace(",", ""))
    rest = text.removeprefix("≈").strip()[found.end() :].split()
    return number * _UNITS.get(rest[0], 1.0) if rest else number


def is_numeric(block: Block, column: int) -> bool:
    """Whether most non-empty cells of a column begin with a number and are short, marks in brackets apart."""
    cells = [row[column].partition(" (")[0] for row in block.rows]
    numbers = sum(sort_value(cell) is not None and len(cell) <= LONG for cell in cells)
    words = [cell for cell in cells if cell not in ("not run", "not measured", "unknown", "none", "one seed", "")]
    return numbers > 0 and numbers >= len(words) / 2


def to_csv(block: Block) -> str:
    """The table as it is shown, with a column `standing` where it quotes published figures."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    marked = bool(block.standings)
    writer.writerow([*map(no_formula, block.headers), *(["standing"] if marked else [])])
    for row in block.rows:
        named = [
            f"{header}: {cell.standing}"
            for header, cell in zip(block.headers, row, strict=True)
            if isinstance(cell, Cell) and cell.standing
        ]
        writer.writerow([*map(no_formula, map(str, row)), *(["; ".join(named)] if marked else [])])
    return buffer.getvalue()


def to_markdown(blocks: Sequence[Block]) -> str:
    """Blocks one below the other, each under its caption."""
    parts = []
    for block in told_once(blocks):
        lines = [f"**{_md(block.caption)}**", "", _md_row(block.headers), "|" + " --- |" * len(block.headers)]
        lines += [_md_row(row) for row in block.rows]
        if block.lines_below:
            lines += ["", *(f"- {_md(note)}" for note in block.lines_below)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def to_latex(blocks: Sequence[Block]) -> str:
    r"""One `table` per block, no wider than the text; needs booktabs, graphicx and \usepackage[T1]{fontenc}."""
    parts = ["% needs \\usepackage{booktabs}, \\usepackage{graphicx} and \\usepackage[T1]{fontenc}"]
    for block in told_once(blocks):
        columns = "".join(_tex_column(block, index) for index in range(len(block.headers)))
        lines = [r"\begin{table}", r"\centering\small", rf"\caption{{{escape_latex(block.caption)}}}"]
        lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
        lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _tex_row(block.headers), r"\midrule"]
        lines += [_tex_row(row) for row in block.rows]
        lines += [r"\bottomrule", r"\end{tabular}}"]
        lines += [rf"\par\smallskip\footnotesize\raggedright {escape_latex(note)}" for note in block.lines_below]
        parts.append("\n".join([*lines, r"\end{table}"]))
    return "\n\n".join(parts) + "\n"


def escape_latex(text: str) -> str:
    """Text in which no character has a meaning to LaTeX, and none that pdflatex does not know."""
    text = " ".join(re.split(r"[\r\n\t]", text))
    return "".join(_TEX.get(character, character if _known_to_tex(character) else "?") for character in text)


def _known_to_tex(character: str) -> bool:
    return " " <= character < "\x7f" or "\xa0" <= character < "\u0180"


def csv_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Records with the same keys as csv with a header; nothing for no records."""
    if not records:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: no_formula(value) for key, value in record.items()} for record in records)
    return buffer.getvalue()


# A signed number is none, unless it calls a function or, as in `-1+cmd|' /C x'!A0`, a program.
_FORMULA = re.compile(r"[=@\t\r\n＝＠＋－]|[+-](?![\d.∞])|[+-].*(?:[|!]|\w\()", re.DOTALL)


def no_formula(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula, with the apostrophe that makes it text."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _md(text: str) -> str:
    text = " ".join(text.split()) if "\n" in text or "\r" in text else text  # a newline would end a table's row
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    for character in "\\`*_[]<>|~":
        text = text.replace(character, "\\" + character)
    return text


def _md_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_md_cell(cell) for cell in cells) + " |"


def _md_cell(cell: str) -> str:
    text = _md(cell)
    if isinstance(cell, Cell):
        text = f"**{text}**" if cell.best else text
        text += f" <sup>{letter(cell.standing)}</sup>" if cell.standing else ""
    return text


def _tex_column(block: Block, index: int) -> str:
    longest = max((len(row[index]) for row in block.rows), default=0)
    if longest > LONG:
        return f"p{{{min(11, longest // 8)}cm}}"
    return "r" if index and is_numeric(block, index) else "l"


def _tex_row(cells: Sequence[str]) -> str:
    row = " & ".join(_tex_cell(cell) for cell in cells) + r" \\"
    return "{}" + row if row.startswith(("[", "*")) else row  # the line before would take it for its argument


def _tex_cell(cell: str) -> str:
    text = escape_latex(cell)
    if isinstance(cell, Cell):
        text = rf"\textbf{{{text}}}" if cell.best else text
        text += rf"\textsuperscript{{{letter(cell.standing)}}}" if cell.standing else ""
    return text
