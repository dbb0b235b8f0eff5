"""The sections of the report page beyond the two papers' tables: counts and memory at full scale, without weights."""

from __future__ import annotations

from collections.abc import Callable

from analysis.full_scale_counts import parameters_block, shares_block
from analysis.full_scale_memory_section import (
    checks_block,
    gpt2_block,
    memory_block,
    memory_drawing,
    memory_words,
    orders_block,
)
from analysis.sections import Section


def full_scale_counts(profile: str) -> Section | None:
    """Every printed parameter count, counted again: the same for each profile, since nothing is trained."""
    return Section(
        key="full-scale-counts",
        title="Parameters at full scale",
        intro=(
            "Every parameter count that the papers print, counted again on the real architectures built without memory. "
            "No weights and no training are involved, so this holds for every profile. `make count-full-scale` repeats it.",
        ),
        blocks=(parameters_block(), shares_block()),
    )


def full_scale_memory(profile: str) -> Section | None:
    """Predicted peak memory at the papers' shapes, beside the authors' measured files."""
    return Section(
        key="full-scale-memory",
        title="Memory at full scale, predicted",
        intro=memory_words(),
        blocks=(memory_block(), orders_block(), gpt2_block(), checks_block()),
        drawings=(memory_drawing(),),
    )


FURTHER: tuple[Callable[[str], Section | None], ...] = (full_scale_counts, full_scale_memory)


def further_sections(profile: str) -> list[Section]:
    """Every section of `FURTHER` that has something to say of the profile, in its order."""
    return [section for make in FURTHER if (section := make(profile)) is not None]
