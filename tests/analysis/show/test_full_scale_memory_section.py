"""Tables, words and figure of predicted memory."""

import subprocess
import sys

import pytest

from analysis.show.full_scale_memory import (
    checks_block,
    gpt2_block,
    memory_block,
    memory_drawing,
    memory_words,
    orders_block,
)


@pytest.mark.parametrize("block", [memory_block, orders_block, gpt2_block, checks_block])
def test_tables_are_complete(block):
    found = block()
    assert found.rows
    assert all(len(row) == len(found.headers) and all(row) for row in found.rows)


def test_every_rank_and_method_is_there():
    assert [row[0] for row in memory_block().rows] == ["8", "32", "64", "128", "256"]
    names = [row[0] for row in gpt2_block().rows]
    assert len(names) == len(set(names)) == 5
    assert any("k=6" in name for name in names)
    assert next(row for row in gpt2_block().rows if row[0].startswith("LoRA"))[2] == "1.000"


def test_the_words_never_claim_a_reproduction():
    text = " ".join(memory_words())
    assert "not a reproduction" in text
    assert text.count("reproduction") == 1
    assert "3.5 GB" in text


def test_resident_size_is_told_apart():
    assert any("resident size" in note for note in memory_block().notes)
    assert any("resident size" in note for note in checks_block().notes)


def test_the_drawing():
    drawing = memory_drawing()
    left, right = drawing.figure.axes
    assert len(left.lines) == 10  # a curve and its rings for each of five ranks
    assert left.get_ylabel() == "peak, GiB"
    assert right.get_ylim()[0] == 0
    assert drawing.svg.startswith("<?xml")
    assert drawing.svg == memory_drawing().svg


def test_neither_torch_nor_transformers_is_imported():
    code = (
        "import sys, analysis.show.full_scale_counts, analysis.show.full_scale_memory as s; s.memory_block(); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
