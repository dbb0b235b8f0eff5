"""Scores of the E2E NLG challenge on the official scripts' scale; imports neither torch nor evaluate."""

from replication.metrics.scores import METRICS, E2EScores, e2e_scores, score_e2e, score_many

__all__ = ["METRICS", "E2EScores", "e2e_scores", "score_e2e", "score_many"]
