"""Exact match and F1 of a part of SQuAD 2.0's questions, and with the best threshold, as in the official script.

evaluate-v2.0.py (Rajpurkar et al. 2018) prints, besides exact match and F1 of all questions: HasAns_ and NoAns_, those
of the questions with and without an answer; and best_, what the best threshold on the no-answer score would give.
There a question whose no-answer score is above the threshold counts as answered with "", any other with its best
span: `span` of the prediction row, since `prediction` is "" wherever no answer won. Rows of an earlier release have no
`span`; what the official script makes of their predictions is a lower best_.

The threshold is chosen on the questions that are scored, so best_ is an upper bound and no result of the model alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from replication.metrics.answers import AnswerMetric
from replication.metrics.metric import Floats, Metric, Rows, numbers, share
from replication.metrics.programs import Programs

SQUAD_V2: Mapping[str, Sequence[str]] = {"question_answering": ("squad_v2",)}


class PartOfQuestions(Metric):
    """`whole` of the questions that have an answer, or of those that have none; the others count for nothing."""

    scale = "fraction, 0 to 1"
    position = 101
    reported_for = SQUAD_V2

    def __init__(self, whole: AnswerMetric, *, answered: bool):
        self.whole, self.answered = whole, answered
        part, short = ("HasAns", "NoAns")[not answered], "F1" if whole.name == "f1" else "exact match"
        self.name, self.label = f"{part}_{official_name(whole)}", f"{part} {short}"

    def measured(self, rows: Rows) -> bool:
        """Whether there is such a question."""
        return any(has_answer(row) == self.answered for row in rows)

    def item_statistics(self, rows: Rows) -> Floats:
        """(n_items, 2): the score of a question of the part and one, else zeros."""
        statistics = self.whole.item_statistics(rows).copy()
        statistics[[has_answer(row) != self.answered for row in rows]] = 0.0
        return statistics

    def score(self, sums: Floats) -> Floats:
        """The mean."""
        return share(sums)


class BestThreshold(Metric):
    """`whole` with the threshold that makes it greatest. It has no item statistics: every item moves the threshold."""

    scale = "fraction, 0 to 1"
    position = 102
    resampled = "no"
    reported_for = SQUAD_V2

    def __init__(self, whole: AnswerMetric):
        self.whole = whole
        self.name, self.label = f"best_{official_name(whole)}", f"best {whole.label}"

    def measured(self, rows: Rows) -> bool:
        """Whether every row has a no-answer score."""
        return bool(rows) and all("no_answer_score" in row for row in rows)

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """The greatest mean."""
        return self.found(rows)[0]

    def notes(self, rows: Rows) -> tuple[str, ...]:
        """The threshold."""
        return (f"{self.name} with the threshold {self.found(rows)[1]} on the no-answer score",)

    def found(self, rows: Rows) -> tuple[float, float]:
        """The greatest mean and its threshold: a no-answer score, or 0.0 where answering nothing is best.

        Official: questions are answered in the order of their no-answer scores, ties in the order of the rows.
        """
        spans = [row.get("span", row.get("prediction")) for row in rows]
        answered = [{**row, "prediction": span} for row, span in zip(rows, spans, strict=True)]
        scores = self.whole.item_statistics(answered)[:, 0].tolist()
        null = numbers(rows, "no_answer_score").tolist()
        gains = [
            score if has_answer(row) else -float(bool(span))
            for row, score, span in zip(rows, scores, spans, strict=True)
        ]
        total = best = float(sum(not has_answer(row) for row in rows))
        threshold = 0.0
        for index in sorted(range(len(rows)), key=null.__getitem__):
            total += gains[index]
            if total > best:
                best, threshold = total, null[index]
        return best / len(rows), threshold


def has_answer(row: Mapping[str, Any]) -> bool:
    """Whether the question has an answer; [] and [""] mean that it has none."""
    return any(row.get("answers") or ())


def official_name(metric: AnswerMetric) -> str:
    """What evaluate-v2.0.py calls it."""
    return "exact" if metric.name == "exact_match" else metric.name
