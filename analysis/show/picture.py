"""The first screen of a report as a small picture, for a README: `python -m analysis.show.picture --profile cpu`.

Needs a Chromium and a built report; nothing is fetched.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from replication.errors import DataError, ReplicationError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "to install it run apt-get install chromium (Debian) or use Google Chrome"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the browser's own errands must not leave this machine either
)  # fmt: skip
WIDTH, HEIGHT = 1280, 1180
COLOURS = 64


def find_browser() -> str | None:
    """The first Chromium on the path."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def browse(page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Open a local page in a fresh headless Chromium; DataError without one, or where it fails."""
    browser = find_browser()
    if browser is None:
        raise DataError(f"no Chromium here: {INSTALL}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", *arguments, page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    if done.returncode != 0:
        raise DataError(f"{page}: {browser} ended with {done.returncode}: {done.stderr[-500:]}")
    return done


def take(page: Path, output: Path, height: int = HEIGHT) -> None:
    """`page`'s first `height` pixels, 1,280 wide and in the light scheme, as a PNG with a palette."""
    if not page.is_file():
        raise DataError(f"{page}: no report there; to build it run make reports")
    output.parent.mkdir(parents=True, exist_ok=True)
    browse(page, f"--screenshot={output.resolve()}", f"--window-size={WIDTH},{height}",
           "--blink-settings=preferredColorScheme=1")  # fmt: skip
    with Image.open(output) as shot:
        small = shot.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(output, "PNG", optimize=True)


def main(
    profile: Annotated[str, typer.Option(help="Name of the profile.")] = "cpu",
    report: Annotated[Path | None, typer.Option(help="The page; reports/<profile>/index.html by default.")] = None,
    output: Annotated[Path, typer.Option(help="The picture.")] = Path("docs/report.png"),
    height: Annotated[int, typer.Option(help="Pixels from the top of the page.")] = HEIGHT,
) -> None:
    """Take a picture of the first screen of a profile's report."""
    take(report or Path("reports") / profile / "index.html", output, height)
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    try:
        typer.run(main)
    except ReplicationError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
