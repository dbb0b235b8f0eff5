"""Exact match of the questions without an answer, SQuAD 2.0: the share that is answered with nothing."""

from replication.metrics.answer_parts import PartOfQuestions
from replication.metrics.exact_match_v2 import METRIC as EXACT_MATCH

METRIC = PartOfQuestions(EXACT_MATCH, answered=False)
