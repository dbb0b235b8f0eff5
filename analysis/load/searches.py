"""Learning-rate searches and memory measurements of a profile.

`searches/<profile>/<case>.json` holds the trials of a search and how each experiment's rate was found;
`measurements/<profile>/memory.json` holds the peak memory of phase 2 at several K, each measured in several fresh
processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from analysis.load.names import method_key, task_name
from analysis.load.paper_files import first_fault
from analysis.load.runs import Experiment
from replication.errors import DataError
from replication.fileio import read_json
from replication.records import RunRecord


class Candidate(BaseModel):
    """One learning rate of a search; no loss where training diverged."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    learning_rate: float
    held_out_loss: float | None


class Search(BaseModel):
    """One search: backbone, task, method, settings, length, trials and the best rate."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    tried: tuple[Candidate, ...]
    learning_rates: tuple[float, ...] = ()
    best: float | None
    backbone: str | None = None
    task: str | None = None
    method: str | None = None
    settings: dict[str, Any] = {}
    steps: int | None = None
    reason: str | None = None

    @property
    def at_edge(self) -> bool:
        """Whether the best is the smallest or the largest that was tried: one beyond might be better still."""
        rates = sorted(candidate.learning_rate for candidate in self.tried)
        return len(rates) > 1 and self.best in (rates[0], rates[-1])


def read_searches(directory: str | Path | None) -> tuple[dict[str, Search], list[str]]:
    """Every `<case>.json` of one profile's folder (`searches/quick`), by case, and what could not be read."""
    searches, broken = {}, []
    for path in sorted(Path(directory).glob("*.json")) if directory is not None else ():
        try:
            searches[path.stem] = Search.model_validate(read_json(path))
        except DataError as error:
            broken.append(str(error))
        except ValidationError as error:
            broken.append(f"{path}, {first_fault(error)}")
    return searches, broken


def case_of(experiment: Experiment, searches: Mapping[str, Search]) -> str | None:
    """The search for an experiment's learning rate; None if there is none.

    The case that the plan names, or the one named like the experiment; else, of the cases with the same backbone and
    method, one with the same settings rather than others, on the same task rather than another.
    """
    named = experiment.planned.search if experiment.planned else None
    for name in (named, experiment.name):
        if name is not None and name in searches:
            return name
    record = experiment.record
    if record is None:
        return None
    config = record.method_config
    alike = [
        (not _same_settings(search.settings, record), search.task != record.task, name)
        for name, search in searches.items()
        if search.backbone == record.backbone
        and method_key(search.method or "", search.settings) == method_key(record.method, config)
    ]
    return min(alike)[2] if alike else None


def rate_found(experiment: Experiment, searches: Mapping[str, Search]) -> str:
    """How the learning rate was found, in a few words: `searched on CoLA, the best of 4`."""
    name, record = case_of(experiment, searches), experiment.record
    if record is not None and record.method == "baseline":
        return "nothing is trained"
    if name is None or record is None:
        return "given, not searched"
    search = searches[name]
    if not search.tried:
        return search.reason or "given, not searched"
    where = "here" if search.task in (None, record.task) else f"on {task_name(search.task or '')}"
    other = "" if not search.settings or _same_settings(search.settings, record) else ", with other settings"
    used, best = record.training.get("learning_rate"), search.best
    if best is None or used is None or abs(used - best) > 1e-9 * abs(best):
        chosen = "none" if best is None else f"{best:g}"
        return f"searched {where}{other}, whose best of {len(search.tried)} is {chosen}"
    return f"searched {where}{other}, the best of {len(search.tried)}"


def unequal_searches(experiments: Sequence[Experiment], searches: Mapping[str, Search]) -> list[str]:
    """Warnings where methods of one backbone and task had unequal numbers of first candidates; where a search does not
    list them, its trials count, and a difference of one is fair, since a winner at an edge got one more.
    """
    counts: dict[tuple[str | None, str | None], dict[str, int]] = {}
    for name in {case for experiment in experiments if (case := case_of(experiment, searches))}:
        search = searches[name]
        if search.tried:
            tried = len(search.learning_rates or search.tried)
            counts.setdefault((search.backbone, search.task), {})[name] = tried
    return [
        f"Unequal searches on {task or 'one task'}: "
        + ", ".join(f"{name} tried {count} rates" for name, count in sorted(found.items()))
        + "."
        for (_, task), found in sorted(counts.items(), key=str)
        if max(found.values()) - min(found.values()) > 1
    ]


def _same_settings(settings: Mapping[str, Any], record: RunRecord) -> bool:
    """Whether every setting that the search names has the run's value."""
    rest = {name: value for name, value in settings.items() if name != "init_seed"}
    return _within(rest, record.method_config)


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, Mapping) and isinstance(whole, Mapping):
        return all(name in whole and _within(value, whole[name]) for name, value in part.items())
    if isinstance(part, list | tuple) and isinstance(whole, list | tuple):
        return list(part) == list(whole)
    return bool(part == whole)


class MemoryRow(BaseModel):
    """At one K: peak bytes of phase 2 from a checkpoint, in several fresh processes; bytes of the model at rest."""

    model_config = ConfigDict(frozen=True)

    keep: int = Field(ge=1)
    phase2_peaks_bytes: tuple[PositiveInt, ...] = Field(min_length=1)
    baseline_bytes: int | None = Field(None, ge=0)


class Memory(BaseModel):
    """One series of measurements on one backbone, and as many peaks of training every adapter."""

    model_config = ConfigDict(frozen=True)

    backbone: str
    batch: int
    length: int
    rank: int | None = None
    adapters: int | None = None
    all_adapters_peaks_bytes: tuple[PositiveInt, ...] = ()
    rows: tuple[MemoryRow, ...] = Field(min_length=1)


def read_memory(directory: str | Path | None) -> tuple[Memory | None, list[str]]:
    """memory.json of one profile's folder (`measurements/quick`), rows by K; None, and why, where there is none."""
    path = Path(directory) / "memory.json" if directory is not None else None
    if path is None or not path.is_file():
        return None, []
    try:
        memory = Memory.model_validate(read_json(path))
    except DataError as error:
        return None, [str(error)]
    except ValidationError as error:
        return None, [f"{path}, {first_fault(error)}"]
    return memory.model_copy(update={"rows": tuple(sorted(memory.rows, key=lambda row: row.keep))}), []
