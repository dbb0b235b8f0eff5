"""The report's pages: the first has the answer, every other thing is one link away.

Pages link to each other and fetch nothing, so that they open from a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.show.blocks import Block
from analysis.show.render import render
from analysis.show.sections import Section


@dataclass(frozen=True)
class Entry:
    """An appendix page: its file, its title and its line in the list of pages."""

    key: str
    title: str
    about: str

    @property
    def path(self) -> str:
        """Its file, from the report's folder."""
        return f"pages/{self.key}.html"


FIRST = (
    Entry("claims", "Claims", "every comparison with its numbers, each claim's rule, and what other analyses say"),
    Entry("solo", "Solo Connection", "all scores, published differences, losses, homotopy, generated texts"),
    Entry("weightlora", "WeightLoRA", "all scores by task, parameters, importance weights, selected adapters, memory"),
    Entry("authors", "The authors' logs and code", "WeightLoRA's logs and settings, faults of the code"),
)
LAST = (
    Entry("runs", "Runs", "corpora and licences, deviations, seeds, learning rates, cost, machines and versions"),
    Entry("reading", "How to read", "marks, uncertainties, and how a claim is decided"),
    Entry("sources", "Sources", "the files and records of every table, and the literature"),
)


def entries(sections: Sequence[Section]) -> list[Entry]:
    """Every appendix page in order; a section is a page of its own."""
    return [*FIRST, *(Entry(section.key, section.title, section.about) for section in sections), *LAST]


def pages(values: Mapping[str, Any], sections: Sequence[Section], command: str) -> dict[str, str]:
    """File -> HTML of the whole report but the cost page; `values` are what the templates of `templates/` name.

    `command` made the tables of the sections.
    """
    listed = entries(sections)
    found = {"index.html": render("index.html", entries=listed, here="", **values)}
    for entry in (*FIRST, *LAST):
        found[entry.path] = _appendix(f"{entry.key}.html", entry, listed, values)
    for section, entry in zip(sections, listed[len(FIRST) :], strict=False):
        blocks = [block.named(block.key, command) for block in section.named_blocks]
        found[entry.path] = _appendix("section.html", entry, listed, values, section=section, section_blocks=blocks)
    return found


def _appendix(template: str, entry: Entry, listed: Sequence[Entry], values: Mapping[str, Any], **more: Any) -> str:
    return render(template, "../", entries=listed, here=entry.key, heading=entry.title, **values, **more)


@dataclass(frozen=True)
class TableSource:
    """A table's files, and the number of the group of records that it is made from; 0 for none."""

    key: str
    caption: str
    records: int


def table_sources(blocks: Sequence[Block]) -> tuple[list[TableSource], list[tuple[str, ...]]]:
    """Every table that has rows, and each different list of records once."""
    shown = [block for block in blocks if block.rows]
    groups = list(dict.fromkeys(block.records for block in shown if block.records))
    sources = [
        TableSource(block.key, block.caption, groups.index(block.records) + 1 if block.records else 0)
        for block in shown
    ]
    return sources, groups
