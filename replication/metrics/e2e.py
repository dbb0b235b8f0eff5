"""The E2E scores as an `evaluate` module, loaded from this file without a hub.

Use: `evaluate.load("<path of this file>").compute(predictions=[...], references=[[...], ...])`.
`evaluate` reads the import statements below as text: keep one import per line.
"""

from typing import Any

import datasets
import evaluate

from replication.metrics import (
    e2e_scores,
    evaluate_module,  # the module: `evaluate` takes the first class that it finds
)
from replication.metrics.guard import check_texts

_DESCRIPTION = "BLEU, NIST, METEOR, ROUGE_L and CIDEr of the E2E NLG challenge's scripts, Python mteval mode."

_CITATION = """@inproceedings{dusek-etal-2018-findings,
  title = {Findings of the {E2E} {NLG} Challenge},
  author = {Du{\\v{s}}ek, Ond{\\v{r}}ej and Novikova, Jekaterina and Rieser, Verena},
  booktitle = {Proceedings of INLG},
  year = {2018}
}"""

_INPUTS = """Args:
    predictions: list of texts, one per item.
    references: list of lists of texts, at least one per item.
Returns:
    dict with BLEU (0 to 1), NIST, METEOR (None without Java), ROUGE_L and CIDEr.
"""


class E2E(evaluate_module.CheckedMetric):
    """`compute(predictions=[...], references=[[...], ...])` returns the five scores."""

    def _info(self) -> evaluate.MetricInfo:
        texts = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": texts, "references": datasets.Sequence(texts)}),
            reference_urls=["https://github.com/tuetschek/e2e-metrics"],
        )

    def check(self, predictions: Any, references: Any) -> None:
        """Texts and lists of texts, as many predictions as references."""
        check_texts(predictions, references)

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float | None]:
        return e2e_scores(predictions, references)
