"""SQuAD's exact match and F1 as an `evaluate` module, loaded from this file without a hub.

Use: `evaluate.load("<path of this file>", "squad_v1").compute(predictions=[...], references=[[...], ...])`, or with
"squad_v2", where an empty list of references means that the question has no answer.
`evaluate` reads the import statements below as text: keep one import per line.
"""

from collections.abc import Mapping
from typing import Any

import datasets
import evaluate

from replication.metrics import evaluate_module, score_task
from replication.metrics.guard import check_texts
from replication.metrics.task_files import plain_answers

_DESCRIPTION = "Exact match and F1 of the official SQuAD scripts, versions 1.1 and 2.0, as fractions of 0 to 1."

_CITATION = """@inproceedings{rajpurkar-etal-2018-know,
  title = {Know What You Don't Know: Unanswerable Questions for {SQuAD}},
  author = {Rajpurkar, Pranav and Jia, Robin and Liang, Percy},
  booktitle = {Proceedings of ACL},
  year = {2018}
}"""

_INPUTS = """Args:
    predictions: list of texts, one per question; "" for no answer. Or the dictionaries {"id", "prediction_text"}.
    references: list of lists of texts, the gold answers of each question. Or {"id", "answers": {"text": [...]}}.
Returns:
    dict with exact_match and f1 (0 to 1), and of version 2 those of the questions with (HasAns) and without (NoAns) an
    answer, where there are such questions.
"""

_VERSIONS = ("squad_v1", "squad_v2")


class Squad(evaluate_module.CheckedMetric):
    """`compute(predictions=[...], references=[[...], ...])` returns exact match and F1."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _VERSIONS:
            raise KeyError(f"SQuAD version {self.config_name!r} is unknown; known are: {', '.join(_VERSIONS)}")
        texts = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": texts, "references": datasets.Sequence(texts)}),
            reference_urls=["https://rajpurkar.github.io/SQuAD-explorer/"],
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """As in `evaluate`, also of the standard dictionaries, matched by id."""
        if predictions and references and isinstance(predictions[0], Mapping) and isinstance(references[0], Mapping):
            predictions, references = plain_answers(predictions, references)
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def check(self, predictions: Any, references: Any) -> None:
        """Texts and lists of texts, as many predictions as references."""
        check_texts(predictions, references, empty=self.config_name == "squad_v2")

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float | None]:
        pairs = zip(predictions, references, strict=True)
        return score_task(
            self.config_name, [{"prediction": predicted, "answers": list(golds)} for predicted, golds in pairs]
        )
