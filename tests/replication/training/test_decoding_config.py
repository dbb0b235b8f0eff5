"""Settings of decoding: the recipe's defaults, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import pytest

from replication.errors import ConfigError
from replication.training.decoding import DecodingConfig

# Refusals


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("beams", 0),
        ("beams", 2.0),
        ("beams", True),
        ("length_penalty", math.nan),
        ("length_penalty", math.inf),
        ("length_penalty", "0.8"),
        ("no_repeat_ngram", -1),
        ("max_new_tokens", 0),
        ("batch_size", 0),
    ],
)
def test_bad_settings_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{field}=.*valid is"):
        DecodingConfig(**{field: value})


def test_the_defaults_are_the_recipes() -> None:
    assert dataclasses.asdict(DecodingConfig()) == {
        "beams": 10,
        "length_penalty": 0.8,
        "no_repeat_ngram": 4,
        "max_new_tokens": 64,
        "batch_size": 8,
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        DecodingConfig().beams = 3  # type: ignore[misc]
