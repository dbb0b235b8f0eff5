"""From a params.yaml to everything one experiment needs: checked configurations and the paths it reads and writes.

Building a plan touches no data and no weights, so the commands of every profile can be checked anywhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.baseline import check_baseline
from pipelines.paths import prepared_directory, prepared_hashes, weights_directory
from pipelines.settings import Experiment, SearchCase, Settings
from pipelines.tasks import StageTask, stage_task
from replication.backbones import Backbone, get_backbone
from replication.errors import ConfigError
from replication.fileio import sha256_file
from replication.methods import MethodConfig, method_config
from replication.records import code_sha256, versions
from replication.training.config import TrainingConfig

TOLERANCES = Path("paper_results/tolerances.json")


@dataclass(frozen=True)
class Plan:
    """One experiment, resolved. Paths are relative to the project's root, where every stage runs."""

    settings: Settings
    key: str
    experiment: Experiment
    backbone: Backbone
    training: TrainingConfig
    task: StageTask

    @property
    def prepared(self) -> Path:
        """Folder of the prepared task."""
        return prepared_directory(self.settings, self.experiment.task)

    @property
    def weights(self) -> Path:
        """Folder of the backbone's weights."""
        return weights_directory(self.experiment.backbone)

    @property
    def run(self) -> Path:
        """Folder of everything the experiment writes."""
        return Path("runs") / self.settings.profile / self.key

    @property
    def scratch(self) -> Path:
        """Checkpoints and finished seeds of a stage that has not ended yet."""
        return Path("checkpoints") / self.settings.profile / self.key

    def method(self, seed: int) -> MethodConfig:
        """The method's configuration; a method with random start values draws them from the run's seed."""
        return seeded_method(self.experiment, seed)

    def training_seed(self, seed: int) -> int:
        """The seed that training itself starts from in the run `seed`."""
        return seed if self.experiment.training_seed is None else self.experiment.training_seed

    def identity(self, seed: int) -> dict[str, Any]:
        """What makes a checkpoint or a finished seed this run's: one of any other configuration or code is refused."""
        return {
            "profile": self.settings.profile,
            "experiment": self.key,
            "backbone": self.experiment.backbone,
            "weights": sha256_file(self.weights / "model.safetensors"),
            "data": prepared_hashes(self.prepared),
            "method": self.experiment.method,
            "method_config": dict(self.experiment.settings),
            "training": asdict(self.training),
            "threads": self.settings.threads,
            "seed": seed,
            "training_seed": self.training_seed(seed),
            "code": code_sha256(),
            "versions": versions(),
        }


def plan_experiment(settings: Settings, key: str) -> Plan:
    """Resolve one experiment; every wrong value is a ConfigError before anything is loaded."""
    return _plan(settings, key, settings.experiment(key))


def plan_search(settings: Settings, key: str) -> Plan:
    """Resolve one search case as the experiment it stands for; its learning rate is the first candidate."""
    case: SearchCase = settings.search_case(key)
    plan = settings.search[case.plan]
    described = case.model_dump(exclude={"plan"})
    experiment = Experiment(**described, learning_rate=plan.learning_rates[0], seeds=plan.seeds)
    return _plan(settings, key, experiment)


def _plan(settings: Settings, key: str, experiment: Experiment) -> Plan:
    backbone = get_backbone(experiment.backbone)
    training = training_config(settings, experiment.task, experiment.learning_rate)
    task = stage_task(settings, settings.task(experiment.task), backbone, training)
    plan = Plan(settings, key, experiment, backbone, training, task)
    plan.method(experiment.seeds[0]).training_callback(training)
    check_baseline(plan)
    return plan


def training_config(settings: Settings, task: str, learning_rate: float | None, **changes: Any) -> TrainingConfig:
    """The settings that all methods share on a task, with one learning rate (None where nothing trains)."""
    shared = {**settings.training, "threads": settings.threads, **settings.task(task).training}
    rate = {} if learning_rate is None else {"learning_rate": learning_rate}
    values = {**shared, **rate, **changes}
    return _checked(TrainingConfig, values, f"{settings.params_file}: training of task {task}")


def seeded_method(experiment: Experiment, seed: int) -> MethodConfig:
    """`experiment`'s method with its start values drawn from `seed` where it has random ones."""
    known = asdict(method_config(experiment.method, **experiment.settings))
    settings = dict(experiment.settings)
    if experiment.training_seed is not None:
        if "selection_seed" not in known or "selection_seed" in settings:
            raise ConfigError(
                f"training_seed={experiment.training_seed}: {experiment.method} draws nothing else from a run's seed; "
                "remove it (it is for random_lora without a selection_seed)"
            )
        settings["selection_seed"] = seed
    if "init_seed" in known and "init_seed" not in settings:
        settings["init_seed"] = seed if experiment.training_seed is None else experiment.training_seed
    return method_config(experiment.method, **settings)


def _checked(kind: Any, values: dict[str, Any], where: str) -> Any:
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
