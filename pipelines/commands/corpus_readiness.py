"""Which corpora of a profile are present, which can be downloaded, and which cannot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipelines.commands.findings import Finding, Probe, over_network
from pipelines.shared.paths import prepared_directory
from pipelines.shared.settings import Settings, Task
from replication.corpora import e2e, microworld, source_table
from replication.corpora.assembly import RealCorpus
from replication.corpora.fetch import MIRROR_VARIABLE, find_local
from replication.corpora.hub import PARQUET_REF
from replication.corpora.registry import EMBEDDED, REAL
from replication.fileio import sha256_file


def corpus_findings(root: Path, tasks: list[tuple[str, Task]], pipeline: str, probe: Probe | None) -> list[Finding]:
    """One finding for each folder of embedded files, for E2E, and for each family of task corpora."""
    found: dict[str, Finding] = {}
    families: dict[str, dict[str, str]] = {}
    for key, task in tasks:
        prepare = f"dvc repro {pipeline}:prepare@{key}" if pipeline else f"dvc repro prepare@{key}"
        if task.corpus == "microworld" or task.corpus in EMBEDDED:
            hashes = microworld.DEFAULT_SHA256 if task.corpus == "microworld" else microworld.TASKS_SHA256
            found.setdefault(task.source, embedded_corpus(root / task.source, task.source, hashes))
        elif task.corpus == "e2e":
            found[task.corpus] = e2e_corpus(prepare, probe)
        else:
            families.setdefault(_family(task.corpus), {}).setdefault(task.corpus, prepare)
    return [*found.values(), *(task_corpora(name, members, probe) for name, members in families.items())]


def _family(corpus: str) -> str:
    """Where a corpus comes from, as a short name: its hub repository, or its own name if it cannot be downloaded."""
    hub = REAL[corpus].hub
    if hub is None:
        return corpus if REAL[corpus].unobtainable() else "parts of corpora"
    return hub.hub_id.rpartition("/")[2]


def embedded_corpus(folder: Path, shown: str, hashes: Mapping[str, str]) -> Finding:
    """An embedded corpus, tracked by data.dvc; its files are checked by sha256."""
    pull = ("dvc pull data.dvc",)
    absent = [name for name in hashes if not (folder / name).is_file()]
    if absent:
        text = f"{shown}: absent: {', '.join(absent)}; `make reproduce` brings it from the repository"
        return Finding(folder.name, "pipeline", text, pull)
    changed = [name for name in hashes if sha256_file(folder / name) != hashes[name]]
    if changed:
        pull = ("dvc checkout --force data.dvc",)
        return Finding(folder.name, "limited", f"{shown}: {', '.join(changed)} changed since data.dvc", pull)
    return Finding(folder.name, "ok", f"{shown}, embedded synthetic corpus")


def task_corpora(name: str, members: Mapping[str, str], probe: Probe | None) -> Finding:
    """A family of task corpora: files by sha256, or the hub; `members` maps each to the stage that prepares it."""
    absent = [corpus for corpus in members if not files_found(corpus)]
    if not absent:
        return Finding(name, "ok", "found by sha256")
    first = REAL[absent[0]]
    if unavailable := first.unobtainable():
        text = "cannot be downloaded; its task is skipped, the others run"
        return Finding(name, "limited", text, (f"export {MIRROR_VARIABLE}=<folder with {', '.join(unavailable)}>",))
    fix = (f"{members[absent[0]]}  # with network",)
    if first.hub is None:
        answers = [_first_refusal(probe, REAL[corpus]) for corpus in absent] if probe else []
        where = f"{len(absent)} of {len(members)} not found by sha256; each has its own URL"
        answer = next((answer for answer in answers if answer is not None), None)
        return over_network(name, where, fix, answer, asked=probe is not None)
    where = f"{len(absent)} of {len(members)} not found by sha256; on the hub" if len(members) > 1 else "on the hub"
    answer = probe.dataset(first.hub.hub_id, first.hub.revision or PARQUET_REF) if probe else None
    return over_network(name, where, fix, answer, asked=probe is not None)


def unobtainable_tasks(settings: Settings, root: Path = Path()) -> dict[str, tuple[str, ...]]:
    """Tasks whose corpus cannot be downloaded, with the missing files; tasks already prepared are left out."""
    found = {}
    for key, task in settings.tasks.items():
        source = root / task.source
        files = REAL[task.corpus].unobtainable(source if source.is_dir() else None) if task.corpus in REAL else ()
        if files and not (root / prepared_directory(settings.profile, key) / "corpus.json").is_file():
            found[key] = files
    return found


def _first_refusal(probe: Probe, corpus: RealCorpus) -> str | None:
    """Why one of the missing files cannot be downloaded; None if all can."""
    files = [source_table.FILES[file] for file, _ in corpus.files.values()]
    answers = [probe.url(file.url) for file in files if file.url and not file.find(None)]
    return next((answer for answer in answers if answer is not None), None)


def files_found(corpus: str) -> bool:
    """Whether every file of a corpus is present; False for one that is only on the hub."""
    files = [source_table.FILES[file] for file, _ in REAL[corpus].files.values()]
    return bool(files) and all(file.find(None) for file in files)


def e2e_corpus(prepare: str, probe: Probe | None) -> Finding:
    """The official E2E release, by sha256."""
    found = find_local(e2e.NAME, e2e.SHA256, size=e2e.SIZE_BYTES)
    mirror = os.environ.get(MIRROR_VARIABLE)
    if found is not None:
        inside = mirror is not None and found.resolve().is_relative_to(Path(mirror).expanduser().resolve())
        return Finding("e2e", "ok", f"found by sha256 in {MIRROR_VARIABLE}" if inside else "in the download cache")
    where = "not in the cache"
    if mirror:
        where += f"; {MIRROR_VARIABLE} {'does not have it' if Path(mirror).is_dir() else 'is not a folder'}"
    offline = f"export {MIRROR_VARIABLE}=<folder with {e2e.NAME}>  # without network"
    fix = (f"{prepare}  # with network", offline)
    return over_network("e2e", where, fix, probe.url(e2e.URL) if probe else None, asked=probe is not None)
