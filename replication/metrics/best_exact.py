"""Exact match with the best threshold on the no-answer score, SQuAD 2.0."""

from replication.metrics.answer_parts import BestThreshold
from replication.metrics.exact_match_v2 import METRIC as EXACT_MATCH

METRIC = BestThreshold(EXACT_MATCH)
