"""ROUGE-Lsum of summaries: the longest common subsequences, sentence by sentence."""

from replication.metrics.rouge import Rouge


class RougeLsum(Rouge):
    """ROUGE-Lsum's F-measure."""

    name = "rougeLsum"
    label = "ROUGE-Lsum"
    leads = ("rouge_lsum",)


METRIC = RougeLsum()
