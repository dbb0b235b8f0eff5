"""Seeds that predict the same for every example: one class, one choice, one text, one number.

Such a model ignores its input; its accuracy is the share of a class, and a correlation of it is zero or undefined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.load.names import BASELINES, method_key
from analysis.load.runs import Experiment

REGRESSION_RANGE = 1e-3  # of the labels' range: predictions that differ by no more are one number
OUTPUTS = {"classification": "class", "multiple_choice": "choice", "regression": "number"}  # any other form: a text


def is_constant(form: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a seed's predictions are all alike; never for fewer than two examples."""
    if len(rows) < 2:
        return False
    predictions = [row["prediction"] for row in rows]
    if form == "regression":
        labels = [row["label"] for row in rows]
        return bool(max(predictions) - min(predictions) <= REGRESSION_RANGE * (max(labels) - min(labels)))
    return len({value.strip() if isinstance(value, str) else value for value in predictions}) == 1


def constant_seeds(experiment: Experiment) -> tuple[int, ...]:
    """The seeds whose predictions are all alike, ascending."""
    return tuple(seed for seed, rows in experiment.predictions.items() if is_constant(experiment.form, rows))


def constant_mark(experiment: Experiment) -> str:
    """`one class in 7 of 8 seeds`, `one class` with a single seed, `no text` where it is empty.

    Empty text where predictions differ, and for a trivial baseline, which is constant by construction.
    """
    found, record = constant_seeds(experiment), experiment.record
    if not found or (record is not None and method_key(record.method, record.method_config) in BASELINES):
        return ""
    empty = all(not str(row["prediction"]).strip() for seed in found for row in experiment.predictions[seed])
    what = "no text" if empty else f"one {OUTPUTS.get(experiment.form, 'text')}"
    count = len(experiment.predictions)
    if count == 1:
        return what
    return f"{what} in {'every seed' if len(found) == count else f'{len(found)} of {count} seeds'}"
