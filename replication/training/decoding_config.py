"""Settings of text generation, checked when they are made; needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from replication.errors import ConfigError


@dataclass(frozen=True)
class DecodingConfig:
    """Decoding settings; the defaults are the recipe's.

    `beams=1` is greedy search, `no_repeat_ngram=0` bans nothing; `batch_size` counts contexts, not beams.
    """

    beams: int = 10
    length_penalty: float = 0.8
    no_repeat_ngram: int = 4
    max_new_tokens: int = 64
    batch_size: int = 8

    def __post_init__(self) -> None:
        for field, least in (("beams", 1), ("no_repeat_ngram", 0), ("max_new_tokens", 1), ("batch_size", 1)):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"decoding: {field}={value!r}; valid is a whole number of at least {least}")
        penalty = self.length_penalty
        if isinstance(penalty, bool) or not isinstance(penalty, (int, float)) or not math.isfinite(penalty):
            raise ConfigError(f"decoding: length_penalty={penalty!r}; valid is a finite number (the recipe's is 0.8)")
