"""Corpora from the Hugging Face hub at pinned revisions; a loading script is never run.

The only module that calls `datasets`. A repository whose main branch is a loading script is read from the hub's
own Parquet copy; the hub may rewrite that branch, so its commit is pinned on first use, in the folder that
downloads are kept in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from replication.corpora.fetch import asked_again, default_cache
from replication.errors import DataError
from replication.fileio import listed, read_json, write_json

PARQUET_REF = "refs/convert/parquet"
PINS = "hub_revisions.json"
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class HubCorpus:
    """A dataset repository; `splits` maps our split name to the hub's splits that make it, in order.

    `revision` None means the hub's Parquet copy, pinned on first use. `labels` are the class names that a column
    "label" must have, where the repository names them.
    """

    hub_id: str
    revision: str | None
    config: str | None
    splits: Mapping[str, tuple[str, ...]]
    labels: tuple[str, ...] | None = None

    def fix(self) -> str:
        """What to do if the hub cannot be reached."""
        return (
            f"load it once with access to https://huggingface.co/datasets/{self.hub_id}; it is then kept in the "
            "cache of `datasets` (HF_HOME)"
        )


def hub_rows(corpus: HubCorpus, split: str) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """([(hub split, raw row)] of our `split`, the revision); the columns keep the hub's names.

    DataError, with repository, revision, split and fix: not reachable, or not the pinned content.
    """
    import datasets

    revision = corpus.revision or _pinned_on_first_use(corpus)
    rows: list[tuple[str, dict[str, Any]]] = []
    for part in corpus.splits[split]:
        where = f"{corpus.hub_id} at revision {revision}, split {part!r}"
        try:
            load = partial(datasets.load_dataset, corpus.hub_id, corpus.config, split=part, revision=revision)
            loaded = asked_again(load)
        except Exception as error:  # datasets, hub and HTTP libraries each raise their own kinds
            raise DataError(f"{where}: cannot be loaded ({_reason(error)}). To fix it: {corpus.fix()}") from error
        _check_content(loaded, corpus, revision, where)
        rows.extend((part, dict(row)) for row in loaded)
    return rows, revision


def _check_content(loaded: Any, corpus: HubCorpus, revision: str, where: str) -> None:
    # Without a network `datasets` takes whatever revision its cache holds last; the cache's folder is the commit.
    others = {Path(file["filename"]).parent.name for file in loaded.cache_files} - {revision}
    if others:
        raise DataError(
            f"{where}: the cache of `datasets` returned {', '.join(sorted(others))} instead. To fix it: {corpus.fix()}"
        )
    names = getattr(loaded.features.get("label"), "names", None)
    if corpus.labels is not None and names is not None and tuple(names) != corpus.labels:
        raise DataError(
            f"{where}: column 'label' has the classes {listed(names)}, expected {', '.join(corpus.labels)} in this "
            "order; the repository changed its form: report it"
        )


def _pinned_on_first_use(corpus: HubCorpus) -> str:
    path = default_cache() / PINS
    pins = read_json(path) if path.exists() else {}
    if not isinstance(pins, dict) or not all(isinstance(pin, str) and _COMMIT.fullmatch(pin) for pin in pins.values()):
        raise DataError(f"{path}: not a commit for each repository; delete the file, it is then made anew")
    if corpus.hub_id not in pins:
        pins[corpus.hub_id] = _commit_of(corpus)
        write_json(path, pins)
    return str(pins[corpus.hub_id])


def _commit_of(corpus: HubCorpus) -> str:
    import huggingface_hub

    try:
        look_up = partial(huggingface_hub.HfApi().dataset_info, corpus.hub_id, revision=PARQUET_REF)
        commit = str(asked_again(look_up).sha)
        if not _COMMIT.fullmatch(commit):
            raise ValueError(f"the hub answered {commit[:80]!r}")
        return commit
    except Exception as error:  # as above
        raise DataError(
            f"{corpus.hub_id}: the commit of {PARQUET_REF} cannot be looked up ({_reason(error)}). "
            f"To fix it: connect to https://huggingface.co once; the commit is then kept in {default_cache() / PINS}"
        ) from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
