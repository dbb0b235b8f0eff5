"""F1 of the questions without an answer, SQuAD 2.0: the same as their exact match."""

from replication.metrics.answer_f1_v2 import METRIC as F1
from replication.metrics.answer_parts import PartOfQuestions

METRIC = PartOfQuestions(F1, answered=False)
