"""A smoke run's settings: a profile's own, with a few steps, seeds and examples; params.yaml is never edited.

What decides whether a run fits a machine stays: batch size, lengths, precision, decoding, the methods. Schedules within
a training are shortened so that each event still happens: the warm-up is one step, then adapters are selected and
expanded, and at least one update follows. Examples are the odd rows of a corpus and its longest, then others by chance.
The profile is named smoke-<profile>, so every record, score and table says what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.shared.settings import Settings, load_settings
from replication.errors import ConfigError
from replication.fileio import write_text

PREFIX = "smoke-"
PARAMS = "params.yaml"
FIRST_SELECTION = 3
"""The earliest update after which importance weights have moved: a warm-up's first update has the rate 0."""
LEAST_STEPS = 5
"""A warm-up, the selection after update 3, an expansion after update 4, and an update of what is left."""


@dataclass(frozen=True)
class Size:
    """How much a smoke run does; ConfigError if a schedule would not fit."""

    steps: int
    seeds: int
    examples: int

    def __post_init__(self) -> None:
        if self.steps < LEAST_STEPS:
            raise ConfigError(
                f"--steps {self.steps}: too few for a selection and an expansion; use at least {LEAST_STEPS}"
            )
        for name in ("seeds", "examples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} {getattr(self, name)}: use at least 1")


def smoke_settings(settings: Settings, size: Size, threads: int) -> dict[str, Any]:
    """The content of a smoke run's params.yaml, which lies in the folder the stages run in."""
    content = settings.model_dump(mode="json")
    for row in content["experiments"].values():
        row |= {"seeds": row["seeds"][: size.seeds], "search": None}
    awaited = {row.rate_from for row in settings.experiments.values()}
    tasks = {key: _task(content["training"], task, size) for key, task in content["tasks"].items()}
    return {
        **content,
        "profile": PREFIX + settings.profile,
        "root": ".",
        "params_file": PARAMS,
        "threads": min(settings.threads, threads),
        "tasks": tasks,
        "training": _training(content["training"], content["training"], size),
        "methods": {
            method: {name: _schedule(values, size.steps) for name, values in named.items()}
            for method, named in content["methods"].items()
        },
        "search": {key: _search(plan, size) for key, plan in content["search"].items()},
        "searches": {key: case for key, case in content["searches"].items() if key in awaited},
        "memory": None,
        "deviations": [
            f"A smoke run of the profile {settings.profile}: {size.steps} steps on at most {size.examples} examples "
            "show that every stage works. Nothing is learned, no number here is a result."
        ],
    }


def write_smoke_settings(settings: Settings, size: Size, threads: int, folder: Path) -> Settings:
    """Write `folder`/params.yaml and read it back."""
    content = smoke_settings(settings, size, threads)
    write_text(folder / PARAMS, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return load_settings(folder / PARAMS)


def _search(plan: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """Two rates, each tried once on a few rows."""
    few = {"steps": size.steps, "held_out_examples": 1, "extensions": 0}
    return {**plan, "learning_rates": plan["learning_rates"][:2], "seeds": plan["seeds"][:1], **few}


def _task(shared: Mapping[str, Any], task: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """Few examples, but enough for one batch beside what a search holds out. An empty dev split stays empty."""
    training = _training({**shared, **task["training"]}, task["training"], size)
    batch = {**shared, **training}.get("batch_size", 8)
    limits = {"train_examples": max(size.examples, batch + batch // 2), "test_items": size.examples}
    if task["dev_examples"] is not None or task["form"] == "generation":
        limits["dev_examples"] = size.examples
    few = {name: limit if task[name] is None else min(limit, task[name]) for name, limit in limits.items()}
    return {**task, **few, "selection": "hardest", "training": training}


def _training(full: Mapping[str, Any], own: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """`own` with few steps; every interval comes at least once before the end. `full`: with the profile's defaults."""
    batch, accumulation = full.get("batch_size", 8), full.get("accumulation_steps", 1)
    half = size.steps // 2
    return {
        **own,
        "steps": size.steps,
        "warmup_steps": min(1, full.get("warmup_steps", 500)),
        "accumulation_steps": min(accumulation, max(1, size.examples // batch)),
        "eval_every": None if full.get("eval_every") is None else half,
        "checkpoint_every": None if full.get("checkpoint_every") is None else half,
        "log_every": 1,
    }


def _schedule(values: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """A method's settings whose events fall into `steps`: the selection about half-way, the expansions soon after."""
    selection = max(FIRST_SELECTION, steps // 2)
    first = values.get("selection_steps", 1) == 0  # then the first expansion is the selection
    every = selection if first else 1
    short = {
        "selection_steps": 0 if first else selection,
        "expand_every": every,
        "freeze_weights_after": selection,
        "reset_adapters_after": selection,
    }
    timed = {name for name, value in values.items() if isinstance(value, int | Mapping)}
    return {**values, **{name: step for name, step in short.items() if name in timed}}
