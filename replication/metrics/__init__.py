"""Scores: of the E2E NLG challenge on the official scripts' scale, and the official metrics of the other tasks.

Imports neither torch nor evaluate.
"""

from replication.metrics.scores import METRICS, E2EScores, e2e_scores, score_e2e, score_many
from replication.metrics.tasks import METRIC_NAMES, PRIMARY, score_task

__all__ = [
    "METRICS",
    "METRIC_NAMES",
    "PRIMARY",
    "E2EScores",
    "e2e_scores",
    "score_e2e",
    "score_many",
    "score_task",
]
