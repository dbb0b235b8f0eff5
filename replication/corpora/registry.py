"""Every task corpus by its name: `load_corpus` reads it, `describe` says what it is without reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from replication.corpora import choices, e2e, glue, microworld, squad, summaries
from replication.corpora.assembly import RealCorpus
from replication.corpora.task_corpus import TaskCorpus
from replication.errors import ConfigError, DataError

REAL: dict[str, RealCorpus] = {**glue.CORPORA, **squad.CORPORA, **summaries.CORPORA, **choices.CORPORA}
EMBEDDED = tuple(
    f"microworld_{task}"
    for task in (
        "acceptability",
        "sentiment",
        "paraphrase",
        "entailment",
        "similarity",
        "qa",
        "qa_unanswerable",
        "headlines",
        "choice",
    )
)
DESCRIPTIONS = {module.CARD.name: module for module in (e2e, microworld)}
"""Data-to-text corpora, each a module with a CARD and `load`."""
CORPORA = (*REAL, *EMBEDDED, *DESCRIPTIONS)


def load_corpus(name: str, source: str | Path | None = None) -> TaskCorpus:
    """The corpus `name`; `source` is the folder its files are looked up in before any other place.

    ConfigError lists the names where there is none such; DataError names file or repository, row, field and cure.
    """
    _check(name)
    if source is not None and not Path(source).is_dir():
        raise DataError(f"{source}: no such folder; give the folder that holds the files of {name}, or none")
    if name in DESCRIPTIONS:
        return DESCRIPTIONS[name].load(source)
    if name in EMBEDDED:
        from replication.corpora import microworld_tasks

        return microworld_tasks.load(name, None if source is None else Path(source))
    return REAL[name].load(source)


def describe(name: str) -> dict[str, Any]:
    """The card of a corpus (label, form, licence ...) as a JSON dict, without reading its rows."""
    _check(name)
    if name in DESCRIPTIONS:
        return DESCRIPTIONS[name].CARD.describe()
    if name in EMBEDDED:
        from replication.corpora import microworld_tasks

        return microworld_tasks.card_of(name).describe()
    return REAL[name].card.describe()


def _check(name: str) -> None:
    if name not in CORPORA:
        raise ConfigError(f"corpus: unknown name {name!r}; the corpora are {', '.join(CORPORA)}")
