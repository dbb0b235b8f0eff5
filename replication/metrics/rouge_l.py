"""ROUGE-L as the E2E scripts report it: the mean over items of pycocoevalcap's score (beta 1.2).

Best precision and best recall are taken over the references separately before they are combined (COCO's
form).
"""

from __future__ import annotations

from collections.abc import Sequence


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus ROUGE-L, 0 to 1, of tokenised texts (single blanks between tokens)."""
    from pycocoevalcap.rouge.rouge import Rouge

    scorer = Rouge()
    items = [
        scorer.calc_score([prediction], list(texts)) for prediction, texts in zip(predictions, references, strict=True)
    ]
    return float(sum(items) / len(items))
