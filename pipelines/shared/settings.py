"""params.yaml as it is written: fields, types and the names that refer to each other.

Whether the values fit methods, forms and backbones is known once they are resolved (pipelines/shared/experiment.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from replication.errors import ConfigError
from replication.fileio import YamlLoader

BASELINE = "baseline"
"""The method that trains nothing (replication.methods.baseline)."""
REPORT = "report"
"""The stage without an instance: `replicate sweep` calls its cell so, and an experiment's cell by the experiment."""


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(
            f"the name {value[:120]!r} is not allowed; use letters, digits, '.', '_' and '-', at most 100, no '.' or "
            "'-' first"
        )
    return value


def _profile(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", value):
        raise ValueError(f"the name {value!r} is not allowed; use lower-case letters, digits and '-', a letter first")
    return value


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a number; give a number")
    return value


Name = Annotated[str, AfterValidator(_name)]
"""Part of a path: a file or folder has this name."""
Whole = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]


class Strict(BaseModel):
    """A section of params.yaml: unknown fields are refused, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Task(Strict):
    """One corpus and how much of it is used; `None` means all. `source` is what the prepare stage depends on.

    `form` is the form of the task (replication.tasks), `options` are that form's settings (of `generation`: over the
    profile's `decoding`). `training` overrides the profile's training settings for every method on this task.
    `dev_examples` of a corpus without a dev split besides the reported split are held out of the training
    split.
    """

    corpus: str
    source: str
    form: str = "generation"
    train_examples: Whole | None = Field(None, ge=1)
    dev_examples: Whole | None = Field(None, ge=1)
    test_items: Whole | None = Field(None, ge=1)
    selection_seed: Whole = 0
    selection: Literal["random", "hardest"] = "random"
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
    seed: Whole = 0
    pretraining: dict[str, Any] | None = None


class Search(Strict):
    """A plan of learning-rate search: the same candidates and the same number of steps for every method.

    Every candidate is tried with the first of `seeds`, the two best with the others too. The range is extended until
    the best rate has a worse one on both sides, at most `extensions` times.
    """

    learning_rates: tuple[Number, ...] = Field(min_length=2)
    steps: Whole = Field(ge=1)
    held_out_examples: Whole = Field(ge=1)
    seeds: tuple[Whole, ...] = Field(min_length=1)
    extensions: Whole = Field(6, ge=0)

    @model_validator(mode="after")
    def _ascending(self) -> Search:
        if list(self.learning_rates) != sorted(set(self.learning_rates)):
            raise ValueError("learning_rates must ascend without repeats")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be distinct")
        return self


class Row(Strict):
    """Common fields of an experiment and a search case: a backbone, a task and a method with named settings."""

    backbone: str
    task: str
    method: str
    settings: str


class SearchCase(Row):
    """One method whose learning rate is searched by `plan`, on a held-out part of one task's training split."""

    plan: str

    @model_validator(mode="after")
    def _something_to_search(self) -> SearchCase:
        if self.method == BASELINE:
            raise ValueError(f"method {BASELINE} has no learning rate to search")
        return self


class Searched(Strict):
    """A learning rate that is read from the result of a case under `searches`, which runs before the experiment."""

    search: str


def _rate(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {"search"} and isinstance(value["search"], str):
        return Searched(search=value["search"])
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or isinstance(value, Searched) or (number and 0 < value < math.inf):
        return value
    raise ValueError(
        f"{value!r} is no learning rate; give a number above 0, or {{search: case}} with a name of searches"
    )


class ExperimentRow(Row):
    """One row of the table: backbone x task x method, with every seed it is run with.

    `learning_rate` is a number, or {search: case}: the rate that the case's result has. `search` names the case that
    chose a number; None: a recipe's rate, or nothing to choose.
    `training_seed`: every run trains with this seed, and `seeds` only draw the adapters (random_lora); None: a run's
    seed decides both.
    A baseline, which trains nothing, has the learning rate None; every other method needs one.
    """

    learning_rate: Annotated[float | Searched | None, BeforeValidator(_rate)]
    search: str | None = None
    seeds: tuple[Whole, ...] = Field(min_length=1)
    training_seed: Whole | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _distinct_seeds(self) -> ExperimentRow:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be distinct")
        return self

    @model_validator(mode="after")
    def _rate_where_something_trains(self) -> ExperimentRow:
        if self.method == BASELINE and (self.learning_rate, self.search) != (None, None):
            raise ValueError(f"learning_rate and search of method {BASELINE} must be null: it trains nothing")
        if self.method != BASELINE and self.learning_rate is None:
            raise ValueError(f"learning_rate is null, which only method {BASELINE} may have")
        if isinstance(self.learning_rate, Searched) and self.search is not None:
            raise ValueError("search stands twice: in learning_rate, which takes the result, and beside it; keep one")
        return self

    @property
    def rate_from(self) -> str | None:
        """The case whose result is the learning rate; None if the rate is a number or nothing trains."""
        return self.learning_rate.search if isinstance(self.learning_rate, Searched) else None

    @property
    def case(self) -> str | None:
        """The case under `searches` that chose the rate, before the run or in it."""
        return self.rate_from or self.search


class Memory(Strict):
    """What `make memory` measures: phase 2 of one WeightLoRA experiment for each K, on batches of one shape, each in so
    many fresh processes.
    """

    experiment: str
    keep: tuple[Whole, ...] = Field(min_length=1)
    batch_size: Whole = Field(ge=1)
    length: Whole = Field(ge=1)
    repeats: Whole = Field(5, ge=1)


class Settings(Strict):
    """A whole params.yaml. `methods` holds each method's named settings."""

    profile: Annotated[str, AfterValidator(_profile)]
    root: str
    params_file: str
    threads: Whole = Field(ge=1)
    tasks: dict[Name, Task]
    backbones: dict[Name, BackboneSettings]
    training: dict[str, Any]
    decoding: dict[str, Any]
    methods: dict[Name, dict[Name, dict[str, Any]]]
    search: dict[Name, Search] = {}
    searches: dict[Name, SearchCase] = {}
    memory: Memory | None = None
    deviations: tuple[str, ...] = ()
    track: tuple[Literal["dvclive", "tensorboard"], ...] = ()
    experiments: dict[Name, ExperimentRow]

    @model_validator(mode="after")
    def _no_name_of_a_cell(self) -> Settings:
        if REPORT in self.experiments:
            raise ValueError(f"experiments.{REPORT}: this is the name of a stage; choose another")
        return self

    @model_validator(mode="after")
    def _known_names(self) -> Settings:
        sections: tuple[tuple[str, Mapping[str, Row]], ...] = (
            ("experiments", self.experiments),
            ("searches", self.searches),
        )
        for section, entries in sections:
            for key, entry in entries.items():
                self._known(f"{section}.{key}.task", entry.task, "tasks", self.tasks)
                self._known(f"{section}.{key}.backbone", entry.backbone, "backbones", self.backbones)
                self._known(f"{section}.{key}.method", entry.method, "methods", self.methods)
                named = self.methods[entry.method]
                self._known(f"{section}.{key}.settings", entry.settings, f"methods.{entry.method}", named)
        for key, case in self.searches.items():
            self._known(f"searches.{key}.plan", case.plan, "search", self.search)
        for key, experiment in self.experiments.items():
            if experiment.case is not None:
                self._known(f"experiments.{key}.search", experiment.case, "searches", self.searches)
            if experiment.rate_from is not None:
                self._same_method(key, experiment, self.searches[experiment.rate_from])
        return self

    @staticmethod
    def _same_method(key: str, experiment: ExperimentRow, case: SearchCase) -> None:
        """A rate is taken over only from a search of the same backbone, method and settings."""
        for field in ("backbone", "method", "settings"):
            if getattr(experiment, field) != getattr(case, field):
                raise ValueError(
                    f"experiments.{key}.learning_rate: searches.{experiment.rate_from} has "
                    f"{field}={getattr(case, field)}, the experiment {getattr(experiment, field)}; name a case with "
                    "the same backbone, method and settings"
                )

    @staticmethod
    def _known(field: str, value: str, section: str, names: Mapping[str, Any]) -> None:
        if value not in names:
            raise ValueError(f"{field}={value}: {section} has {sorted(names)}")

    def experiment(self, key: str) -> ExperimentRow:
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
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; the profiles' are params.yaml, pipelines/cpu/params.yaml and "
                          "pipelines/paper/params.yaml") from None  # fmt: skip
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a profile's params.yaml") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(map(_fault, error.errors()))}") from error


class _UniqueKeys(YamlLoader):
    """A duplicate key is an error: YAML's own readers silently keep the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping as written; a ComposerError names a duplicate key and both lines."""
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if (key.tag, key.value) in seen:
                before = seen[key.tag, key.value]
                problem = f"line {line}: the key {key.value!r} is already at line {before}; remove one of them"
                raise yaml.composer.ComposerError(problem=problem)
            seen[key.tag, key.value] = line
        return node


def _fault(fault: Any) -> str:
    """One wrong field in one line."""
    location = ".".join(str(part) for part in fault["loc"] if part != "[key]") or "file"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = f"unknown field; valid fields: {', '.join(_section(fault['loc'][:-1]).model_fields)}"
    if fault["type"] == "tuple_type":
        message = "give a list, such as [1, 2]"
    return " ".join(f"{location}: {message}".split())


def _section(location: tuple[str | int, ...]) -> type[BaseModel]:
    """The model of the section at `location`."""
    kind: Any = Settings
    for part in location:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            annotation = kind.model_fields[part].annotation
            models = [one for one in get_args(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
            kind = annotation if get_origin(annotation) is dict or not models else models[0]
    return kind
