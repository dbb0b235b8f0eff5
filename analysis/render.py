"""From values to HTML: the templates, what they need to show a table, and what the browser may load (nothing)."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.blocks import Block, Cell, is_numeric, sort_value
from analysis.page import tied
from analysis.standings import letter, meaning

TEMPLATES = Path(__file__).parent / "templates"
WIDE = 48  # characters from which a text column gets room


def render(template: str, **values: object) -> str:
    """A template with the page's style and its one script; lines end without spaces."""
    environment = Environment(
        loader=PackageLoader("analysis"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"tied": tied, "cell": cell_html, "column": column_class, "sorted_by": sort_attribute}
    style, script = (_read(name) for name in ("style.css", "sort.js"))
    text = environment.get_template(template).render(
        style=Markup(style), script=Markup(script), policy=Markup(policy(script)), **values
    )
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


def policy(script: str) -> str:
    """The page's policy: no request at all, and of scripts the one with this text, by its hash."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def cell_html(text: str) -> Markup:
    """A cell's text with its marks: best of its column, standing of a printed figure."""
    shown = escape(tied(text))
    if not isinstance(text, Cell):
        return shown
    if text.best:
        shown = Markup('<strong class="best">{}<span class="hidden"> (best)</span></strong>').format(shown)
    if text.standing:
        mark = Markup('<abbr title="{}">{}<sup>{}</sup></abbr>')
        shown = mark.format(meaning(text.standing), shown, letter(text.standing))
    return shown


def column_class(block: Block, index: int) -> Markup:
    """How a column is set: numbers to the right, text (t) to the left, long text (w) with room. As an attribute."""
    name = _kind(block, index) if index else ""
    return Markup(f' class="{name}"') if name else Markup()


@lru_cache(maxsize=1024)
def _kind(block: Block, index: int) -> str:
    if is_numeric(block, index):
        return ""
    return "w" if max((len(row[index]) for row in block.rows), default=0) > WIDE else "t"


def sort_attribute(text: str) -> Markup:
    """`data-v` for a number whose unit changes its place (kB and MB): what the column sorts by."""
    value = sort_value(text)
    plain = sort_value(text.split(" ")[0] if not text.startswith("≈") else text)
    return Markup() if value is None or value == plain else Markup(f' data-v="{value:.6g}"')


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()
