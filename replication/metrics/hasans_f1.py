"""F1 of the questions that have an answer, SQuAD 2.0."""

from replication.metrics.answer_f1_v2 import METRIC as F1
from replication.metrics.answer_parts import PartOfQuestions

METRIC = PartOfQuestions(F1, answered=True)
