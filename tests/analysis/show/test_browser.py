"""The report in a real browser: drawn in light and dark, wide and narrow, and asking for nothing elsewhere."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.show.picture import HEIGHT, WIDTH, browse, find_browser, take
from analysis.show.report import build_report
from analysis.show.sections import Section, full_scale_memory
from replication.errors import DataError

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.skipif(find_browser() is None, reason="not run: no chromium here (Debian: apt-get install chromium)"),
]
AXE = Path(os.environ.get("AXE_CORE", Path(__file__).parents[3] / "node_modules" / "axe-core")) / "axe.min.js"
PROBE = Path(__file__).with_name("probe.js")
DARK, LIGHT = (f"--blink-settings=preferredColorScheme={number}" for number in (0, 1))
MOST_HEIGHT, MOST_BYTES, MOST_PRINTED = 5_000, 400_000, 8  # of the first page: pixels at 1,280 wide, bytes, sheets


def dumped(page, *arguments):
    return browse(page, "--dump-dom", "--enable-logging=stderr", *arguments)


def printed(page, pdf):
    """The number of pages that a page is printed on."""
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    return len(re.findall(rb"/Type /Page\b", pdf.read_bytes()))


@pytest.fixture(scope="module")
def page(write_runs, write_task_runs, tmp_path_factory, without_png):
    """Both papers in one report, with a section of its own."""
    root = tmp_path_factory.mktemp("browsed")
    runs = write_runs(root / "runs", items=16)
    write_task_runs(
        root / "runs", profile="quick", backbone="microworld-deberta", tasks={"microworld_sentiment": "sst2"},
        methods=("frozen", "lora", "weight_lora-k3", "random_lora-k3", "dora"), items=40,
    )  # fmt: skip
    memory = full_scale_memory("quick")
    section = Section(memory.key, memory.title, memory.intro, memory.blocks[:1], memory.drawings, memory.about)
    return build_report(profile="quick", runs=runs, output=root / "quick", sections=(section,), processes=2)


def pages_of(index):
    return {path.stem: path for path in (index, *sorted((index.parent / "pages").glob("*.html")))}


def test_pages_are_drawn_without_errors_or_requests(page):
    """The pages' own policy forbids every request, and the browser logs each one it refuses."""
    found = {name: dumped(path) for name, path in pages_of(page).items() if name in ("index", "weightlora")}
    for done in found.values():
        assert "CONSOLE" not in done.stderr, done.stderr
    table = found["index"].stdout.partition('<table id="table-results"')[2].partition("</table>")[0]
    assert table.count("<tr>") == 5
    assert "Solo Connection (r=12, k=2)" in table
    assert found["index"].stdout.count("<svg ") == 3
    scores = found["weightlora"].stdout.partition('<table id="table-glue_')[2].partition("</table>")[0]
    assert "WeightLoRA (r=8, K=3)" in scores


def test_a_request_or_a_script_would_be_seen(page):
    """The test above can fail: each of these leaves a line in the browser's console."""
    faults = ['<img src="http://example.invalid/x.png">', '<script src="x.js"></script>', "<script>f()</script>"]
    copy = page.with_name("faulty.html")
    text = page.read_text(encoding="utf-8").replace("</main>", f"{''.join(faults)}</main>")
    copy.write_text(text, encoding="utf-8")
    done = dumped(copy)
    copy.unlink()
    assert len([line for line in done.stderr.splitlines() if "CONSOLE" in line]) >= len(faults)


@pytest.mark.parametrize(("width", "scheme"), [(1280, LIGHT), (500, DARK)])
def test_a_screenshot_shows_a_page(page, tmp_path, width, scheme):
    picture = tmp_path / "page.png"
    browse(page, f"--screenshot={picture}", f"--window-size={width},3000", scheme)
    image = np.asarray(Image.open(picture).convert("L")).astype(float)
    assert image.shape == (3000, width)
    background = np.median(image)
    assert background < 60 if scheme == DARK else background > 200
    assert 0.01 < (abs(image - background) > 60).mean() < 0.5
    rows_with_ink = (abs(image - background) > 60).any(axis=1)
    assert rows_with_ink[:1000].mean() > 0.3
    assert rows_with_ink[2000:].mean() > 0.3


def probe(pages, folder, width, scheme, axe=()):
    """Page -> what the browser finds in a frame of that width: a window cannot be as narrow as a phone.

    `axe` are the names of the pages on which axe runs.
    """
    frames = []
    for name, path in pages.items():
        scripts = [path.read_text(encoding="utf-8") for path in ((AXE, PROBE) if name in axe else (PROBE,))]
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8"))
        inner = text.replace("</body>", "".join(f"<script>{script}</script>" for script in scripts) + "</body>")
        frames.append(
            f'<pre id="{name}"></pre><iframe name="{name}" style="width:{width}px;height:900px;border:0" '
            f'srcdoc="{html.escape(inner)}"></iframe>'
        )
    frame = folder / "frame.html"
    head = '<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    frame.write_text(head + "".join(frames), encoding="utf-8")
    dom = browse(frame, "--dump-dom", "--window-size=1400,1000", "--virtual-time-budget=60000", scheme).stdout
    found = {name: re.search(rf'<pre id="{name}">(.*?)</pre>', dom)[1] for name in pages}
    return {name: json.loads(html.unescape(text)) for name, text in found.items()}


@pytest.fixture(scope="module", params=[(390, DARK), (1280, LIGHT)], ids=["phone-dark", "desk-light"])
def probed(request, page, tmp_path_factory):
    """Every page in both, with axe where it is installed: on every page once, and on the first on a phone too."""
    width, scheme = request.param
    folder = tmp_path_factory.mktemp("probed")
    faulty = folder / "faulty.html"
    faulty.write_text('<!doctype html><html lang="en"><body><img src="data:,"></body></html>', encoding="utf-8")
    pages = {**pages_of(page), "faulty": faulty}
    axe = () if not AXE.is_file() else pages if scheme == LIGHT else ("index", "faulty")
    found = probe(pages, folder, width, scheme, axe)
    wrong = found.pop("faulty")["axe"]
    assert not axe or any(fault.startswith("image-alt") for fault in wrong)
    for result in found.values():
        assert result["width"] == width
        assert (sum(result["ground"]) < 150) == (scheme == DARK)
    return found


def test_nothing_but_tables_and_figures_scrolls_sideways(probed):
    for name, found in probed.items():
        assert (name, found["sideways"] <= 0, found["outside"], found["unscrollable"]) == (name, True, [], 0)


def test_every_text_has_contrast(probed):
    """At least 4.5 to 1 (WCAG 2, level AA), labels of figures included."""
    assert {name: found["faint"] for name, found in probed.items() if found["faint"]} == {}
    assert sum(found["texts"] for found in probed.values()) > 3000


def test_axe_finds_nothing(probed):
    """Deque's rules for WCAG 2 and good practice, on every page."""
    if not AXE.is_file():
        pytest.skip("not run: no axe-core here (to install it run make axe, or set AXE_CORE to its folder)")
    assert {name: found["axe"] for name, found in probed.items() if found["axe"]} == {}
    assert probed["index"]["axe"] == []


def test_headings_tables_and_figures_are_there_for_a_screen_reader(probed):
    for name, found in probed.items():
        levels = found["headings"]
        assert (name, levels[0], levels.count(1)) == (name, 1, 1)
        assert all(after - before <= 1 for before, after in pairwise(levels)), name
        assert (name, found["uncaptioned"], found["unscoped"], found["rowless"]) == (name, 0, 0, 0)
        assert (name, found["unnamed"]) == (name, 0)
    assert probed["index"]["svgs"] == 3
    assert probed["index"]["tables"] == 3


def test_the_best_value_is_marked_and_not_by_colour_alone(probed):
    assert probed["index"]["best"] > 2
    assert all(found["marked"] for found in probed.values())


def test_a_table_sorts_by_its_header_buttons(probed):
    """A native button: Enter and the space bar press it like a click."""
    for name in ("index", "solo"):
        sorting = probed[name]["sorted"]
        assert sorting["focused"]
        start, up, down, again = sorting["states"]
        assert [state["aria"] for state in sorting["states"]] == [None, "ascending", "descending", None]
        assert up["order"] == sorted(start["order"])
        assert down["order"] == sorted(start["order"], reverse=True)
        assert again["order"] == start["order"]


def test_the_first_page_is_short_on_screen_and_on_paper(page, probed, tmp_path):
    if probed["index"]["width"] != 1280:
        pytest.skip("the height is that of a wide window")
    assert probed["index"]["height"] <= MOST_HEIGHT
    assert page.stat().st_size <= MOST_BYTES
    assert 1 < printed(page, tmp_path / "page.pdf") <= MOST_PRINTED


def test_print_opens_what_is_folded(page, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("not run: no pdftotext here (Debian: apt-get install poppler-utils)")
    printed(page.parent / "pages" / "sources.html", tmp_path / "page.pdf")
    done = subprocess.run(["pdftotext", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True)
    assert "runs/quick/lora/training/seed-{18,52,1917}/record.json" in done.stdout


@pytest.mark.parametrize("profile", ["quick", "cpu"])
def test_the_committed_report_is_drawn_and_short(project_root, tmp_path, profile):
    """The committed pages, built from real runs."""
    index = project_root / "reports" / profile / "index.html"
    if not (index.parent / "pages").is_dir():
        pytest.skip(f"not run: the committed report of the {profile} profile has no pages yet")
    done = dumped(index)
    assert "CONSOLE" not in done.stderr, done.stderr
    assert '<table id="table-results"' in done.stdout
    found = probe({"index": index}, tmp_path, 1280, LIGHT)["index"]
    assert (found["sideways"] <= 0, found["faint"], found["height"] <= MOST_HEIGHT) == (True, [], True)
    assert index.stat().st_size <= MOST_BYTES
    assert printed(index, tmp_path / "page.pdf") <= MOST_PRINTED


def test_a_picture_for_the_readme_is_small(page, tmp_path):
    take(page, tmp_path / "docs" / "report.png")
    with Image.open(tmp_path / "docs" / "report.png") as picture:
        assert picture.size == (WIDTH, HEIGHT)
    assert (tmp_path / "docs" / "report.png").stat().st_size < 150_000
    with pytest.raises(DataError, match="make reports"):
        take(tmp_path / "none.html", tmp_path / "none.png")
