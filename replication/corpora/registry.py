"""Every task corpus by name: `load_corpus` reads it, `describe` returns its card without reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from replication.corpora import choices, e2e, glue, microworld, squad, summaries
from replication.corpora.assembly import RealCorpus
from replication.corpora.task_corpus import TaskCorpus
from replication.errors import ConfigError, DataError

REAL: dict[str, RealCorpus] = {**glue.CORPORA, **squad.CORPORA, **summaries.CORPORA, **choices.CORPORA}
EMBEDDED = microworld.NAMES
DESCRIPTIONS = {"e2e": (e2e.CARD, e2e.load), "microworld": (microworld.CARD, microworld.load_descriptions)}
"""Data-to-text corpora: their card, and what loads them."""
CORPORA = (*REAL, *EMBEDDED, *DESCRIPTIONS)


def load_corpus(name: str, source: str | Path | None = None) -> TaskCorpus:
    """The corpus `name`; `source` is a folder that is searched first for its files.

    ConfigError lists the valid names; DataError names file or repository, row, field and fix.
    """
    _check(name)
    if source is not None and not Path(source).is_dir():
        raise DataError(f"{source}: no such folder; pass the folder with the files of {name}, or no folder")
    if name in DESCRIPTIONS:
        return DESCRIPTIONS[name][1](source)
    if name in EMBEDDED:
        return microworld.load(name, None if source is None else Path(source))
    return REAL[name].load(source)


def describe(name: str) -> dict[str, Any]:
    """The card of a corpus (label, form, licence ...) as a JSON dict, without reading its rows."""
    _check(name)
    if name in DESCRIPTIONS:
        return DESCRIPTIONS[name][0].describe()
    if name in EMBEDDED:
        return microworld.card_of(name).describe()
    return REAL[name].card.describe()


def _check(name: str) -> None:
    if name not in CORPORA:
        raise ConfigError(f"corpus: unknown name {name!r}; the corpora are {', '.join(CORPORA)}")
