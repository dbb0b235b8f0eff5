"""ROUGE-1 of summaries: shared words."""

from replication.metrics.rouge import Rouge


class Rouge1(Rouge):
    """ROUGE-1's F-measure."""

    name = "rouge1"
    label = "ROUGE-1"


METRIC = Rouge1()
