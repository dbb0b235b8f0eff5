"""The report page in a real browser: drawn in light and dark, wide and narrow, and asking for nothing elsewhere."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.show.report import build_report

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the browser's own errands must not leave this machine either
)  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.skipif(BROWSER is None, reason="not run: no chromium here (Debian: apt-get install chromium)"),
]


def browse(page, tmp_path, *arguments):
    profile = tmp_path / "browser-profile"
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *arguments, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    shutil.rmtree(profile, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def page(write_runs, write_task_runs, tmp_path_factory):
    """Both papers on one page."""
    root = tmp_path_factory.mktemp("browsed")
    runs = write_runs(root / "runs", items=16)
    write_task_runs(
        root / "runs", profile="quick", backbone="microworld-deberta", tasks={"microworld_sentiment": "sst2"},
        methods=("frozen", "lora", "weight_lora-k3", "random_lora-k3", "dora"), items=40,
    )  # fmt: skip
    return build_report(profile="quick", runs=runs, output=root / "quick", sections=())


def test_the_page_is_drawn_without_errors_or_requests(page, tmp_path):
    """The page's own policy forbids every request, and the browser logs each one it refuses."""
    done = browse(page, tmp_path, "--dump-dom", "--enable-logging=stderr")
    table = done.stdout[done.stdout.index('<table id="table-results"') :]
    table = table[: table.index("</table>")]
    assert table.count("<tr>") == 5
    assert "Solo Connection (r=12, k=2)" in table
    scores = done.stdout[done.stdout.index('<table id="table-glue_') :]
    assert "WeightLoRA (r=8, K=3)" in scores[: scores.index("</table>")]
    assert done.stdout.count("<svg ") == 9
    assert "CONSOLE" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "fault", ['<img src="http://example.invalid/x.png">', '<script src="x.js"></script>', "<script>f()</script>"]
)
def test_a_request_or_a_script_would_be_seen(page, tmp_path, fault):
    """The test above can fail: a page with any of these leaves a line in the browser's console."""
    copy = page.with_name("faulty.html")
    copy.write_text(page.read_text(encoding="utf-8").replace("</main>", f"{fault}</main>"), encoding="utf-8")
    done = browse(copy, tmp_path, "--dump-dom", "--enable-logging=stderr")
    copy.unlink()
    assert "CONSOLE" in done.stderr


@pytest.mark.parametrize("width", [1280, 500])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screenshot_shows_a_page(page, tmp_path, width, scheme):
    picture = tmp_path / "page.png"
    dark = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    browse(page, tmp_path, f"--screenshot={picture}", f"--window-size={width},4000", dark)
    image = np.asarray(Image.open(picture).convert("L")).astype(float)
    assert image.shape == (4000, width)
    background = np.median(image)
    assert background < 60 if scheme == "dark" else background > 200
    assert 0.01 < (abs(image - background) > 60).mean() < 0.5
    rows_with_ink = (abs(image - background) > 60).any(axis=1)
    assert rows_with_ink[:1000].mean() > 0.3
    assert rows_with_ink[3000:].mean() > 0.3


@pytest.mark.parametrize("profile", ["quick", "cpu"])
def test_the_committed_report_is_drawn(project_root, tmp_path, profile):
    """The committed page, built from real runs."""
    path = project_root / "reports" / profile / "index.html"
    if not path.is_file():
        pytest.skip(f"not run: there is no report of the {profile} profile yet")
    done = browse(path, tmp_path, "--dump-dom", "--enable-logging=stderr")
    assert "CONSOLE" not in done.stderr, done.stderr
    assert '<table id="table-results"' in done.stdout
    assert done.stdout.count("<svg ") >= 2


PROBE = Path(__file__).with_name("probe.js")


@pytest.fixture(scope="module", params=[(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")], ids=str)
def probed(request, page, tmp_path_factory):
    """What the browser finds on the page in a frame of that width: a window cannot be as narrow as a phone."""
    width, scheme = request.param
    folder = tmp_path_factory.mktemp("probed")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    inner = html.escape(text.replace("</body>", f"<script>{PROBE.read_text(encoding='utf-8')}</script></body>"))
    frame = folder / "frame.html"
    frame.write_text(
        '<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><pre id="probe"></pre>'
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{inner}"></iframe>',
        encoding="utf-8",
    )
    dark = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    dom = browse(frame, folder, "--dump-dom", "--window-size=1400,1000", dark).stdout
    found = json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', dom)[1]))
    assert found["width"] == width
    assert (sum(found["ground"]) < 150) == (scheme == "dark")
    return found


def test_nothing_but_tables_and_figures_scrolls_sideways(probed):
    assert probed["sideways"] <= 0
    assert probed["outside"] == []
    assert probed["unscrollable"] == 0


def test_every_text_has_contrast(probed):
    """At least 4.5 to 1 (WCAG 2, level AA), labels of figures included."""
    assert probed["texts"] > 500
    assert probed["faint"] == []


def test_headings_tables_and_figures_are_there_for_a_screen_reader(probed):
    levels = probed["headings"]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert probed["tables"] >= 10
    assert (probed["uncaptioned"], probed["unscoped"], probed["rowless"]) == (0, 0, 0)
    assert probed["svgs"] == 9
    assert probed["unnamed"] == 0


def test_the_best_value_is_marked_and_not_by_colour_alone(probed):
    assert probed["best"] > 2
    assert probed["marked"]


def test_a_table_sorts_by_its_header_buttons(probed):
    """A native button: Enter and the space bar press it like a click."""
    assert probed["focused"]
    start, up, down, again = probed["sorted"]
    assert [state["aria"] for state in probed["sorted"]] == [None, "ascending", "descending", None]
    assert up["order"] == sorted(start["order"])
    assert down["order"] == sorted(start["order"], reverse=True)
    assert again["order"] == start["order"]


def test_print_shows_standings_and_where_tables_come_from(page, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("not run: no pdftotext here (Debian: apt-get install poppler-utils)")
    browse(page, tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}")
    done = subprocess.run(["pdftotext", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True)
    assert "Standing of a published figure" in done.stdout
    assert "runs/quick/lora/training/seed-{18,52,1917}/record.json" in done.stdout
