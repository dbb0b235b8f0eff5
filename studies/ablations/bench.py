"""Shared by the ablations: their description, and a bench that trains a method once and measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.show.ablations import Cell, LineFigure, Series
from pipelines.shared.experiment import resolve
from pipelines.shared.paths import Rows, prepared_hashes, read_rows
from pipelines.shared.settings import Settings
from replication.errors import TrainingError
from replication.fileio import sha256_file

if TYPE_CHECKING:
    from torch import nn

    from replication.methods import MethodConfig
    from replication.training.callbacks import Callback

SEEDS = (18, 52, 1917)  # the authors' seeds, and the quick profile's
DEVELOPMENT_CODE = "harsh306/CLoRA, branch dev-clora, March to July 2024; file and line not at hand"
AUTHORS_CODE = "Vepricov/Weight_Lora and Vepricov/WLoRA; line not at hand"
TOY = (
    "anything about the papers' models: a small model pretrained here for minutes, a synthetic corpus, few steps and "
    "few seeds"
)


@dataclass(frozen=True)
class Findings:
    """The result of a measurement: a table, optionally a figure, and one sentence."""

    headers: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    shows: str
    notes: tuple[str, ...] = ()
    figure: LineFigure | None = None


@dataclass(frozen=True)
class AblationPlan:
    """One fault: description, source, what is done instead, and how its effect is measured.

    `experiment` names the quick experiment whose backbone and task are used (None: nothing is trained). `settings`
    hold every number the result depends on; a change of the measurement itself raises `settings["version"]`. `files`
    are further inputs, besides data and weights.
    """

    name: str
    paper: str
    title: str
    fault: str
    source: str
    instead: str
    data: str
    settings: Mapping[str, Any]
    does_not_show: str
    measure: Callable[[AblationPlan, Bench | None], Findings]
    experiment: str | None = None
    seeds: tuple[int, ...] = ()
    files: tuple[Path, ...] = ()
    profile: str = "quick"


@dataclass(frozen=True)
class Trial:
    """One training run: dev loss and test score (None: diverged, or not measured), trained parameters, choices."""

    loss: float | None
    score: float | None
    trainable_at_start: int
    trainable: int
    choices: dict[str, Any] = field(default_factory=dict)


class Bench:
    """A backbone with a task of the quick profile: trains any method on it with the task's shared settings."""

    def __init__(self, settings: Settings, experiment: str):
        self.plan = resolve(settings, experiment)
        self.train_rows: Rows = read_rows(self.plan.prepared, "train")
        self.dev_rows: Rows = read_rows(self.plan.prepared, "dev")
        self.test_rows: Rows = read_rows(self.plan.prepared, "test")

    @property
    def data(self) -> str:
        """The training data, for a caption."""
        return f"task {self.plan.task}"

    def inputs(self) -> dict[str, str]:
        """sha256 of the weights and of each prepared file."""
        prepared = {f"{self.plan.task}/{name}": value
                    for name, value in prepared_hashes(self.plan.prepared).items()}  # fmt: skip
        return {f"{self.plan.backbone.name}": sha256_file(self.plan.weights / "model.safetensors"), **prepared}

    def train(
        self,
        method: MethodConfig,
        *,
        seed: int,
        learning_rate: float,
        rows: Rows | None = None,
        change: Callable[[nn.Module], None] | None = None,
        callback: Callback | None = None,
        dev: int = 0,
        scored: bool = True,
        **training: Any,
    ) -> Trial:
        """Train `method` once, as the stage `finetune` does; `change` acts on the model after attaching.

        `dev` rows are measured at the start and the end; `training` overrides settings of the task. A run that ends
        in a loss or gradient that is not finite has neither loss nor score.
        """
        from pipelines.shared.fitting import load_base
        from replication.backbones import load_tokenizer
        from replication.counting import parameter_counts
        from replication.methods import attach
        from replication.training.loop import train

        shared = {"eval_every": None, "checkpoint_every": None, **training}
        plan = self.plan.with_training(learning_rate=learning_rate, **shared)
        form, options, config = plan.form, plan.options, plan.training
        model = attach(load_base(plan, seed), method)
        tokenizer = load_tokenizer(plan.backbone.name, plan.weights)
        form.prepare_model(model, tokenizer)
        if change is not None:
            change(model)
        at_start = parameter_counts(model).trainable
        callback = callback or method.training_callback(config)
        try:
            result = train(
                model,
                form.encode(tokenizer, self.train_rows if rows is None else rows, options),
                form.encode(tokenizer, self.dev_rows[:dev], options),
                config,
                seed=seed,
                pad_id=form.pad_id(tokenizer, options),
                callback=callback,
                loss_function=form.training_loss(config.label_smoothing),
                collate_function=form.collate,
            )
        except TrainingError:
            return Trial(None, None, at_start, at_start)
        score = self.score(model, tokenizer) if scored else None
        choices = (callback.summary() if callback else None) or {}
        return Trial(result.dev_loss, score, at_start, parameter_counts(model).trainable, choices)

    def score(self, model: Any, tokenizer: Any) -> float:
        """The task's primary metric on its test rows."""
        from replication.metrics import leading, score_task
        from replication.training.determinism import deterministic_algorithms

        metric = self.plan.corpus["metric"]
        with deterministic_algorithms(self.plan.threads):
            predicted = self.plan.form.predict(model.eval(), tokenizer, self.test_rows, self.plan.options)
        score = score_task(metric, predicted)[leading(metric).name]
        assert score is not None, f"{metric} needs no program that can be missing"
        return score


def by_seed(values: Mapping[int, float | None]) -> dict[str, float | None]:
    """A cell with one value per seed, rounded to six decimals: the last bits of a float are not significant."""
    return {str(seed): None if value is None else round(value, 6) for seed, value in values.items()}


def differences(first: Mapping[int, float | None], second: Mapping[int, float | None]) -> dict[int, float | None]:
    """First minus second, seed by seed; None if either diverged."""
    found: dict[int, float | None] = {}
    for seed in first:
        a, b = first[seed], second[seed]
        found[seed] = None if a is None or b is None else a - b
    return found


def mean(values: Mapping[Any, float | None] | Sequence[float | None]) -> float | None:
    """Mean of the values that are not None; None without any."""
    known = [v for v in (values.values() if isinstance(values, Mapping) else values) if v is not None]
    return sum(known) / len(known) if known else None


def line(label: str, points: Mapping[float, Mapping[int, float | None]]) -> Series:
    """A line of a figure from one value per seed at each x, with the range over seeds as its band."""
    known = {x: [v for v in seeds.values() if v is not None] for x, seeds in points.items()}
    return Series(
        label=label,
        x=tuple(float(x) for x in points),
        y=tuple(round(sum(v) / len(v), 6) if v else None for v in known.values()),
        low=tuple(round(min(v), 6) if v else None for v in known.values()),
        high=tuple(round(max(v), 6) if v else None for v in known.values()),
    )
