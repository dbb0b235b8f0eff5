"""ROUGE-2 of summaries: shared pairs of words."""

from replication.metrics.rouge import Rouge


class Rouge2(Rouge):
    """ROUGE-2's F-measure."""

    name = "rouge2"
    label = "ROUGE-2"


METRIC = Rouge2()
