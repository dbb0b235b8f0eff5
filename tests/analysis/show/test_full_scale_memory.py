"""Predictions against the authors' files: laws of the comparison, and what the committed file says."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.show.full_scale_memory import (
    MEMORY,
    checks_block,
    compare,
    comparisons,
    gpt2_block,
    memory_block,
    memory_drawing,
    memory_words,
    orders_block,
    read_predictions,
    slope_by_rank,
)
from replication.errors import DataError


@given(
    slope=st.floats(0.01, 5),
    start=st.floats(1, 20),
    scale=st.floats(0.5, 2),
    shift=st.floats(-0.5, 0.5),
)
def test_straight_lines(slope, start, scale, shift):
    """Of two lines the ratio of slopes is theirs, whatever the intercepts are, and the correlation is one."""
    adapters = np.array([1, 4, 12, 20, 33, 36])
    measured = start + slope * adapters
    found = compare(adapters, start + shift + scale * slope * adapters, measured, 8)
    assert found.slope_ratio == pytest.approx(scale)
    assert found.measured_slope == pytest.approx(1024 * slope)
    assert found.correlation == pytest.approx(1)
    assert found.predicted_linearity == pytest.approx(1)
    assert found.largest_shape_error == pytest.approx(abs(scale - 1) * slope * 35, abs=1e-9)


@given(st.lists(st.floats(1, 20), min_size=6, max_size=6, unique=True))
def test_a_curve_agrees_with_itself(values):
    curve = np.array(values)
    found = compare(np.array([1, 4, 12, 20, 33, 36]), curve, curve, 8)
    assert found.largest_error == found.largest_shape_error == 0


def test_too_few_points_are_refused():
    with pytest.raises(DataError, match="rank 64"):
        compare(np.array([1, 4, 36]), np.ones(3), np.ones(3), 64)


def test_the_committed_predictions_lie_on_the_authors_curves():
    compared = comparisons()
    assert [item.rank for item in compared] == [8, 32, 64, 128, 256]
    for item in compared:
        assert item.largest_error < 0.01
        assert item.correlation > 0.99
        assert item.slope_ratio == pytest.approx(1, abs=0.08)
    predicted, measured = slope_by_rank(compared)
    assert predicted == pytest.approx(measured, rel=0.02)


def test_bends_of_the_first_block_are_the_authors():
    """Adapters 2 and 3 cost more than later ones, and the first of each block more than the others."""
    first = comparisons()[0]
    assert first.adapters[:5].tolist() == [1, 2, 3, 4, 5]
    assert np.diff(first.predicted[:5]) == pytest.approx(np.diff(first.measured[:5]), rel=0.03)


def test_from_the_top_needs_less_until_all_are_there():
    predictions = read_predictions()
    bottom, top = (predictions.named(key).by_adapters for key in ("authors_layer_r8", "authors_layer_r8_top"))
    for count in sorted(set(bottom) & set(top)):
        assert top[count].total <= bottom[count].total
    assert top[36].total == bottom[36].total
    assert top[1].total < 0.5 * bottom[1].total


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["series"][0]["rows"][0].update(total=1), "authors_layer_r8, 1 adapters: components do not add up"),
        (lambda c: c["series"][0]["rows"][0].pop("workspace"), "workspace"),
        (lambda c: c["checks"][0].update(measured_bytes=0), "measured_bytes"),
        (lambda c: c.update(schema_version=9), "schema_version"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, edit, message):
    content = json.loads(MEMORY.read_text(encoding="utf-8"))
    edit(content)
    path = tmp_path / "memory.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_predictions(path)
    assert "memory.json" in str(caught.value)


def test_a_missing_series_is_named():
    with pytest.raises(DataError, match="no series nothing"):
        read_predictions().named("nothing")


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
