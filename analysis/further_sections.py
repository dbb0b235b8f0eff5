"""The sections of the report page beyond the two papers' tables: counts and memory at full scale, the ablations."""

from __future__ import annotations

from collections.abc import Callable

from analysis.ablations import ablation_blocks, ablation_figures, load_ablations, summary_block
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
            "Every parameter count that the papers print, counted again on the real architectures without memory: "
            "no weights, no training, the same in every profile. `make count-full-scale` repeats it.",
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


def ablations(profile: str) -> Section | None:
    """What faults seen in the authors' code change: measured on the quick profile's toys, so shown there alone."""
    found = load_ablations() if profile == "quick" else []
    if not found:
        return None
    return Section(
        key="ablations",
        title="Faults of the authors' code, measured",
        intro=(
            "Each fault that could change a result as an experiment of its own, on this profile's small models and "
            "embedded corpora or from published files. `make ablations` repeats them; IMPLEMENTATION_DETAILS says what "
            "is done here instead.",
        ),
        blocks=(summary_block(found), *ablation_blocks(found)),
        drawings=tuple(ablation_figures(found)),
    )


FURTHER: tuple[Callable[[str], Section | None], ...] = (full_scale_counts, full_scale_memory, ablations)


def further_sections(profile: str) -> list[Section]:
    """Every section of `FURTHER` that has something to say of the profile, in its order."""
    return [section for make in FURTHER if (section := make(profile)) is not None]
