"""Assembling a real corpus: each split from verified files, else from the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replication.corpora import source_table
from replication.corpora.hub import HubCorpus, hub_rows
from replication.corpora.sourcefiles import read_text
from replication.corpora.task_corpus import CorpusCard, Row, TaskCorpus, check_rows, corpus_of
from replication.errors import DataError

# (location for messages, text of the file) -> rows; rows without an id are numbered in their split.
Parser = Callable[[str, str], Iterable[Row]]
# (hub split, raw row) -> row
HubRow = Callable[[str, dict[str, Any]], Row]


@dataclass(frozen=True)
class RealCorpus:
    """How one corpus is read.

    `counts` are the rows each split must have; `files` names the source file of a split and its parser;
    `hub` and `hub_row` read splits without a file; `fallback` names the corpus that is read only from files.
    """

    card: CorpusCard
    counts: Mapping[str, int]
    files: Mapping[str, tuple[str, Parser]] = field(default_factory=dict)
    hub: HubCorpus | None = None
    hub_row: HubRow | None = None
    fallback: str | None = None

    def load(self, folder: str | Path | None = None) -> TaskCorpus:
        """All splits, files looked up in `folder` (default: REPLICATION_MIRROR) first; all or none.

        DataError names the file or repository, the row, the field and the fix.
        """
        splits: dict[str, list[Row]] = {}
        sha256: dict[str, str] = {}
        for split, count in self.counts.items():
            rows, origin, sources = self._split(split, folder)
            if len(rows) != count:
                raise DataError(
                    f"{origin}: {len(rows)} rows for split {split!r} of {self.card.name}, which has {count}; "
                    "the file or the cached download was cut off: remove it and load again"
                )
            splits[split] = [{"id": f"{split}-{number}", **row} for number, row in enumerate(rows)]
            check_rows(self.card, splits[split], f"{origin}, split {split!r} of {self.card.name}", split)
            sha256.update(sources)
        return corpus_of(self.card, splits, sha256)

    def unobtainable(self, folder: str | Path | None = None) -> tuple[str, ...]:
        """Required files that are neither in `folder` (default: REPLICATION_MIRROR) nor can be downloaded."""
        if self.hub is not None:
            return ()
        files = [source_table.FILES[name] for name, _ in self.files.values()]
        return tuple(dict.fromkeys(file.name for file in files if file.url is None and not file.find(folder)))

    def _split(self, split: str, folder: str | Path | None) -> tuple[list[Row], str, dict[str, str]]:
        if split not in self.files:
            return self._hub_split(split, None)
        name, parse = self.files[split]
        file = source_table.FILES[name]
        try:
            location, text = read_text(file, folder)
        except DataError as error:
            if self.hub is None:
                raise
            return self._hub_split(split, error)
        return list(parse(location, text)), location, {file.name: file.sha256}

    def _hub_split(self, split: str, problem: DataError | None) -> tuple[list[Row], str, dict[str, str]]:
        assert self.hub is not None
        assert self.hub_row is not None
        try:
            raw, revision = hub_rows(self.hub, split)
        except DataError as error:
            notes = f"\n{problem}" if problem else ""
            if self.fallback:
                notes += (
                    f"\nWithout the hub, {self.fallback} is read from files; it is another corpus by name and score."
                )
            raise DataError(f"{self.card.name}: {error}{notes}") from error
        origin = f"{self.hub.hub_id} at revision {revision}"
        rows = []
        for number, (part, row) in enumerate(raw, start=1):
            try:
                rows.append(self.hub_row(part, row))
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise DataError(
                    f"{origin}, split {split!r}, row {number}: {type(error).__name__} {error}; the columns are "
                    f"{', '.join(row)}. The repository changed its form: report it"
                ) from error
        return rows, origin, {self.hub.hub_id: revision}
