"""REPRODUCIBILITY.md names files that exist, and its counts are those of the file it names."""

from __future__ import annotations

import json
import re

import pytest


@pytest.fixture
def text(project_root):
    return (project_root / "REPRODUCIBILITY.md").read_text(encoding="utf-8")


def test_every_file_named_exists(text, project_root):
    named = set(re.findall(r"`([\w./*-]+(?:/|\.(?:json|md|py|toml|txt|yaml|html)))`", text))
    assert len(named) > 20
    folders = (".", "measurements/ablations", "runs/quick/lora/training/seed-18")
    unmade = {"runs/cpu/*/cost/"}  # no output of a stage: absent where nothing ran
    missing = [path for path in named - unmade if not any(list((project_root / f).glob(path)) for f in folders)]
    assert missing == []


def test_the_counts_are_those_of_the_file(text, project_root):
    counted = json.loads((project_root / "measurements/ablations/printed_count.json").read_text(encoding="utf-8"))
    held = {cell for row in counted["rows"] for cell in row if isinstance(cell, int)}
    numbers = {int(number.replace(",", "")) for number in re.findall(r"\b\d{1,3}(?:,\d{3})+\b", text)}
    assert numbers == {259_499, 315_605}
    assert numbers <= held


PARTS = """Dependencies, Training code, Evaluation code, Pre-trained models, Results table, Scope of reproducibility,
Methodology, What was easy, What was hard, could not be verified, Communication with the original authors"""


@pytest.mark.parametrize("part", [part.strip() for part in PARTS.split(",")])
def test_both_lists_are_whole(text, part):
    assert part in text
