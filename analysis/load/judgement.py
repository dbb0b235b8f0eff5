"""The grid's comparisons and the rule's constants, from `paper_results/judgement.yaml`: fixed before the runs."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from analysis.load.paper_files import DIRECTORY, Strict, validated

FILE = "judgement.yaml"
Role = Literal["compared", "gate", "draws", "pilot", "earlier"]


class Margins(Strict):
    """Of one measure: what "keeps the metric" allows, and by how much LoRA must beat what costs nothing."""

    keeps_within: float = Field(gt=0, lt=1)
    learned_by: float = Field(gt=0, lt=1)


class Rule(Strict):
    """Constants and text of the decision rule."""

    alpha: float = Field(gt=0, lt=0.5)
    power: float = Field(gt=0.5, lt=1)
    least_seeds: int = Field(ge=2)
    p_value: str
    family: str
    pooled: str


class Threshold(Strict):
    """A share, and of what."""

    share: float = Field(gt=0, le=1)
    of: str


class PlannedComparison(Strict):
    """One comparison of a claim: whether `first` keeps `second`'s measure, or beats it."""

    claim: str
    first: str
    second: str
    ask: Literal["keeps", "better"]


class Part(Strict):
    """One backbone's part of a profile's grid: its tasks with their primary measures, its methods, its seeds."""

    profile: str
    backbone: str
    seeds: tuple[int, ...] = Field(min_length=1)
    gate_seeds: tuple[int, ...]
    tasks: dict[str, str]
    methods: tuple[str, ...]
    draws: str | None = None
    steps: str | None = None
    second_outcome: str | None = None

    @model_validator(mode="after")
    def _gates_enter_no_comparison(self) -> Part:
        if shared := sorted(set(self.seeds) & set(self.gate_seeds)):
            raise ValueError(f"gate_seeds {shared} are among the compared seeds; a gate needs separate seeds")
        return self


class Smoothness(Strict):
    """Measures of a smooth descent for one claim; the first of `measures` decides."""

    claim: str
    measures: dict[str, str] = Field(min_length=1)
    earlier_measure: str


class Judgement(Strict):
    """The whole file. `not_tested_in`: profiles that test no claim of either paper, with the reason."""

    schema_version: Literal[1]
    title: str
    fixed_on: datetime.date
    seen_before: str
    rule: Rule
    measures: dict[str, Margins]
    measures_why: str
    almost_all: Threshold
    fewer_parameters: Threshold
    memory: Threshold
    learned: str
    not_tested_in: dict[str, str]
    comparisons: tuple[PlannedComparison, ...]
    grid: tuple[Part, ...]
    smoothness: Smoothness
    roles: dict[str, dict[Role, tuple[str, ...]]]

    @model_validator(mode="after")
    def _every_primary_measure_has_margins(self) -> Judgement:
        for part in self.grid:
            for task, measure in part.tasks.items():
                if measure not in self.measures:
                    raise ValueError(f"grid: {task} is judged by {measure}, which has no margins under measures")
        return self

    def planned_for(self, profile: str, claim: str) -> tuple[dict[tuple[str, str], tuple[int, ...]], tuple[str, ...]]:
        """The grid's settings (backbone, task) that test a claim, with their seeds; and the methods it compares."""
        pairs = [(planned.first, planned.second) for planned in self.comparisons if planned.claim == claim]
        methods = tuple(dict.fromkeys(method for pair in pairs for method in pair))
        parts = [part for part in self.grid if part.profile == profile and set(methods) <= set(part.methods)]
        settings = {(part.backbone, task): part.seeds for part in parts for task in part.tasks}
        return (settings if methods else {}), methods

    def part_of(self, profile: str, setting: tuple[str, str]) -> Part | None:
        """The grid's part with this backbone and task; None outside the grid."""
        backbone, task = setting
        parts = (part for part in self.grid if (part.profile, part.backbone) == (profile, backbone))
        return next((part for part in parts if task in part.tasks), None)

    def role(self, profile: str, experiment: str) -> Role:
        """An experiment's role: the first with a matching pattern, else "compared"."""
        patterns: Mapping[Role, tuple[str, ...]] = self.roles.get(profile, {})
        for role, names in patterns.items():
            if any(fnmatchcase(experiment, name) for name in names):
                return role
        return "compared"


def load_judgement(directory: str | Path = DIRECTORY) -> Judgement:
    """The file, checked; DataError names the field and what is valid."""
    return validated(Judgement, Path(directory) / FILE)
