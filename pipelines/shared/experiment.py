"""One experiment, resolved once from params.yaml: everything a stage needs, checked, and passed down.

Building one touches no data and no weights, so the commands of every profile can be checked anywhere. `described` needs
no torch; `resolve` and `resolve_search` also check the method, which does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.shared.code import made_by
from pipelines.shared.paths import (
    gold_path,
    prepared_directory,
    prepared_hashes,
    search_path,
    weights_directory,
    weights_sha256,
)
from pipelines.shared.settings import BASELINE, Row, Search, Searched, Settings
from replication.backbones import Backbone, get_backbone
from replication.corpora.registry import describe
from replication.errors import AdapterError, ConfigError
from replication.fileio import read_json
from replication.records import versions
from replication.tasks import Options, TaskForm, get_form
from replication.training.config import TrainingConfig

if TYPE_CHECKING:
    from replication.methods import MethodConfig
    from replication.methods.baseline import BaselineConfig

OF_STEPS = "of_steps"
"""A setting {of_steps: 0.2} is this part of the training length, rounded."""


@dataclass(frozen=True)
class Experiment:
    """Backbone x task x method with its seeds. Paths are relative to the project's root, where every stage runs.

    `where`: file and field, for messages. `corpus`: the card of the task's corpus. `search`: the plan of a case under
    `searches`, and then `training` has its length and its first rate. `rate_from`: the case whose result is the rate;
    while it has not run, `learning_rate` is None and `training` has the first rate of its plan.
    """

    profile: str
    key: str
    params_file: str
    where: str
    threads: int
    backbone: Backbone
    task: str
    corpus: Mapping[str, Any]
    form: TaskForm
    options: Options
    method: str
    settings_name: str
    settings: Mapping[str, Any]
    learning_rate: float | None
    training: TrainingConfig
    seeds: tuple[int, ...]
    training_seeds: Mapping[int, int]
    search: Search | None = None
    rate_from: str | None = None
    separate_training: bool = field(default=False)
    track: tuple[str, ...] = ()

    @property
    def prepared(self) -> Path:
        """Folder of the prepared task."""
        return prepared_directory(self.profile, self.task)

    @property
    def gold(self) -> Path:
        """File with the truth of each reported item."""
        return gold_path(self.profile, self.task)

    @property
    def weights(self) -> Path:
        """Folder of the backbone's weights."""
        return weights_directory(self.backbone.name)

    @property
    def run(self) -> Path:
        """Folder of everything the experiment writes."""
        return Path("runs") / self.profile / self.key

    @property
    def scratch(self) -> Path:
        """Checkpoints and finished seeds of a stage that has not ended yet."""
        return Path("checkpoints") / self.profile / self.key

    @property
    def logs(self) -> Path:
        """What trackers write: no output, since no result depends on it."""
        return Path("logs") / self.profile / self.key

    @property
    def lock(self) -> Path:
        """Held by the process that trains, predicts or searches."""
        return self.scratch / "lock"

    @property
    def num_labels(self) -> int:
        """Outputs of the task head."""
        return self.form.num_labels(self.corpus)

    @property
    def where_method(self) -> str:
        """File, field and named settings, for messages about the method."""
        return f"{self.where}: methods.{self.method}.{self.settings_name}"

    def code(self, stage: str) -> str:
        """Hash of the code with which `stage` makes this experiment's results."""
        return made_by(self.params_file, stage, self.method)

    @property
    def baseline(self) -> BaselineConfig | None:
        """The configuration of a baseline, which trains nothing and attaches nothing; None for any other method."""
        from replication.methods.baseline import BaselineConfig

        config = self.methods[self.seeds[0]]
        return config if isinstance(config, BaselineConfig) else None

    @cached_property
    def methods(self) -> dict[int, MethodConfig]:
        """The method's configuration by seed, with its start values drawn from the seed where it has random ones."""
        return {seed: self._method(seed) for seed in self.seeds}

    def _method(self, seed: int) -> MethodConfig:
        from replication.methods import method_config

        try:
            known = asdict(method_config(self.method, **self.settings))
            settings = dict(self.settings)
            if self.separate_training:
                if "selection_seed" not in known or "selection_seed" in settings:
                    raise ConfigError(
                        f"training_seed={self.training_seeds[seed]}: {self.method} draws nothing else from a run's "
                        "seed; remove it (it is for random_lora without a selection_seed)"
                    )
                settings["selection_seed"] = seed
            if "init_seed" in known and "init_seed" not in settings:
                settings["init_seed"] = self.training_seeds[seed]
            return method_config(self.method, **settings)
        except (TypeError, ConfigError) as error:
            raise ConfigError(f"{self.where_method}: {error}") from error

    def require_rate(self) -> None:
        """ConfigError if the search that gives the learning rate has not run."""
        if self.rate_from is not None and self.learning_rate is None:
            raise ConfigError(
                f"{self.where}.learning_rate: {search_path(self.profile, self.rate_from)} does not exist yet; run "
                f"`make search CASE={self.rate_from} PARAMS={self.params_file}`, or `replicate sweep`"
            )

    def with_training(self, **changes: Any) -> Experiment:
        """The same with other training settings; a changed max_length reaches the options of the task."""
        try:
            training = replace(self.training, **changes)
        except TypeError as error:
            raise ConfigError(f"{self.where}: {error}") from error
        options = self.options
        if "max_length" in changes and hasattr(options, "max_length"):
            options = replace(options, **{"max_length": training.max_length})
        return replace(self, training=training, options=options)

    def identity(self, seed: int, stage: str = "finetune") -> dict[str, Any]:
        """Identity of this run: a checkpoint or finished seed of another configuration or code is refused."""
        return {
            "profile": self.profile,
            "experiment": self.key,
            "backbone": self.backbone.name,
            "weights": weights_sha256(self.weights),
            "data": prepared_hashes(self.prepared),
            "method": self.method,
            "method_config": dict(self.settings),
            "training": self.training.to_dict(),
            "options": self.options.recorded(),  # training reads prompts and lengths
            "threads": self.threads,
            "seed": seed,
            "training_seed": self.training_seeds[seed],
            "code": self.code(stage),
            "versions": versions(),
        }


def resolve(settings: Settings, key: str) -> Experiment:
    """The experiment `key`; every wrong value is a ConfigError before anything is loaded."""
    return _checked(described(settings, key))


def described(settings: Settings, key: str) -> Experiment:
    """The experiment `key` with all but its method checked, for what trains nothing."""
    row = settings.experiment(key)
    if row.rate_from is None:
        assert not isinstance(row.learning_rate, Searched)
        rate = row.learning_rate
        training = _training(settings, row.task, rate)
    else:
        rate = searched_rate(settings, row.rate_from)
        plan = settings.search[settings.searches[row.rate_from].plan]
        training = _training(settings, row.task, plan.learning_rates[0] if rate is None else rate)
    built = _build(settings, key, row, training, rate, row.seeds, f"experiments.{key}")
    return replace(built, rate_from=row.rate_from)


def searched_rate(settings: Settings, case: str) -> float | None:
    """The rate that the search `case` found; None if it has not run. ConfigError if it ran with other settings."""
    path, row = search_path(settings.profile, case), settings.search_case(case)
    if not path.is_file():
        return None
    plan, found = settings.search[row.plan], read_json(path)
    wanted = {**row.model_dump(mode="json"), **plan.model_dump(mode="json")}
    wanted["settings"] = method_settings(settings, row, plan.steps)
    differing = [name for name, value in wanted.items() if found.get(name) != value]
    if differing or not isinstance(found.get("best"), float):
        raise ConfigError(
            f"{path}: made with another {', '.join(differing) or 'form'} than searches.{case} of "
            f"{settings.params_file} has now; run `make search CASE={case} PARAMS={settings.params_file}`"
        )
    best: float = found["best"]
    return best


def resolve_search(settings: Settings, key: str) -> Experiment:
    """The search case `key` as an experiment, with the length and the first candidate of its plan."""
    return _checked(described_search(settings, key))


def described_search(settings: Settings, key: str) -> Experiment:
    """The same with all but its method checked."""
    case = settings.search_case(key)
    plan = settings.search[case.plan]
    usual = _training(settings, case.task, plan.learning_rates[0])
    steps = plan.steps
    training = replace(
        usual,
        steps=steps,
        warmup_steps=min(usual.warmup_steps, steps // 10),
        eval_every=steps,
        checkpoint_every=usual.checkpoint_every,
    )
    built = _build(settings, key, case, training, training.learning_rate, plan.seeds, f"searches.{key}")
    return replace(built, search=plan)


def _build(
    settings: Settings,
    key: str,
    row: Row,
    training: TrainingConfig,
    rate: float | None,
    seeds: tuple[int, ...],
    name: str,
) -> Experiment:
    task = settings.task(row.task)
    given, file = getattr(row, "training_seed", None), settings.params_file
    backbone = _told(f"{file}: backbones.{row.backbone}", get_backbone, row.backbone)
    form = _told(f"{file}: tasks.{row.task}.form", get_form, task.form)
    corpus = _told(f"{file}: tasks.{row.task}.corpus", describe, task.corpus)
    if corpus["form"] != task.form:
        raise ConfigError(
            f"{file}: tasks.{row.task}: form={task.form}: the corpus {task.corpus} has the form {corpus['form']}"
        )
    return Experiment(
        profile=settings.profile,
        key=key,
        params_file=file,
        where=f"{file}: {name}",
        threads=settings.threads,
        backbone=backbone,
        task=row.task,
        corpus=corpus,
        form=form,
        options=_options(settings, row.task, form, training, backbone, corpus),
        method=row.method,
        settings_name=row.settings,
        settings=method_settings(settings, row, training.steps),
        learning_rate=rate,
        training=training,
        seeds=seeds,
        training_seeds={seed: seed if given is None else given for seed in seeds},
        separate_training=given is not None,
        track=settings.track,
    )


def _options(
    settings: Settings,
    key: str,
    form: TaskForm,
    training: TrainingConfig,
    backbone: Backbone,
    corpus: Mapping[str, Any],
) -> Options:
    """The task's options; defaults are the corpus card's, over them the profile's options of the form."""
    file, task = settings.params_file, settings.task(key)
    shared = getattr(settings, form.shared_options) if form.shared_options else {}
    of_the_run = {**corpus["evaluation"], "metric": corpus["metric"]}
    of_the_run |= {"max_length": training.max_length, "separator": backbone.separator}
    if shared:
        _told(f"{file}: {form.shared_options}", form.options, shared)
    return _told(f"{file}: tasks.{key}.options", form.options, {**shared, **task.options}, **of_the_run)


def _training(settings: Settings, key: str, learning_rate: float | None) -> TrainingConfig:
    """The settings that all methods share on a task, with one learning rate (None if nothing trains)."""
    file, task = settings.params_file, settings.task(key)
    valid = TrainingConfig.__dataclass_fields__
    for section, values in (("training", settings.training), (f"tasks.{key}.training", task.training)):
        for name in values:
            if name not in valid:
                raise ConfigError(f"{file}: {section}.{name}: unknown field; valid fields: {', '.join(valid)}")
    rate = {} if learning_rate is None else {"learning_rate": learning_rate}
    values = {**settings.training, "threads": settings.threads, **task.training, **rate}
    return _told(f"{file}: training, tasks.{key}.training", TrainingConfig.from_dict, values)


def method_settings(settings: Settings, row: Row, steps: int) -> dict[str, Any]:
    """The settings that `row` names, each {of_steps: share} turned into that part of `steps`."""
    found = {}
    for name, value in settings.methods[row.method][row.settings].items():
        if isinstance(value, Mapping) and OF_STEPS in value:
            share = value[OF_STEPS]
            number = isinstance(share, int | float) and not isinstance(share, bool)
            if set(value) != {OF_STEPS} or not number or not 0 < share <= 1:
                raise ConfigError(
                    f"{settings.params_file}: methods.{row.method}.{row.settings}.{name}: {value!r}; give "
                    f"{{{OF_STEPS}: share}} with a share above 0 and up to 1"
                )
            value = round(share * steps)
        found[name] = value
    return found


def _checked(experiment: Experiment) -> Experiment:
    """`experiment`, whose method fits its task, its training length and its backbone."""
    where = experiment.where_method
    config = experiment.methods[experiment.seeds[0]]
    if experiment.method == BASELINE and (baseline := experiment.baseline) is not None:
        _told(where, baseline.check_form, experiment.form.name)
        return experiment
    _told(where, config.training_callback, experiment.training)
    if experiment.form.model_task not in experiment.backbone.tasks:
        raise ConfigError(
            f"{experiment.where}.backbone: {experiment.backbone.name} can be built for "
            f"{', '.join(experiment.backbone.tasks)}; a {experiment.form.name} task needs {experiment.form.model_task}"
        )
    if experiment.training.attention is not None:
        from replication.backbones.loading import check_attention

        wanted = (experiment.backbone.name, experiment.training.attention, experiment.form.model_task)
        _told(experiment.where, check_attention, *wanted)
    if experiment.training.compile is not None:
        from replication.training.checks import check_compile

        _told(experiment.where, check_compile, experiment.training.compile)
    keep = getattr(config, "keep", None)
    if keep is not None:
        targets = config.targets  # type: ignore[attr-defined]
        found = _told(where, _adapters, experiment.backbone.name, experiment.form.model_task, tuple(targets))
        if keep > found:
            raise ConfigError(
                f"{where}: keep={keep} exceeds the {found} adapters of {experiment.backbone.name}; use up to {found}"
            )
    return experiment


@lru_cache
def _adapters(backbone: str, model_task: str, targets: tuple[str, ...]) -> int:
    """The number of adapters of these targets, counted on the meta device."""
    from replication.backbones import build_empty
    from replication.methods.shared.projections import find_projections

    return sum(map(len, find_projections(build_empty(backbone, task=model_task), targets).values()))


def _told(where: str, call: Any, *arguments: Any, **named: Any) -> Any:
    """`call(*arguments)`, whose errors name the location of the wrong value."""
    try:
        return call(*arguments, **named)
    except (ConfigError, AdapterError) as error:
        raise ConfigError(f"{where}: {error}") from error
