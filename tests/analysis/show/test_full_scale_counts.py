"""The table of published and counted parameters: rounding, causes, and the committed file against a fresh count."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.show.full_scale_counts import (
    PARAMETERS,
    parameters_block,
    published_figures,
    published_value,
    read_parameters,
    rounds_to,
    shares_block,
    verdict,
)
from replication.errors import DataError


@pytest.fixture(scope="module")
def parameters():
    return read_parameters()


@pytest.fixture(scope="module")
def figures():
    return published_figures()


@given(st.integers(0, 10**9), st.integers(0, 3))
def test_a_count_rounds_to_its_published_form_and_to_no_distant_one(count, decimals):
    text = f"{Decimal(count) / 1_000_000:.{decimals}f}M"
    unit = 10 ** (6 - decimals)
    assert rounds_to(count, text)
    assert not rounds_to(count + unit + 1, text)
    assert abs(published_value(text) - count) <= unit


def test_whole_numbers_round_to_themselves_alone():
    assert rounds_to(442_368, "442368")
    assert not rounds_to(442_369, "442368")


@pytest.mark.parametrize(
    ("cell", "kind", "words"),
    [
        ("solo_connection/ft-gpt2-medium", "unexplained", "354.82M"),
        ("solo_connection/lora-gpt2-medium", "explained", "0.1 %"),
        ("solo_connection/solo-gpt2-medium", "rounding", "rounding"),
        ("lora_e2e/ft-gpt2-large", "rounding", "rounding"),
        ("lora_e2e/lora-gpt2-large", "explained", "GPT-2 Medium and GPT-2 Large"),
        ("lora_e2e/ft-top2-gpt2-medium", "rounding", "rounding"),
        ("lora_e2e/adapter-l-gpt2-medium-0-37m", "explained", "bottleneck 6"),
        ("lora_e2e/adapter-h-gpt2-medium-11-09m", "unexplained", "Adapter-L"),
        ("lora_e2e/prelayer-gpt2-medium", "not counted", "0.1 %"),
        ("weightlora/kept/5", "exact", "exact"),
    ],
)
def test_causes(parameters, figures, cell, kind, words):
    found = verdict(next(item for item in parameters.cells if item.id == cell), parameters, figures)
    assert found.kind == kind
    assert words in found.words


def test_a_candidate_that_fits_one_model_only_explains_nothing(parameters, figures):
    """LoRA on Large without its candidates: a thousandth then fits only Medium."""
    cells = tuple(
        c.model_copy(update={"candidates": ()}) if c.backbone == "gpt2-large" else c for c in parameters.cells
    )
    lora = next(cell for cell in cells if cell.id == "lora_e2e/lora-gpt2-medium")
    assert verdict(lora, parameters.model_copy(update={"cells": cells}), figures).kind == "unexplained"


def test_the_table_shows_every_published_count(figures):
    block = parameters_block()
    assert len(block.rows) == len(figures) == 20
    lora = next(row for row in block.rows if row[1] == "Baseline LoRA GPT-2 Medium")
    assert lora[3:7] == ("0.35M", "paper", "393,216", "−43,216")
    assert all(row[-1] for row in block.rows)


def test_the_percentages(parameters):
    rows = shares_block().rows
    assert rows[0][3] == "true of no model and skip length"
    assert rows[1][3] == "true only of GPT-2 Large k=6 (59.0 %) and GPT-2 Large k=9 (59.4 %)"
    assert rows[2][2].startswith("99.")
    assert [row[3] for row in rows[3:]] == ["rounding", "rounding"]
    assert [row[2] for row in rows[3:]] == ["86.1 %", "36.8 %"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["cells"][0].update(count="many"), "cells"),
        (lambda c: c["cells"][0].update(extra=1), "extra"),
        (lambda c: c.update(schema_version=2), "schema_version"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, edit, message):
    content = json.loads(PARAMETERS.read_text(encoding="utf-8"))
    edit(content)
    path = tmp_path / "parameters.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_parameters(path)
    assert "parameters.json" in str(caught.value)


def test_a_missing_cell_is_named(tmp_path):
    content = json.loads(PARAMETERS.read_text(encoding="utf-8"))
    gone = content["cells"].pop()["id"]
    path = tmp_path / "parameters.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=gone):
        parameters_block(path)
