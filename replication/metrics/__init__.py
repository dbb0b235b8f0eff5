"""Scores: the official metrics of every task form, those of the E2E NLG challenge on the official scripts' scale.

A metric is one object in one file (see `replication.metrics.metric`); files are found by their names and imported
lazily. Imports neither torch nor evaluate.
"""

from replication.metrics.metric import Metric
from replication.metrics.registry import find, label_of, leading, named, names, protocols, reported
from replication.metrics.scores import (
    E2E,
    Scores,
    e2e_scores,
    glue_scores,
    score_e2e,
    score_many,
    score_systems,
    score_task,
)

__all__ = [
    "E2E",
    "Metric",
    "Scores",
    "e2e_scores",
    "find",
    "glue_scores",
    "label_of",
    "leading",
    "named",
    "names",
    "protocols",
    "reported",
    "score_e2e",
    "score_many",
    "score_systems",
    "score_task",
]
