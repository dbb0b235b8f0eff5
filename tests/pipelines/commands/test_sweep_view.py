"""Views of a sweep: a live table in a terminal, a line a minute elsewhere."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pipelines.commands.sweep_view as views

# --- views

STATUS = views.Status(
    running=(
        views.Running(
            "sentiment-lora",
            75.0,
            {
                "stage": "finetune",
                "title": "fine-tune sentiment-lora, seed 18",
                "step": 30,
                "total": 100,
                "figures": {"loss": 0.69315},
                "seconds_left": 42.0,
            },
        ),
        views.Running("qa-lora", 3.0, {}),
    ),
    counts={"done": 4, "pending": 20, "failed": 1, "skipped": 0},
    total=27,
    elapsed=3720.0,
    left=7300.0,
)


def test_the_live_table_shows_each_cell_and_the_whole():
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=120).print(views.frame(STATUS))
    header, first, second, last = stream.getvalue().splitlines()
    assert header.split() == ["Cell", "Stage", "Seed", "Step", "Loss", "Running", "Left"]
    assert first.split() == ["sentiment-lora", "finetune", "18", "30/100", "0.6932", "1", "min", "42", "s"]
    assert second.split() == ["qa-lora", "–", "–", "–", "–", "3", "s", "–"]
    assert last == "4 of 27 done, 20 pending, 1 failed, 1 h 02 min elapsed, about 2 h 02 min left"


def test_without_a_terminal_there_is_one_progress_line_a_minute(monkeypatch, capsys):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(views, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    view = views.PlainLines()
    for second in range(0, 181):
        now.seconds = float(second)
        view.tick(STATUS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "sentiment-lora: finetune, seed 18, step 30/100, loss 0.6932, 42 s left" in lines[0]
    assert "qa-lora: running for 3 s" in lines[0]


def test_the_live_view_prints_ends_above_the_table_and_leaves_the_terminal_as_it_was(monkeypatch):
    from rich.console import Console

    stream = io.StringIO()
    view = views.LiveView()
    monkeypatch.setattr("rich.live.get_console", lambda: Console(file=stream, force_terminal=True, width=120))
    view.tick(STATUS)
    view.event("qa-lora", "failed", seconds=3.0, error="error: ill", log=Path("logs/quick/qa-lora.log"))
    view.close()
    view.close()
    assert "failed    qa-lora, 3 s: error: ill (log: logs/quick/qa-lora.log)" in stream.getvalue()
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1  # the cursor is back
