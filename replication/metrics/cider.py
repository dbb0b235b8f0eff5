"""CIDEr as the E2E scripts report it: pycocoevalcap's scorer (the D form, sigma 6, scale 0 to 10).

Document frequencies come from the references given, so the score of a subset does not compare with the full
set's. One item alone scores 0: every n-gram occurs in all documents.
"""

from __future__ import annotations

from collections.abc import Sequence


def cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus CIDEr of tokenised texts (single blanks between tokens)."""
    from pycocoevalcap.cider.cider import Cider

    if not any(text.strip() for texts in references for text in texts):
        return 0.0  # no n-gram in any reference: the scorer would look for the most frequent one
    keys = range(len(predictions))
    truth = dict(zip(keys, (list(texts) for texts in references), strict=True))
    score, _ = Cider().compute_score(truth, {key: [text] for key, text in zip(keys, predictions, strict=True)})
    return float(score)
