"""F1 of the words of extracted answers, SQuAD 2.0: a question may have no answer."""

from replication.metrics.answer_f1 import AnswerF1

METRIC = AnswerF1(version=2)
