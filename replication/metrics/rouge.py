"""ROUGE-1, 2, L and Lsum of summaries by Google's rouge-score, the field's usual implementation, with its stemmer.

Scores are F-measures, each item by its best reference, averaged over the items. ROUGE-Lsum compares sentence by
sentence and wants to be told where they end: at newlines (CNN/DailyMail's highlights have them), and behind . ! or ?
followed by white space. The usual recipe finds the ends with NLTK's punkt, whose data must be downloaded; ours differs
from it at abbreviations, on both sides alike, and touches no score but Lsum.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from replication.errors import DataError, ReplicationError

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
"""Keys of every result."""

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, without surrounding white space, none of them empty."""
    ends = (match.end() for match in _SENTENCE_END.finditer(text))
    pieces, start = [], 0
    for end in [*ends, len(text)]:
        pieces += text[start:end].split("\n")
        start = end
    return [piece.strip() for piece in pieces if piece.strip()]


def rouge_scores(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    use_stemmer: bool = True,
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Mean F-measures, from 0 to 1, by the names in ROUGE; `references[i]` lists the summaries of item i.

    `progress` is called with 1 after each item. DataError for items that cannot be scored; ReplicationError when
    rouge-score is not installed.
    """
    if len(predictions) != len(references):
        raise DataError(
            f"{len(predictions)} predictions but references for {len(references)} items; give one list each"
        )
    if not predictions:
        raise DataError("no predictions; there is nothing to score")
    scorer = _scorer(use_stemmer)
    sums = dict.fromkeys(ROUGE, 0.0)
    for number, (prediction, texts) in enumerate(zip(predictions, references, strict=True), start=1):
        if isinstance(texts, str) or not texts:
            raise DataError(f"item {number}: give a list of at least one reference, found {texts!r}")
        lines = ["\n".join(split_sentences(text)) for text in (prediction, *texts)]
        best = scorer.score_multi(lines[1:], lines[0])
        for name in ROUGE:
            sums[name] += float(best[name].fmeasure)
        if progress is not None:
            progress(1)
    return {name: total / len(predictions) for name, total in sums.items()}


def _scorer(use_stemmer: bool):  # type: ignore[no-untyped-def]
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ReplicationError(
            f"ROUGE needs the package rouge-score ({error}); run `pip install rouge-score`"
        ) from error
    return RougeScorer(list(ROUGE), use_stemmer=use_stemmer)
