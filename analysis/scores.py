"""metrics.json: mean and spread over seeds of every metric of one experiment, whatever its task's form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from analysis.published import METRICS
from replication.errors import DataError
from replication.fileio import read_json
from replication.metrics import names

GENERATION = "generation"
_ROUNDING = 1e-6


class Metrics(BaseModel):
    """metrics.json: means over seeds, spread, every seed; the official scripts' own scale (BLEU 0.7203).

    A file without `form`, `metrics` and `primary` holds the five E2E metrics of a generation task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    profile: str
    experiment: str
    form: str = GENERATION
    items: int = Field(ge=1)
    metrics: tuple[str, ...] = Field(METRICS, min_length=1)
    primary: str = METRICS[0]
    means: dict[str, float | None]
    spread: dict[str, float | None]
    seeds: dict[int, dict[str, float | None]] = Field(min_length=1)
    approximate: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    predictions_sha256: dict[int, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_means(cls, content: Any) -> Any:
        """In the file each mean stands under its metric's name, beside the other fields."""
        if not isinstance(content, dict):
            return content
        names = content.get("metrics", list(METRICS))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"metrics is {names!r}; expected a list of names")
        absent = [name for name in names if name not in content]
        if absent:
            raise ValueError(f"{absent[0]} is missing; metrics names {', '.join(names)}")
        rest = {key: value for key, value in content.items() if key not in names}
        return {**rest, "metrics": names, "means": {name: content[name] for name in names}}

    @model_validator(mode="after")
    def _means_are_means(self) -> Metrics:
        if self.primary not in self.metrics:
            raise ValueError(f"primary is {self.primary!r}; metrics names {', '.join(self.metrics)}")
        known = names(self.form)
        if unknown := [metric for metric in self.metrics if metric not in known]:
            raise ValueError(
                f"metrics names {unknown[0]!r}, which no file of replication/metrics defines for {self.form}; "
                f"valid names: {', '.join(known) or 'none'}"
            )
        for metric in self.metrics:
            absent = [seed for seed, scores in self.seeds.items() if metric not in scores]
            if absent:
                raise ValueError(f"seeds.{absent[0]} has no {metric}")
            values, mean = self.values(metric), self.means[metric]
            if (mean is None) != (values is None):
                raise ValueError(f"{metric} is {mean}, but its seeds say {values}")
            if values is not None and mean is not None and abs(math.fsum(values) / len(values) - mean) > _ROUNDING:
                raise ValueError(f"{metric} is {mean}, which is not the mean of its seeds {values}")
        return self

    def values(self, metric: str) -> list[float] | None:
        """One score per seed, in the file's order; None when a seed has no score (METEOR without Java)."""
        present = [value for scores in self.seeds.values() if (value := scores[metric]) is not None]
        return present if len(present) == len(self.seeds) else None


def read_metrics(path: str | Path, directory: Path | None = None) -> Metrics:
    """metrics.json, checked; DataError names file and field. `directory` is the experiment it must belong to."""
    try:
        metrics = Metrics.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path}, {first_fault(error)}") from error
    if directory is not None:
        check_place(path, metrics.profile, metrics.experiment, directory)
    return metrics


def check_place(path: str | Path, profile: str, experiment: str, directory: Path) -> None:
    """DataError when a file names another experiment than the folder it stands in."""
    if (profile, experiment) != (directory.parent.name, directory.name):
        here = f"{directory.parent.name}/{directory.name}"
        raise DataError(f"{path}: profile and experiment are {profile}/{experiment}, but it stands in {here}")


def first_fault(error: ValidationError) -> str:
    """The first field that is wrong, and how."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'top level'}: {first['msg']}"
