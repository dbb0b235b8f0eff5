"""The report page in a real browser: drawn in light and dark, wide and narrow, and asking for nothing elsewhere."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from analysis.report import build_report

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
    return build_report(profile="quick", runs=runs, output=root / "quick")


def test_the_page_is_drawn_without_errors_or_requests(page, tmp_path):
    """The page's own policy forbids every request, and the browser logs each one it refuses."""
    done = browse(page, tmp_path, "--dump-dom", "--enable-logging=stderr")
    table = done.stdout[done.stdout.index('<table class="measured">') :]
    table = table[: table.index("</table>")]
    assert table.count("<tr>") == 5
    assert "Solo Connection (r=12, k=2)" in table
    scores = done.stdout[done.stdout.index('<table class="scores">') :]
    assert "WeightLoRA (r=8, K=3)" in scores[: scores.index("</table>")]
    assert done.stdout.count("<svg ") == 8
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
    """The page that stands in the repository, made from real runs."""
    path = project_root / "reports" / profile / "index.html"
    if not path.is_file():
        pytest.skip(f"not run: there is no report of the {profile} profile yet")
    done = browse(path, tmp_path, "--dump-dom", "--enable-logging=stderr")
    assert "CONSOLE" not in done.stderr, done.stderr
    assert '<table class="measured">' in done.stdout
    assert done.stdout.count("<svg ") >= 2


@pytest.mark.parametrize("width", [1280, 500])
def test_nothing_but_tables_and_figures_scrolls_sideways(page, tmp_path, width):
    """The browser itself measures: a probe appended to a copy of the page writes what sticks out into the DOM."""
    probe = """<script>
    addEventListener("load", () => {
      const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
      const pre = document.createElement("pre");
      pre.id = "probe";
      pre.textContent = JSON.stringify({width: innerWidth, sideways: wide});
      document.body.appendChild(pre);
    });
    </script></body>"""
    copy = page.with_name(f"probe-{width}.html")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    copy.write_text(text.replace("</body>", probe), encoding="utf-8")
    dom = browse(copy, tmp_path, "--dump-dom", f"--window-size={width},1000").stdout
    copy.unlink()
    measured = json.loads(re.search(r'<pre id="probe">(.*?)</pre>', dom)[1])
    assert measured["width"] == width
    assert measured["sideways"] <= 0


@pytest.mark.parametrize("width", [390, 768])
def test_a_phone_does_not_scroll_sideways(page, tmp_path, width):
    """The window itself cannot be narrower than about 500 pixels, so the page is measured in a frame of that width."""
    probe = """<script>
    addEventListener("load", () => {
      const page = document.documentElement;
      const found = {width: innerWidth, sideways: page.scrollWidth - page.clientWidth};
      parent.document.getElementById("probe").textContent = JSON.stringify(found);
    });
    </script></body>"""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    inner = html.escape(text.replace("</body>", probe))
    frame = tmp_path / "frame.html"
    frame.write_text(
        '<!doctype html><meta charset="utf-8"><pre id="probe"></pre>'
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{inner}"></iframe>',
        encoding="utf-8",
    )
    dom = browse(frame, tmp_path, "--dump-dom", "--window-size=1280,1000").stdout
    assert json.loads(re.search(r'<pre id="probe">(.*?)</pre>', dom)[1]) == {"width": width, "sideways": 0}
