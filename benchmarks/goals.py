"""goals.yaml against the results: every goal with its measured value, and which are missed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from replication.errors import DataError
from replication.fileio import read_json

GOALS = Path(__file__).resolve().parent / "goals.yaml"
_FIELDS = ("what", "file", "contender", "quantity", "over", "goal", "tolerance")
_NUMBERS = ("goal", "tolerance")


@dataclass(frozen=True)
class Checked:
    """One goal and what was measured (None: `problem` says why there is nothing)."""

    what: str
    file: str
    measured: float | None
    goal: float
    tolerance: float
    problem: str = ""

    @property
    def met(self) -> bool:
        """At most the goal and its tolerance."""
        return self.measured is not None and self.measured <= self.goal + self.tolerance

    def line(self) -> str:
        """For reading."""
        found = self.problem if self.measured is None else f"measured {self.measured:.3f}"
        goal = f"goal {self.goal:g} (+{self.tolerance:g})"
        return f"{'met   ' if self.met else 'MISSED'} {self.what}: {found}, {goal}, {self.file}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "met": self.met}


def load_goals(path: Path = GOALS) -> list[dict[str, Any]]:
    """The goals; DataError names the file, the entry and the field that is missing, unknown or no number."""
    try:
        goals = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(goals, list) or not goals or not all(isinstance(goal, dict) for goal in goals):
        raise DataError(f"{path}: give a list of goals, each with the fields {', '.join(_FIELDS)}")
    for number, goal in enumerate(goals, start=1):
        if wrong := sorted({str(name) for name in goal} ^ set(_FIELDS)):
            raise DataError(
                f"{path}: goal {number}: {', '.join(wrong)}: missing or unknown; fields: {', '.join(_FIELDS)}"
            )
        for name in _FIELDS:
            kind, needed = (int | float, "a number") if name in _NUMBERS else (str, "a text")
            if not isinstance(goal[name], kind):
                raise DataError(f"{path}: goal {number}: {name}: {goal[name]!r} is not {needed}")
    return goals


def check(goals: list[dict[str, Any]], results: Path) -> list[Checked]:
    """Each goal against the file of results that it names."""
    return [_check(goal, results / goal["file"]) for goal in goals]


def _check(goal: Mapping[str, Any], path: Path) -> Checked:
    told = (goal["what"], str(path), goal["goal"], goal["tolerance"])
    what, file, wanted, tolerance = told
    if not path.is_file():
        return Checked(what, file, None, wanted, tolerance, f"not measured: run `make bench ONLY={path.stem}`")
    try:
        return Checked(what, file, ratio(read_json(path), goal), wanted, tolerance)
    except KeyError as error:
        return Checked(what, file, None, wanted, tolerance, f"not measured: the file has no {error}")
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise DataError(f"{path}: no results of a benchmark ({error}); run `make bench ONLY={path.stem}`") from error


def ratio(result: Mapping[str, Any], goal: Mapping[str, Any]) -> float:
    """Median paired ratio of a clock, or the quotient of two counts; KeyError for what the result does not have."""
    contender, over, quantity = goal["contender"], goal["over"], goal["quantity"]
    if quantity in result["ratios"]:
        if result["base"] != over:
            raise KeyError(f"ratio to {over}")
        return float(result["ratios"][quantity][contender]["median"])
    counts = result["counts"][quantity]
    return float(counts[contender] / counts[over])
