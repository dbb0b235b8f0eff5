"""Appendix pages that need no runs: counts and memory at full scale, faults of the authors' code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analysis.show.ablations import DIRECTORY, ablation_blocks, ablation_figures, load_ablations, summary_block
from analysis.show.blocks import Block
from analysis.show.drawing import Drawing
from analysis.show.full_scale_counts import parameters_block, shares_block
from analysis.show.full_scale_memory import (
    checks_block,
    gpt2_block,
    memory_block,
    memory_drawing,
    memory_words,
    orders_block,
)
from replication.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Section:
    """An appendix page that any profile may have: its title, a paragraph or more, tables and figures.

    `key` names its file (`pages/<key>.html`) and begins the names of its tables' files; ConfigError unless it is lower
    case letters, digits and hyphens. `about` is its line in the list of pages.
    """

    key: str
    title: str
    intro: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    about: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.key):
            raise ConfigError(f"section key {self.key!r}: lower case letters, digits and hyphens, such as full-scale")

    @property
    def named_blocks(self) -> tuple[Block, ...]:
        """The tables, each with a key: its own, or the section's with a number."""
        return tuple(
            block if block.key else block.named(f"{self.key}_{number}")
            for number, block in enumerate(self.blocks, start=1)
        )


def full_scale_counts(profile: str) -> Section | None:
    """Every published parameter count, recounted: the same for each profile, since nothing is trained."""
    return Section(
        key="full-scale-counts",
        about="every published parameter count, recounted on the real architectures",
        title="Parameters at full scale",
        intro=(
            "Every published parameter count, recounted on the real architectures without memory: "
            "no weights, no training, the same in every profile. `make count-full-scale` repeats it.",
        ),
        blocks=(parameters_block(), shares_block()),
    )


def full_scale_memory(profile: str) -> Section | None:
    """Predicted peak memory at the papers' shapes, and the authors' measured files."""
    return Section(
        key="full-scale-memory",
        about="peak memory at the papers' shapes, predicted, and the authors' measured files",
        title="Memory at full scale, predicted",
        intro=memory_words(),
        blocks=(memory_block(), orders_block(), gpt2_block(), checks_block()),
        drawings=(memory_drawing(),),
    )


def ablations(profile: str) -> Section | None:
    """Effects of faults in the authors' code: measured on the quick profile's toy models, so shown only there."""
    found = load_ablations(ROOT / DIRECTORY) if profile == "quick" else []
    if not found:
        return None
    return Section(
        key="ablations",
        about="each fault of the authors' code that could change a result, as a separate experiment",
        title="Faults of the authors' code, measured",
        intro=(
            "Each fault that could change a result as a separate experiment, on this profile's small models and "
            "embedded corpora or from published files. `make ablations` repeats them; IMPLEMENTATION_DETAILS lists "
            "what is done instead.",
        ),
        blocks=(summary_block(found), *ablation_blocks(found)),
        drawings=tuple(ablation_figures(found)),
    )


FURTHER: tuple[Callable[[str], Section | None], ...] = (full_scale_counts, full_scale_memory, ablations)


def further_sections(profile: str) -> list[Section]:
    """Every section of `FURTHER` that applies to the profile, in order."""
    return [section for make in FURTHER if (section := make(profile)) is not None]
