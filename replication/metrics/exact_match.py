"""Exact match of extracted answers, SQuAD 1.1."""

from replication.metrics.answers import AnswerMetric, exact_match


class ExactMatch(AnswerMetric):
    """The share of predictions that equal a gold answer after normalisation."""

    name = "exact_match"
    label = "exact match"

    def compare(self, prediction: str, gold: str) -> float:
        """1 when the normalised texts are equal."""
        return exact_match(prediction, gold)


METRIC = ExactMatch(version=1)
