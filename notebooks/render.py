"""Run every notebook and write it as one self-contained HTML page, and README.md as their index: `make notebooks`.

    python notebooks/render.py [--output reports/notebooks] [NAME ...]

Pages load nothing from the network: pictures are embedded, formulas (`$...$`, `$$...$$`) become MathML, which browsers
draw themselves, and the scripts that nbconvert's template would fetch (MathJax, require.js, mermaid) are left out.
Links to notebooks become links to their pages. The committed notebooks stay stripped.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from strip import FOLDER, notebooks

from replication.fileio import write_text

ROOT = FOLDER.parent
INDEX = FOLDER / "README.md"
SECONDS = 600  # for one cell; a notebook takes about half a minute on two idle cores
FETCHED = re.compile(
    r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)\s*=\s*[\"']?(?:https?:)?//[^>]*>|import\(?\s*[\"']https?:"
)

MARK = "MathMLOf{:03d}"
PARTS = re.compile(  # code comes first: a dollar in it is a dollar
    r"(?P<code>```.*?```|`[^`\n]*`)|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+)\$"
    r"|\]\((?P<link>[\w./]+)\.(?:ipynb|md)\)",
    re.DOTALL,
)


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook at `path`, run from top to bottom in its own folder, with outputs."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    )
    return client.execute()


def linked(markdown: str, formulas: list[str]) -> str:
    """Markdown whose links lead to rendered pages, and with a mark for each formula, whose MathML `formulas` gets.

    Code is left alone. A mark, since nbconvert closes every inline tag where it stands. ValueError for a formula that
    has no MathML.
    """

    def converted(found: re.Match[str]) -> str:
        if found["code"]:
            return found["code"]
        if found["link"]:
            return f"]({found['link'].replace('README', 'index')}.html)"
        display = "block" if found["block"] else "inline"
        formula = (found["block"] or found["inline"]).strip()
        try:
            formulas.append(convert(formula, display=display))
        except Exception as error:  # the converter has no common error
            raise ValueError(f"no MathML for ${formula}$: {type(error).__name__}") from error
        return MARK.format(len(formulas) - 1)

    return PARTS.sub(converted, markdown)


def page(notebook: nbformat.NotebookNode, title: str) -> str:
    """One HTML page; ValueError if it would fetch anything from the network."""
    notebook, formulas = copy.deepcopy(notebook), list[str]()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, formulas)
    exporter = HTMLExporter(
        template_name="lab", embed_images=True, mathjax_url="", require_js_url="", mermaid_js_url=""
    )
    html, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    for number, formula in enumerate(formulas):
        html = html.replace(MARK.format(number), formula)
    html = html.replace("</head>", "<style>math { font-size: 1.15em }</style></head>", 1)
    for text in descriptions(notebook):  # the template does not hand on what `show` wrote
        html = html.replace('alt="No description has been provided for this image"', f'alt="{escape(text)}"', 1)
    html = re.sub(r"<script[^>]*>(?:(?!</script>).)*https?://(?:(?!</script>).)*</script>", "", html, flags=re.DOTALL)
    html = re.sub(r"<script[^>]*\bsrc\s*=\s*(?:\"\"|'')[^>]*>\s*</script>", "", html)
    if found := FETCHED.search(html):
        raise ValueError(f"{title}: the page would load from the network: {found.group(0)[:200]}")
    return html


def descriptions(notebook: nbformat.NotebookNode) -> list[str]:
    """What each picture shows, in the notebook's order."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    return [picture.metadata.get("image/png", {}).get("alt", "A figure") for picture in pictures]


def environment() -> None:
    """What the kernels inherit: this copy of the packages, no hub, and no hint about optional widgets."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: render the notebooks named, or all."""
    parser = argparse.ArgumentParser(description="Run the notebooks and write them as HTML.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 01_homotopy_start; default: all")
    parser.add_argument("--output", type=Path, default=ROOT / "reports" / "notebooks", help="folder of the pages")
    options = parser.parse_args(arguments)
    known = {str(path.relative_to(FOLDER).with_suffix("")): path for path in notebooks()}
    if unknown := [name for name in options.names if name not in known]:
        print(f"error: no notebook {unknown[0]!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    environment()
    index = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(INDEX.read_text(encoding="utf-8"))])
    write_text(options.output / "index.html", page(index, "Lessons"))
    for name in options.names or known:
        target = options.output / f"{name}.html"
        write_text(target, page(executed(known[name]), name.replace("_", " ")))
        print(target, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
