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
from collections import Counter
from collections.abc import Sequence

from replication.errors import DataError

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
    said, wanted = normalise(prediction).split(), normalise(gold).split()
    if version == 2 and not (said and wanted):
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def squad_scores(predictions: Sequence[str], answers: Sequence[Sequence[str]], *, version: int = 1) -> dict[str, float]:
    """Mean `exact_match` and `f1`, from 0 to 1; `answers[i]` lists the gold answers of `predictions[i]`.

    In version 2 no answers (or "" alone) mean that there is none to be found; in version 1 that is a DataError.
    """
    if len(predictions) != len(answers):
        raise DataError(
            f"{len(predictions)} predictions but answers for {len(answers)} questions; give them in one order"
        )
    if not predictions:
        raise DataError("no predictions; there is nothing to score")
    exact = f1 = 0.0
    for number, (prediction, golds) in enumerate(zip(predictions, answers, strict=True), start=1):
        if version == 2:
            golds = [gold for gold in golds if normalise(gold)] or [""]
        if not golds:
            raise DataError(f"question {number} has no gold answer, which only SQuAD v2 knows")
        exact += max(exact_match(prediction, gold) for gold in golds)
        f1 += max(token_f1(prediction, gold, version=version) for gold in golds)
    return {"exact_match": exact / len(predictions), "f1": f1 / len(predictions)}
