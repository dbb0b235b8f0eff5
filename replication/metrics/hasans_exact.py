"""Exact match of the questions that have an answer, SQuAD 2.0."""

from replication.metrics.answer_parts import PartOfQuestions
from replication.metrics.exact_match_v2 import METRIC as EXACT_MATCH

METRIC = PartOfQuestions(EXACT_MATCH, answered=True)
