"""HTML from templates: cells, columns and figures as a page shows them.

A page loads nothing: its style is inside, no request is made, and of scripts one may run, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.load.paper_files import letter, meaning
from analysis.show.blocks import Block, Cell, is_numeric, sort_value
from analysis.show.drawing import FONTS, GROUND, INK, Drawing
from replication.fileio import sha256_bytes

TEMPLATES = Path(__file__).parent / "templates"
WIDE = 48  # characters from which a column gets room


def render(template: str, base: str = "", **values: Any) -> str:
    """A template with the pages' style and their one script; `base` leads from its page to the report's folder."""
    text = _environment().get_template(template).render(base=base, **values)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("analysis.show"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "tied": tied, "cell": cell_html, "columns": column_classes, "sorted_by": sort_attribute, "svg": inline_svg,
    }  # fmt: skip
    style, script = (_read(name) for name in ("style.css", "sort.js"))
    environment.globals |= {"style": Markup(style), "script": Markup(script), "policy": Markup(policy(script))}
    return environment


def policy(script: str) -> str:
    """The page's policy: no request at all, and of scripts the one with this text, by its hash."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def cell_html(text: str) -> Markup:
    """A cell's text with its marks: best of its column, standing of a published figure."""
    shown = escape(tied(text))
    if not isinstance(text, Cell):
        return shown
    if text.best:
        shown = Markup('<strong class="best">{}<span class="hidden"> (best)</span></strong>').format(shown)
    if text.standing:
        mark = Markup('<abbr title="{}">{}<sup>{}</sup></abbr>')
        shown = mark.format(meaning(text.standing), shown, letter(text.standing))
    return shown


def column_classes(block: Block) -> list[Markup]:
    """Each column's alignment as an attribute: numbers to the right, text (t) to the left, long text (w) with room."""
    kinds = ["", *(_kind(block, index) for index in range(1, len(block.headers)))]
    return [Markup(f' class="{kind}"') if kind else Markup() for kind in kinds]


def _kind(block: Block, index: int) -> str:
    if max((len(row[index]) for row in block.rows), default=0) > WIDE:
        return "w"  # also where numbers are listed for many tasks
    return "" if is_numeric(block, index) else "t"


def sort_attribute(text: str) -> Markup:
    """`data-v` for a number whose unit changes its order (kB and MB): the column's sort key."""
    value = sort_value(text)
    plain = sort_value(text.split(" ")[0] if not text.startswith("≈") else text)
    return Markup() if value is None or value == plain else Markup(f' data-v="{value:.6g}"')


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


def tied(text: str) -> str:
    """Table text that breaks between a value and its spread, never inside either."""
    for loose, fast in (
        ("± ", "±\u00a0"),
        (" to ", " to\u00a0"),
        (" %", "\u00a0%"),
        (" kFLOP", "\u00a0kFLOP"),
        (" MFLOP", "\u00a0MFLOP"),
        (" GFLOP", "\u00a0GFLOP"),
        (" TFLOP", "\u00a0TFLOP"),
        (" PFLOP", "\u00a0PFLOP"),
        ("≈ ", "≈\u00a0"),
        ("ROUGE-L", "ROUGE\u2011L"),
    ):
        text = text.replace(loose, fast)
    return text


def inline_svg(drawing: Drawing) -> Markup:
    """A figure for the page: unique ids, ink in the page's text colour, a title and a description."""
    svg = drawing.svg[drawing.svg.index("<svg") :]
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = svg.replace(f"font-family: {FONTS}; ", "").replace(f" {FONTS}", " sans-serif")  # the page's style names them
    prefix = "f" + sha256_bytes(drawing.name.encode())[:6]  # short: every marker and line names it
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = svg.replace(INK, "currentColor").replace(f"fill: {GROUND}", "fill: var(--paper)")
    title, description = (Markup.escape(text) for text in (drawing.title, drawing.alternative))
    named = f'role="img" aria-labelledby="{prefix}-title" aria-describedby="{prefix}-desc"'
    inside = f'<title id="{prefix}-title">{title}</title>\n<desc id="{prefix}-desc">{description}</desc>'
    return Markup(re.sub(r"<svg ([^>]*)>", lambda tag: f"<svg {named} {tag[1]}>\n{inside}", svg, count=1))
