"""What params.yaml may say. Everything is checked here, once, before a stage does any work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from replication.errors import ConfigError

BASELINE = "baseline"
"""The method that trains nothing (replication.methods.baseline)."""


class Strict(BaseModel):
    """A section of params.yaml: unknown fields are refused, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Task(Strict):
    """One corpus and how much of it is used; `None` means all. `source` is what the prepare stage depends on.

    `form` is the shape of the task (replication.tasks), `options` are that form's settings (of `generation`: over the
    profile's `decoding`). `training` overrides the profile's training settings for every method on this task alike.
    `dev_examples` of a corpus without a dev split of its own beside the reported one are held out of the training
    split.
    """

    corpus: str
    source: str
    form: str = "generation"
    train_examples: int | None = Field(None, ge=1)
    dev_examples: int | None = Field(None, ge=1)
    test_items: int | None = Field(None, ge=1)
    selection_seed: int = 0
    options: dict[str, Any] = {}
    training: dict[str, Any] = {}

    @model_validator(mode="after")
    def _shared_settings_only(self) -> Task:
        if "learning_rate" in self.training:
            raise ValueError("training.learning_rate: belongs to an experiment, where the search's choice is recorded")
        return self


class BackboneSettings(Strict):
    """Where a backbone's weights come from. `pretraining` is given for backbones that are trained here."""

    source: str
    seed: int = 0
    pretraining: dict[str, Any] | None = None


class Search(Strict):
    """A plan of learning-rate search: the same candidates and the same number of steps for every method.

    Every candidate is tried with the first of `seeds`, the two best with the others too. The range is extended until
    the best rate has a worse one on both sides, at most `extensions` times.
    """

    learning_rates: tuple[float, ...] = Field(min_length=2)
    steps: int = Field(ge=1)
    held_out_examples: int = Field(ge=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    extensions: int = Field(6, ge=0)

    @model_validator(mode="after")
    def _ascending(self) -> Search:
        if list(self.learning_rates) != sorted(set(self.learning_rates)):
            raise ValueError("learning_rates must ascend without repeats")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be distinct")
        return self


class SearchCase(Strict):
    """One method whose learning rate is searched by `plan`, on a held-out part of one task's training split."""

    plan: str
    backbone: str
    task: str
    method: str
    settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _something_to_search(self) -> SearchCase:
        if self.method == BASELINE:
            raise ValueError(f"method {BASELINE} has no learning rate to search")
        return self


class Experiment(Strict):
    """One row of the table: backbone x task x method, with every seed it is run with.

    `search` names the case under `searches` that chose the learning rate; None: a recipe's rate, or nothing to choose.
    `training_seed`: every run trains with this seed, and `seeds` only draw the adapters (random_lora); None: a run's
    seed decides both.
    A baseline, which trains nothing, has the learning rate None; every other method needs one.
    """

    backbone: str
    task: str
    method: str
    settings: dict[str, Any] = {}
    learning_rate: float | None = Field(gt=0)
    search: str | None = None
    seeds: tuple[int, ...] = Field(min_length=1)
    training_seed: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Experiment:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be distinct")
        return self

    @model_validator(mode="after")
    def _rate_where_something_trains(self) -> Experiment:
        if self.method == BASELINE and (self.learning_rate, self.search) != (None, None):
            raise ValueError(f"learning_rate and search of method {BASELINE} must be null: it trains nothing")
        if self.method != BASELINE and self.learning_rate is None:
            raise ValueError(f"learning_rate is null, which only method {BASELINE} may have")
        return self


class Memory(Strict):
    """What `make memory` measures: phase 2 of one WeightLoRA experiment for each K, on batches of one shape."""

    experiment: str
    keep: tuple[int, ...] = Field(min_length=1)
    batch_size: int = Field(ge=1)
    length: int = Field(ge=1)


class Settings(Strict):
    """A whole params.yaml."""

    profile: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    root: str
    params_file: str
    threads: int = Field(ge=1)
    tasks: dict[str, Task]
    backbones: dict[str, BackboneSettings]
    training: dict[str, Any]
    decoding: dict[str, Any]
    search: dict[str, Search] = {}
    searches: dict[str, SearchCase] = {}
    memory: Memory | None = None
    deviations: tuple[str, ...] = ()
    experiments: dict[str, Experiment]

    @model_validator(mode="after")
    def _known_names(self) -> Settings:
        for section, entries in (("experiments", self.experiments), ("searches", self.searches)):
            for key, entry in entries.items():
                self._known(f"{section}.{key}.task", entry.task, "tasks", self.tasks)
                self._known(f"{section}.{key}.backbone", entry.backbone, "backbones", self.backbones)
        for key, case in self.searches.items():
            self._known(f"searches.{key}.plan", case.plan, "search", self.search)
        for key, experiment in self.experiments.items():
            if experiment.search is not None:
                self._known(f"experiments.{key}.search", experiment.search, "searches", self.searches)
        return self

    @staticmethod
    def _known(field: str, value: str, section: str, names: Mapping[str, Any]) -> None:
        if value not in names:
            raise ValueError(f"{field}={value}: {section} has {sorted(names)}")

    def experiment(self, key: str) -> Experiment:
        """The experiment named `key`; ConfigError lists the names there are."""
        return self._named("experiments", self.experiments, key)

    def search_case(self, key: str) -> SearchCase:
        """The search named `key`; ConfigError lists the names there are."""
        return self._named("searches", self.searches, key)

    def task(self, key: str) -> Task:
        """The task named `key`; ConfigError lists the names there are."""
        return self._named("tasks", self.tasks, key)

    def backbone(self, key: str) -> BackboneSettings:
        """The backbone named `key`; ConfigError lists the names there are."""
        return self._named("backbones", self.backbones, key)

    def _named(self, section: str, values: dict[str, Any], key: str) -> Any:
        if key not in values:
            raise ConfigError(
                f"{self.params_file}: no {key!r} under {section}; there are: {', '.join(values) or 'none'}"
            )
        return values[key]


def load_settings(path: str | Path) -> Settings:
    """Read and check a params.yaml. ConfigError names the file, each wrong field, and what was expected there."""
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; the profiles' are params.yaml, pipelines/cpu/params.yaml and "
                          "pipelines/paper/params.yaml") from None  # fmt: skip
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from error
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"{path}: {faults}") from error
