"""F1 with the best threshold on the no-answer score, SQuAD 2.0."""

from replication.metrics.answer_f1_v2 import METRIC as F1
from replication.metrics.answer_parts import BestThreshold

METRIC = BestThreshold(F1)
