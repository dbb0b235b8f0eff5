"""The official metrics of the GLUE tasks as an `evaluate` module, loaded from this file without a hub.

Use: `evaluate.load("<path of this file>", "mrpc").compute(predictions=[...], references=[...])`. For MNLI there is one
call a split ("mnli_matched", "mnli_mismatched"), as in the official module; both give "accuracy".
`evaluate` reads the import statements below as text: keep one import per line.
"""

from typing import Any

import datasets
import evaluate

from replication.metrics import evaluate_module, glue_scores
from replication.metrics.guard import check_labelled

_DESCRIPTION = "The metric of each GLUE task: Matthews correlation, accuracy, F1, Pearson and Spearman correlation."

_CITATION = """@inproceedings{wang-etal-2018-glue,
  title = {{GLUE}: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding},
  author = {Wang, Alex and Singh, Amanpreet and Michael, Julian and Hill, Felix and Levy, Omer and Bowman, Samuel},
  booktitle = {Proceedings of the EMNLP Workshop BlackboxNLP},
  year = {2018}
}"""

_INPUTS = """Args:
    predictions: list of classes (stsb: of numbers), one per item.
    references: list of labels, in the same order.
Returns:
    dict with the task's metrics: matthews_correlation (cola), accuracy and f1 (mrpc, qqp), pearson and spearman (stsb),
    accuracy (all others).
"""

_NAMES = ("cola", "mnli", "mnli_matched", "mnli_mismatched", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb")


class Glue(evaluate_module.CheckedMetric):
    """`compute(predictions=[...], references=[...])` returns the metrics of the task named as configuration."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _NAMES:
            raise KeyError(f"GLUE task {self.config_name!r} is unknown; known are: {', '.join(_NAMES)}")
        value = datasets.Value("float64" if self.config_name == "stsb" else "int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": value, "references": value}),
            reference_urls=["https://gluebenchmark.com/"],
        )

    def check(self, predictions: Any, references: Any) -> None:
        """Finite numbers for stsb, classes of the task for the others, as many predictions as references."""
        check_labelled(self.config_name.split("_")[0], predictions, references)

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float | None]:
        task = "accuracy" if self.config_name.startswith("mnli") else self.config_name
        return glue_scores(task, predictions, references)
