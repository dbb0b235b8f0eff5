"""Exact match of extracted answers, SQuAD 2.0: a question may have no answer."""

from replication.metrics.exact_match import ExactMatch

METRIC = ExactMatch(version=2)
