"""F1 of the words of extracted answers, SQuAD 1.1; predicted classes have another F1 (f1.py)."""

from replication.metrics.answers import AnswerMetric, token_f1


class AnswerF1(AnswerMetric):
    """The mean over questions of the words' F1 against the best gold answer."""

    name = "f1"
    label = "F1"
    leads = True

    def compare(self, prediction: str, gold: str) -> float:
        """F1 of the normalised words."""
        return token_f1(prediction, gold, version=self.version)


METRIC = AnswerF1(version=1)
