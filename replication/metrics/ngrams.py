"""Word sequences of one to five words and their counts in the references of an item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from replication.metrics.mteval_tokenizer import tokenize

Ngram = tuple[str, ...]
LONGEST = 5  # NIST's order; BLEU reads the first four


def count_ngrams(words: Sequence[str], longest: int = LONGEST) -> Counter[Ngram]:
    """How often each sequence of 1 to `longest` words occurs in `words`."""
    counts: Counter[Ngram] = Counter()
    for order in range(1, longest + 1):
        counts.update(zip(*(words[start:] for start in range(order)), strict=False))
    return counts


@dataclass(frozen=True)
class ReferenceCounts:
    """The references of one item: words in each, and per n-gram the most in any one and the sum over all."""

    lengths: tuple[int, ...]
    most: Counter[Ngram]
    total: Counter[Ngram]


def count_references(references: Iterable[str]) -> ReferenceCounts:
    """Tokenise and count one item's references (raw text, at least one)."""
    lengths: list[int] = []
    most: Counter[Ngram] = Counter()
    total: Counter[Ngram] = Counter()
    for text in references:
        words = tokenize(text)
        counts = count_ngrams(words)
        lengths.append(len(words))
        most |= counts
        total += counts
    return ReferenceCounts(tuple(lengths), most, total)
