"""ROUGE-1, 2, L and Lsum of summaries by Google's rouge-score, the field's usual implementation, with its stemmer.

Scores are F-measures, each item by its best reference, averaged over the items. ROUGE-Lsum compares sentence by
sentence. rouge-score ends a sentence only at a newline, so both sides are split before (sentences.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from replication.errors import DataError, ReplicationError
from replication.metrics.metric import Floats, share, with_ones
from replication.metrics.sentences import split_sentences
from replication.metrics.texts import References, TextMetric, Texts

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
"""The four scores of a summary, in table order."""


class Rouge(TextMetric):
    """The mean over items of one F-measure, each item by its best reference."""

    scale = "fraction, 0 to 1"
    reported_for: Mapping[str, Sequence[str]] = {"summarisation": ("rouge", "rouge_lsum")}

    def text_statistics(self, predictions: Texts, references: References) -> Floats:
        """(n_items, 2): F-measure of the item, one."""
        return with_ones(item_scores(predictions, references)[:, ROUGE.index(self.name)])

    def score(self, sums: Floats) -> Floats:
        """The mean."""
        return share(sums)


def rouge_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, use_stemmer: bool = True
) -> dict[str, float]:
    """Mean F-measures, from 0 to 1, by the names in ROUGE; `references[i]` lists the summaries of item i.

    DataError for items that cannot be scored; ReplicationError if rouge-score is not installed.
    """
    if len(predictions) != len(references):
        raise DataError(
            f"{len(predictions)} predictions but references for {len(references)} items; pass one list each"
        )
    if not predictions:
        raise DataError("no predictions; there is nothing to score")
    for number, texts in enumerate(references, start=1):
        if isinstance(texts, str) or not texts:
            raise DataError(f"item {number}: pass a list of at least one reference, found {texts!r}")
    scores = item_scores(tuple(predictions), tuple(tuple(texts) for texts in references), use_stemmer)
    means = np.cumsum(scores, axis=0)[-1] / len(predictions)
    return dict(zip(ROUGE, means.tolist(), strict=True))


@lru_cache(maxsize=16)
def item_scores(predictions: Texts, references: References, use_stemmer: bool = True) -> Floats:
    """F-measures of single items, shape (n_items, 4), columns as in ROUGE: one pass for all four; read-only."""
    scorer = _scorer(use_stemmer)
    scores = np.zeros((len(predictions), len(ROUGE)))
    for row, prediction, texts in zip(scores, predictions, references, strict=True):
        lines = ["\n".join(split_sentences(text)) for text in (prediction, *texts)]
        best = scorer.score_multi(lines[1:], lines[0])
        row[:] = [float(best[name].fmeasure) for name in ROUGE]
    scores.setflags(write=False)
    return scores


def _scorer(use_stemmer: bool):  # type: ignore[no-untyped-def]
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ReplicationError(
            f"ROUGE needs the package rouge-score ({error}); run `pip install rouge-score`"
        ) from error
    return RougeScorer(list(ROUGE), use_stemmer=use_stemmer)
