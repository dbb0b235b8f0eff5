"""The teaching notebooks: stripped as committed, of one form, and run from top to bottom within their limits."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
NAMES = (
    "01_homotopy_start",
    "02_counting_parameters",
    "03_choosing_adapters",
    "04_reading_a_results_table",
    "05_bring_your_own_method",
    "06_how_many_seeds",
    "07_redraw_the_figures",
)
TEACHING = [FOLDER / f"{name}.ipynb" for name in NAMES]
SOLUTIONS = [FOLDER / "solutions" / f"{name}.ipynb" for name in NAMES]
EVERY = TEACHING + SOLUTIONS
QUICK = [path for path in TEACHING if path.name[:2] == "02"]
"""Run by `make test`: the others train, or read every run."""
PACKAGES = ("analysis", "pipelines", "replication", "studies")


def ids_of(path: Path) -> str:
    return str(path.relative_to(FOLDER).with_suffix(""))


def source_of(path: Path, kind: str) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


@pytest.fixture
def tool(monkeypatch):
    """Import `strip` or `render` as the commands do."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


# --- as committed ------------------------------------------------------------


def test_there_are_seven_and_their_solutions_and_nothing_else():
    assert sorted(FOLDER.rglob("*.ipynb")) == sorted(EVERY)


@pytest.mark.parametrize("path", EVERY, ids=ids_of)
def test_is_committed_stripped(path, tool):
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert notebook.metadata.language_info == {"name": "python"}
    assert tool("strip").stripped(text) == text


def test_strip_removes_what_a_run_leaves_and_the_check_notices(tmp_path, tool, capsys):
    strip = tool("strip")
    notebook = nbformat.read(TEACHING[1], as_version=4)
    before = strip.stripped(nbformat.writes(notebook))
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.outputs = [nbformat.v4.new_output("stream", text="a result")]
    code.execution_count = 3
    code.metadata = nbformat.from_dict({"execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"}})
    notebook.metadata.language_info.version = "3.11.9"
    path = tmp_path / "ran.ipynb"
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    assert strip.main(["--check", "--folder", str(tmp_path)]) == 1
    assert "ran.ipynb: is not stripped" in capsys.readouterr().err
    assert strip.main(["--folder", str(tmp_path)]) == 0
    assert path.read_text(encoding="utf-8") == before
    assert strip.main(["--check", "--folder", str(tmp_path)]) == 0


@pytest.mark.parametrize(("path", "solutions"), list(zip(TEACHING, SOLUTIONS, strict=True)), ids=NAMES)
def test_every_exercise_has_its_solution(path, solutions):
    text = "\n".join(source_of(path, "markdown"))
    exercises = re.findall(r"^(\d)\. \*\*", text[text.index("## Exercises") :], flags=re.MULTILINE)
    solved = re.findall(r"^## (\d)\. .+$", "\n".join(source_of(solutions, "markdown")), flags=re.MULTILINE)
    assert len(exercises) == 3
    assert solved == exercises
    assert f"](solutions/{path.name})" in text
    assert "](README.md)" in text


@pytest.mark.parametrize(("path", "solutions"), list(zip(TEACHING, SOLUTIONS, strict=True)), ids=NAMES)
def test_every_exercise_has_a_cell_that_checks_itself(path, solutions):
    """Empty at first; the solution answers the same check."""
    starters = [text for text in source_of(path, "code") if re.search(r"^check\(", text, flags=re.MULTILINE)]
    assert len(starters) == 3
    answered = "\n".join(source_of(solutions, "code"))
    for number, starter in enumerate(starters, start=1):
        assert re.search(r"= None(, None)?  # ", starter)
        assert re.search(rf"check\(\s*{number},", starter)
        assert re.search(rf"check\(\s*{number},", answered)
        for digest in re.findall(r'"([0-9a-f]{8})"', starter):
            assert digest in answered


def test_the_index_names_every_lesson_with_its_question_and_minutes():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| \[\d\. .+?\]\((\w+)\.ipynb\) \(\[solutions\]\(solutions/(\w+)\.ipynb\)\) \| .+\? \| \d+ \| .+ \|$",
        text,
        re.M,
    )
    assert rows == [(name, name) for name in NAMES]


def test_the_seventh_lesson_redraws_every_figure_in_ten_lines_each():
    cells = nbformat.read(TEACHING[-1], as_version=4).cells
    text = "\n".join(source_of(TEACHING[-1], "markdown"))
    named = " ".join(re.findall(r"^## (.+)$", text, flags=re.MULTILINE))
    kinds = {re.sub(r"^(homotopy|importance)_.*", r"\1", path.stem) for path in ROOT.glob("reports/*/figures/*.png")}
    assert not [kind for kind in kinds if kind not in named]
    end = next(index for index, cell in enumerate(cells) if "## Exercises" in cell.source)
    drawn = [cell.source for cell in cells[:end] if cell.cell_type == "code"][1:]
    assert max(sum(bool(line.strip()) for line in source.splitlines()) for source in drawn) <= 10


@pytest.mark.parametrize("path", EVERY, ids=ids_of)
def test_imports_what_it_computes_and_holds_no_metric_or_training_code(path):
    """A notebook may define a short function; loops over batches, optimizers and scores live in the packages."""
    tree = ast.parse("\n".join(source_of(path, "code")))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"backward", "AdamW", "SGD", "cross_entropy", "compute_score", "corpus_bleu", "zero_grad"}
    modules = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {"analysis", "replication"} <= modules
    assert "matplotlib" not in modules, "figures share the report's style module"
    assert "use_style()" in "\n".join(source_of(path, "code"))


@pytest.mark.parametrize("path", EVERY, ids=ids_of)
def test_every_name_that_is_imported_exists(path):
    """The cheap part of running them: a function that was renamed or has moved is found without a kernel."""
    found = 0
    for node in ast.walk(ast.parse("\n".join(source_of(path, "code")))):
        if not isinstance(node, ast.ImportFrom) or node.module.split(".")[0] not in PACKAGES:
            continue
        module = importlib.import_module(node.module)
        for name in (alias.name for alias in node.names):
            assert hasattr(module, name) or importlib.import_module(f"{node.module}.{name}"), name
            found += 1
    assert found


# --- run ------------------------------------------------------------


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Run a notebook in its own folder, as Jupyter does, without a network; the text of its outputs."""
    import papermill

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(path):
        target = tmp_path / path.name
        papermill.execute_notebook(
            path, target, cwd=path.parent, kernel_name="python3", execution_timeout=600, progress_bar=False
        )
        return nbformat.read(target, as_version=4)

    return run


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "path", [path if path in QUICK else pytest.param(path, marks=pytest.mark.slow) for path in EVERY], ids=ids_of
)
def test_runs_from_top_to_bottom_with_labelled_pictures(path, executed):
    notebook = executed(path)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert all(len(picture.metadata["image/png"]["alt"]) > 30 for picture in pictures)
    if path in TEACHING:
        assert pictures
    said = " ".join(output.get("text", "") for output in outputs)
    expected = "no answer yet" if path in TEACHING else "right"
    assert re.findall(r"exercise (\d): (.+)", said) == [(number, expected) for number in "123"]
    text = json.dumps([output.get("text") or output.get("data", {}).get("text/markdown", "") for output in outputs])
    for wanted in EXPECTED.get(ids_of(path), ()):
        assert wanted in text


EXPECTED = {
    "01_homotopy_start": ("output equal bit for bit: True", "|v| from 0 to"),
    "02_counting_parameters": ("393,216", "259,499", "315,605", "57.2%", "59.0%", "a thousandth of the backbone"),
    "03_choosing_adapters": ("first real projection", "decided at the first projection: 3 of 3"),
    "04_reading_a_results_table": (
        "equal to reports/quick/tables/results.csv",
        "equal to reports/cpu/tables/results.csv",
        "seed 52 alone",
        "not_tested",
        "the rule: wider of two",
    ),
    "05_bring_your_own_method": ("starts as the base", "bottleneck (r=8)"),
    "06_how_many_seeds": (
        "false verdicts with",
        "with Holm's method",
        "no number of seeds suffices on these 872 examples",
    ),
}


# --- rendered ------------------------------------------------------------


def test_a_page_is_self_contained(tool):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# Title\n\na [link](https://example.org)"),
        nbformat.v4.new_code_cell("1"),
    ]
    html = tool("render").page(notebook, "a title")
    assert "<title>a title</title>" in html
    assert 'href="https://example.org"' in html
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?(https?:)?//", html)
    assert not re.search(r"<script[^>]*>[^<]*https?://", html)
    assert "cdnjs" not in html


def test_formulas_become_mathml_and_links_lead_to_pages(tool):
    notebook = nbformat.v4.new_notebook()
    text = "In line $a\\,(v \\circ y)$:\n\n$$\\frac{s^2}{n} + se^2$$\n\n`$code$`, [next](02_counting_parameters.ipynb)"
    notebook.cells = [nbformat.v4.new_markdown_cell(text)]
    html = tool("render").page(notebook, "a title")
    body = html[html.index("<body") :]
    inline, block = (ElementTree.fromstring(text) for text in re.findall(r"<math.*?</math>", body))
    assert (inline.get("display"), block.get("display")) == ("inline", "block")
    assert len(next(one for one in block.iter() if one.tag.endswith("mfrac"))) == 2
    assert "<code>$code$</code>" in body
    assert 'href="02_counting_parameters.html"' in body


@pytest.mark.parametrize("path", [*EVERY, FOLDER / "README.md"], ids=lambda path: path.stem)
def test_every_formula_has_its_mathml_and_every_link_its_page(path, tool):
    texts = [path.read_text("utf-8")] if path.suffix == ".md" else source_of(path, "markdown")
    for text in texts:
        converted = tool("render").linked(text, formulas := [])
        assert all("\\" not in formula and ElementTree.fromstring(formula) is not None for formula in formulas)
        assert not re.search(r"\\(?:frac|circ|text|sum|sqrt)|\$\$", converted)
        for link in re.findall(r"\]\(([\w./]+)\.html\)", converted):
            assert link == "index" or (path.parent / f"{link}.ipynb").is_file(), link


def test_a_formula_without_mathml_is_refused(tool, monkeypatch):
    render = tool("render")
    monkeypatch.setattr(render, "convert", lambda *arguments, **named: {}["x"])
    with pytest.raises(ValueError, match=r"no MathML for \$x\$: KeyError"):
        render.linked("$x$", [])


def test_a_page_keeps_the_descriptions_of_its_pictures(tool):
    pictures = [
        nbformat.v4.new_output("display_data", {"image/png": "AAAA"}, metadata={"image/png": {"alt": text}})
        for text in ("A falling line.", 'A "rising" line.')
    ]
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("1", outputs=pictures)]
    found = re.findall(r'alt="([^"]*)"', tool("render").page(notebook, "a title"))
    assert found == ["A falling line.", "A &quot;rising&quot; line."]


def test_a_page_that_would_load_from_the_network_is_refused(tool):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_markdown_cell('<img src="https://example.org/a.png">')]
    with pytest.raises(ValueError, match="would load from the network"):
        tool("render").page(notebook, "a title")


def test_an_unknown_notebook_is_refused_with_the_names_there_are(tool, capsys):
    assert tool("render").main(["06_nothing"]) == 2
    assert "01_homotopy_start" in capsys.readouterr().err
