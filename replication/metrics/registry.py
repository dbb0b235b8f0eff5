"""Finding metrics: every file of this folder that assigns `METRIC` is one, and is imported lazily.

There is no list to edit. A folder elsewhere joins by `replication.metrics.__path__.append(folder)`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from replication.errors import ConfigError
from replication.metrics.metric import Metric

_ASSIGNED = re.compile(r"^METRIC\b", re.MULTILINE)


def files() -> dict[str, Path]:
    """File name without suffix -> path of each metric, in alphabetical order."""
    return dict(_files(_folders()))


def find(file: str) -> Metric:
    """The metric of one file (`bleu` for bleu.py), nothing else imported; ConfigError lists the valid names."""
    known = files()
    if file not in known:
        helper = next((path for folder in _folders() if (path := Path(folder) / f"{file}.py").is_file()), None)
        why = f"{helper} assigns no METRIC" if helper else f"no file {file}.py in {' or '.join(_folders())}"
        raise ConfigError(f"metric {file!r}: {why}; metrics are: {', '.join(known)}")
    return _load(file, known[file])


def reported(protocol: str) -> tuple[Metric, ...]:
    """The metrics of a protocol in table order; ConfigError lists the valid protocols, or names two files at odds."""
    found = {
        file: metric
        for file, metric in _all().items()
        if any(protocol in protocols for protocols in metric.reported_for.values())
    }
    if not found:
        known = sorted({name for metric in _all().values() for names in metric.reported_for.values() for name in names})
        raise ConfigError(f"metric {protocol!r} is unknown; known are: {', '.join(known)}")
    named: dict[str, str] = {}
    for file, metric in found.items():
        if metric.name in named:
            raise ConfigError(f"{protocol}: {named[metric.name]}.py and {file}.py are both called {metric.name}")
        named[metric.name] = file
    leaders = [file for file, metric in found.items() if metric.leads_in(protocol)]
    if len(leaders) != 1:
        which = " and ".join(f"{file}.py" for file in leaders) or "none"
        raise ConfigError(f"{protocol}: one of its metrics leads, not {which}; its files are {', '.join(found)}")
    return tuple(sorted(found.values(), key=lambda metric: (metric.position, metric.name)))


def leading(protocol: str) -> Metric:
    """The metric of a protocol that curves, searches and verdicts look at."""
    return next(metric for metric in reported(protocol) if metric.leads_in(protocol))


def protocols(form: str) -> tuple[str, ...]:
    """The protocols of a task form, sorted; empty for a form without any."""
    return tuple(sorted({name for metric in _all().values() for name in metric.reported_for.get(form, ())}))


def named(name: str, form: str, protocol: str | None = None) -> Metric:
    """The metric that a run of a task form calls `name` in its scores.json.

    `protocol` is needed where the form's protocols mean different things by one name (f1 of squad_v1 and squad_v2).
    ConfigError lists the valid names.
    """
    possible = (protocol,) if protocol else protocols(form)
    candidates = {
        file: metric for file, metric in _all().items() if set(possible) & set(metric.reported_for.get(form, ()))
    }
    found = [metric for metric in candidates.values() if metric.name == name]
    if len(found) == 1:
        return found[0]
    where = f"form {form}" + (f", protocol {protocol}" if protocol else "")
    if found:
        raise ConfigError(f"metric {name!r} of {where} depends on the protocol, one of {', '.join(possible)}")
    valid = ", ".join(dict.fromkeys(metric.name for metric in candidates.values())) or "none"
    raise ConfigError(
        f"metric {name!r} of {where}: no file in {' or '.join(_folders())} defines it; valid names: {valid}"
    )


def names(form: str) -> tuple[str, ...]:
    """Names of the metrics of a task form, each once."""
    metrics = sorted((m for m in _all().values() if form in m.reported_for), key=lambda m: (m.position, m.name))
    return tuple(dict.fromkeys(metric.name for metric in metrics))


def label_of(name: str) -> str | None:
    """Display name of the metrics of this name; None if no metric has it."""
    return next((metric.label for metric in _all().values() if metric.name == name), None)


def _folders() -> tuple[str, ...]:
    return tuple(import_module("replication.metrics").__path__)


@lru_cache(maxsize=8)
def _files(folders: tuple[str, ...]) -> tuple[tuple[str, Path], ...]:
    paths = {path.stem: path for folder in reversed(folders) for path in Path(folder).glob("*.py")}
    return tuple((file, paths[file]) for file in sorted(paths) if _ASSIGNED.search(paths[file].read_text("utf-8")))


def _all() -> dict[str, Metric]:
    return {file: _load(file, path) for file, path in files().items()}


def _load(file: str, path: Path) -> Metric:
    metric = getattr(import_module(f"replication.metrics.{file}"), "METRIC", None)
    if not isinstance(metric, Metric):
        raise ConfigError(f"{path}: METRIC is {type(metric).__name__}; it must be an instance of a subclass of Metric")
    absent = [field for field in ("name", "label", "scale", "reported_for") if not getattr(metric, field, None)]
    if absent:
        raise ConfigError(f"{path}: METRIC has no {absent[0]}; a metric states name, label, scale and reported_for")
    wanted = ("official",) if metric.resampled == "no" else ("item_statistics", "score")
    for method in wanted:
        if getattr(type(metric), method) is getattr(Metric, method):
            raise ConfigError(f"{path}: METRIC has no method {method}, which resampled={metric.resampled!r} needs")
    if metric.direction not in ("higher", "lower"):
        raise ConfigError(f"{path}: METRIC.direction is {metric.direction!r}; valid are 'higher' and 'lower'")
    return metric
