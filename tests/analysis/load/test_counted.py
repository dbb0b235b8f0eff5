"""Closed forms against the real architectures, built without memory."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.load.published import connections, lora_parameters, reduction, solo_parameters, solo_parameters_of


def test_the_papers_shapes():
    assert solo_parameters(1024, 24, 120, 2) == 259_499
    assert solo_parameters(1024, 24, 120, 6) == 250_339
    assert solo_parameters(1280, 36, 120, 2) == 332_417
    assert solo_parameters(1280, 36, 120, 6) == 315_605
    assert solo_parameters_of(1024, 300, 11, Decimal("0.6")) == 261_659
    assert solo_parameters_of(1280, 300, 5, Decimal("0.6")) == 316_685
    assert lora_parameters(1024, 24, 4) == 393_216
    assert lora_parameters(1280, 36, 4) == 737_280
    assert [connections(24, skip) for skip in (2, 4, 6)] == [11, 5, 3]


def test_the_59_per_cent():
    assert reduction(315_605, 737_280) == pytest.approx(0.5719, abs=5e-5)
    assert reduction(315_605, 770_000) == pytest.approx(0.5901, abs=5e-5)


@given(st.integers(1, 64), st.integers(1, 48), st.integers(1, 16), st.integers(1, 8))
def test_solo_is_a_sum_over_its_parts(width, blocks, rank, skip):
    ends = [block for block in range(1, blocks + 1) if block % skip == 0 and block > skip]
    assert connections(blocks, skip) == len(ends)
    expected = (width * rank + rank) + (rank * width + width) + sum(width + 1 + rank for _ in ends)
    assert solo_parameters(width, blocks, rank, skip) == expected


@pytest.mark.long
@pytest.mark.parametrize(
    ("backbone", "method", "settings", "expected"),
    [
        ("gpt2-medium", "lora", {"rank": 4}, lora_parameters(1024, 24, 4)),
        ("gpt2-medium", "solo_connection", {"rank": 120, "skip_length": 2}, solo_parameters(1024, 24, 120, 2)),
        ("gpt2-large", "lora", {"rank": 4}, lora_parameters(1280, 36, 4)),
        ("gpt2-large", "solo_connection", {"rank": 120, "skip_length": 6}, solo_parameters(1280, 36, 120, 6)),
    ],
)
def test_closed_forms_agree_with_the_built_models(backbone, method, settings, expected):
    from replication.backbones import build_empty
    from replication.counting import parameter_counts
    from replication.methods import attach, method_config

    model = attach(build_empty(backbone), method_config(method, **settings))
    assert parameter_counts(model).adapter == expected
