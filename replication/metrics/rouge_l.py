"""ROUGE-L as the E2E scripts report it: the mean over items of pycocoevalcap's score (beta 1.2).

Best precision and best recall are taken over the references separately before they are combined (COCO's form). Equal
to pycocoevalcap to the last bit, and faster: one bit per word. Summaries have another ROUGE-L (rougel.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from replication.metrics import approximate_tokenizer
from replication.metrics.metric import Floats, Rows, lists_of_texts, share, texts, with_ones
from replication.metrics.programs import Programs
from replication.metrics.texts import References, TextMetric, Texts

_BETA = 1.2  # how much recall counts


class RougeL(TextMetric):
    """The items are those of `approximate_tokenizer`, with or without Java, so that intervals do not depend on it."""

    name = "ROUGE_L"
    label = "ROUGE-L"
    scale = "fraction, 0 to 1"
    position = 4
    resampled = "approximate"
    java = "tokenizer"

    def text_statistics(self, predictions: Texts, references: References) -> Floats:
        """(n_items, 2): ROUGE-L of the item, one."""
        return with_ones(item_scores(approximate_tokenizer.tokenize(predictions), _tokenised(references)))

    def score(self, sums: Floats) -> Floats:
        """The mean."""
        return share(sums)

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """The mean on the official tokenisation."""
        references = programs.tokenise_lists(lists_of_texts(rows, "references"))
        return rouge_l(programs.tokenise(texts(rows, "prediction")), references)


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus ROUGE-L, 0 to 1, of tokenised texts (single blanks between tokens)."""
    return float(METRIC.score(METRIC.total(with_ones(item_scores(predictions, references)))))


def item_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """ROUGE-L of single items, tokenised."""
    return [
        _item(text.split(" "), [other.split(" ") for other in texts])
        for text, texts in zip(predictions, references, strict=True)
    ]


@lru_cache(maxsize=8)
def _tokenised(references: References) -> References:
    return tuple(tuple(approximate_tokenizer.tokenize(texts)) for texts in references)


def _item(words: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    positions: dict[str, int] = {}
    for position, word in enumerate(words):
        positions[word] = positions.get(word, 0) | 1 << position
    common = [_common_subsequence(positions, len(words), reference) for reference in references]
    precision = max(length / len(words) for length in common)
    recall = max(length / len(reference) for length, reference in zip(common, references, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common_subsequence(positions: Mapping[str, int], length: int, other: Sequence[str]) -> int:
    """Length of the longest common subsequence, one bit per word (Hyyro 2004); `positions`: word -> where it occurs."""
    everywhere = (1 << length) - 1
    row = everywhere
    for word in other:
        hit = row & positions.get(word, 0)
        row = ((row + hit) | (row - hit)) & everywhere
    return length - row.bit_count()


METRIC = RougeL()
