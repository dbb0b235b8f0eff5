"""ROUGE-L of summaries: the longest common subsequence (E2E's ROUGE_L is another: rouge_l.py)."""

from replication.metrics.rouge import Rouge


class RougeL(Rouge):
    """ROUGE-L's F-measure."""

    name = "rougeL"
    label = "ROUGE-L"
    leads = ("rouge",)


METRIC = RougeL()
