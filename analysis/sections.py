"""The one seam for what others add to the report page: sections of text, tables and figures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.blocks import Block
from analysis.drawing import Drawing
from replication.errors import ConfigError


@dataclass(frozen=True)
class Section:
    """A section of the page below the two papers: its title, a paragraph or more, tables and figures.

    `key` is its place on the page (`#<key>`) and begins the names of its tables' files; ConfigError unless it is lower
    case letters, digits and hyphens.
    """

    key: str
    title: str
    intro: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    drawings: tuple[Drawing, ...] = ()

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
