"""The committed recount equals a fresh count on the real architectures, and the closed forms are right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from replication.backbones import backbone_config
from replication.fileio import read_json
from studies.commands import published_counts
from studies.published_counts import (
    LARGE,
    MEDIUM,
    SHAPES,
    bottleneck_count,
    module_count,
    prelayer_count,
)


@pytest.fixture(scope="module")
def committed():
    from pathlib import Path

    return read_json(Path(__file__).parents[2] / "measurements" / "full_scale" / "parameters.json")


@pytest.mark.long
def test_the_committed_file_is_what_is_counted(committed):
    assert published_counts() == committed


def test_shapes_of_the_closed_forms():
    for backbone, (width, blocks) in SHAPES.items():
        config = backbone_config(backbone)
        assert (config.n_embd, config.n_layer) == (width, blocks)


def test_module_count_takes_what_it_names():
    assert module_count(MEDIUM, r"transformer\.wte") == 50_257 * 1024
    assert module_count(LARGE, r"transformer\.h\.35\.") == 12 * 1280**2 + 13 * 1280
    assert module_count(MEDIUM, r"nothing") == 0


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 20), st.integers(1, 2), st.integers(0, 2))
def test_bottlenecks_against_modules(width, blocks, size, each, norms):
    one = [nn.Linear(width, size), nn.Linear(size, width)]
    parts = [*one * each, *[nn.LayerNorm(width)] * norms]
    expected = blocks * sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert bottleneck_count(width, blocks, size, each, norms) == expected


@given(st.integers(1, 2000), st.integers(1, 50), st.integers(0, 50))
def test_prelayer_is_linear_in_tokens(width, blocks, tokens):
    assert prelayer_count(width, blocks, tokens + 1) - prelayer_count(width, blocks, tokens) == width * blocks


def test_no_whole_number_of_vectors_gives_the_published_lora():
    """0.35M and 0.77M are no multiple of width x blocks, whatever rank and targets are."""
    for backbone, low, high in ((MEDIUM, 345_000, 355_000), (LARGE, 765_000, 775_000)):
        width, blocks = SHAPES[backbone]
        assert not [m for m in range(1, 400) if low <= m * width * blocks <= high]
