"""Exact match and F1 of extracted answers as the official SQuAD scripts compute them (Rajpurkar et al. 2016, 2018).

Texts are compared after lower-casing, removal of ASCII punctuation, of the articles a, an, the, and of surplus white
space, in this order. Each prediction counts by its best gold answer. The two versions differ where a side is empty:

v1: two texts without a word left have exact match 1 and F1 0.
v2: gold answers without a word left do not count; a question without any other has the one gold answer "", and where
    either side has no word, F1 is 1 when both have none, else 0.
"""

from __future__ import annotations

import re
import string
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence

from replication.metrics.metric import Floats, Metric, Rows, lists_of_texts, share, texts, with_ones

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)


def normalise(text: str) -> str:
    """The form in which answers are compared."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, gold: str) -> float:
    """1.0 when the normalised texts are equal, else 0.0."""
    return float(normalise(prediction) == normalise(gold))


def token_f1(prediction: str, gold: str, *, version: int = 1) -> float:
    """Harmonic mean of precision and recall over the words of the normalised texts, counted as often as they occur."""
    predicted, wanted = normalise(prediction).split(), normalise(gold).split()
    if version == 2 and not (predicted and wanted):
        return float(predicted == wanted)
    common = sum((Counter(predicted) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def gold_answers(answers: Sequence[str], version: int) -> list[str]:
    """The gold answers of one question that count."""
    if version == 2:
        return [gold for gold in answers if normalise(gold)] or [""]
    return list(answers)


class AnswerMetric(Metric):
    """The mean over questions of a comparison of two texts, each prediction by its best gold answer.

    In version 2 no answers (or only "") mean that there is no answer; in version 1 that is a DataError.
    """

    scale = "fraction, 0 to 1"

    def __init__(self, version: int):
        self.version = version
        self.reported_for: Mapping[str, Sequence[str]] = {"question_answering": (f"squad_v{version}",)}

    @abstractmethod
    def compare(self, prediction: str, gold: str) -> float:
        """Agreement of a prediction with the gold answers, 0 to 1."""

    def item_statistics(self, rows: Rows) -> Floats:
        """(n_items, 2): the score of the question, one."""
        answers = lists_of_texts(rows, "answers", empty=self.version == 2)
        return with_ones(
            [
                max(self.compare(prediction, gold) for gold in gold_answers(golds, self.version))
                for prediction, golds in zip(texts(rows, "prediction"), answers, strict=True)
            ]
        )

    def score(self, sums: Floats) -> Floats:
        """The mean."""
        return share(sums)
