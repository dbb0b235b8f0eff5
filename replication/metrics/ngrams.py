"""N-grams of a corpus of predictions and references as arrays: millions in seconds, some hundred bytes a word.

Words are numbered, texts stand one after the other: of each item the prediction, then its references. For each order
one sort brings equal n-grams together. It is stable, so that within an n-gram positions rise: its occurrences in one
text are adjacent, then those of one item, the prediction first. Counts, clipped counts and document frequencies are
lengths of such runs. Floats are added up in the order of the first occurrences, as a loop over texts would.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from replication.errors import DataError

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Numbered:
    """The words of many texts as numbers."""

    words: Ints
    lengths: Ints
    """Words in each text."""
    per_item: Ints
    """Texts of each item."""
    vocabulary: dict[str, int]


def number(items: Iterable[Sequence[Sequence[str]]], vocabulary: dict[str, int]) -> Numbered:
    """Texts (lists of words) of each item in numbers; new words enter `vocabulary`."""
    words, lengths, per_item = array("i"), array("q"), array("q")
    for texts in items:
        per_item.append(len(texts))
        for text in texts:
            lengths.append(len(text))
            words.extend([vocabulary.setdefault(word, len(vocabulary)) for word in text])
    arrays = (
        np.asarray(words, dtype=np.int32),
        np.asarray(lengths, dtype=np.int64),
        np.asarray(per_item, dtype=np.int64),
    )
    return Numbered(*arrays, vocabulary)


@dataclass(frozen=True)
class Corpus:
    """Predictions and references laid out item by item."""

    words: Ints
    lengths: Ints
    """Words in each text."""
    begins: Ints
    """First text, the prediction, of each item."""
    size: int
    """Numbers of words are below it."""

    @cached_property
    def text(self) -> Ints:
        """The text of each word."""
        return np.repeat(np.arange(len(self.lengths), dtype=np.int32), self.lengths)

    @cached_property
    def item(self) -> Ints:
        """The item of each text."""
        return np.repeat(np.arange(len(self.begins), dtype=np.int32), self.texts)

    @cached_property
    def texts(self) -> Ints:
        """Texts of each item, the prediction among them."""
        return np.diff(self.begins, append=len(self.lengths))

    @cached_property
    def predicted(self) -> npt.NDArray[np.bool_]:
        """Whether each text is a prediction."""
        found = np.zeros(len(self.lengths), dtype=bool)
        found[self.begins] = True
        return found


def laid_out(predictions: Iterable[Sequence[str]], references: Numbered) -> Corpus:
    """The corpus of tokenised predictions and numbered references; DataError for an item without a reference."""
    said = number(([words] for words in predictions), dict(references.vocabulary))
    if len(said.per_item) != len(references.per_item) or not references.per_item.all():
        raise DataError("each prediction needs at least one reference; pass one list of references per prediction")
    begins = np.cumsum(references.per_item + 1) - (references.per_item + 1)
    predicted = np.zeros(len(said.lengths) + len(references.lengths), dtype=bool)
    predicted[begins] = True
    lengths = np.empty(len(predicted), dtype=np.int64)
    lengths[predicted], lengths[~predicted] = said.lengths, references.lengths
    words = np.empty(lengths.sum(), dtype=np.int32)
    of_prediction = np.repeat(predicted, lengths)
    words[of_prediction], words[~of_prediction] = said.words, references.words
    return Corpus(words, lengths, begins, max(1, len(said.vocabulary)))


@dataclass(frozen=True)
class Runs:
    """The distinct n-grams of each text, for one n: equal ones adjacent, among them those of an item."""

    gram: Ints
    """Number of the n-gram among those of its order."""
    text: Ints
    first: Ints
    """Where it first occurs in the text."""
    count: Ints
    prefix: Ints
    """Of each n-gram number: the number of its first n - 1 words in the order before."""
    groups: Ints
    """Where n-gram or item change."""


def runs(corpus: Corpus, longest: int) -> Iterator[Runs]:
    """One `Runs` an order, from 1 to `longest`."""
    starts = np.arange(len(corpus.words), dtype=np.int32)
    grams = np.zeros(len(corpus.words), dtype=np.int32)  # of order 0 there is one n-gram, the empty one
    for order in range(1, longest + 1):
        if order > 1:
            starts = starts[: max(0, np.searchsorted(starts, len(corpus.words) - order + 1))]
            starts = starts[corpus.text[starts + (order - 1)] == corpus.text[starts]]
        key = grams[starts].astype(np.int64)
        key *= corpus.size
        key += corpus.words[starts + (order - 1)]
        by_key = np.argsort(key, kind="stable")
        key, position = key[by_key], starts[by_key]
        del by_key
        new = _changes(key)
        prefix = (key[new] // corpus.size).astype(np.int32)
        del key
        gram = np.cumsum(new, dtype=np.int32)
        gram -= 1
        grams[position] = gram  # elsewhere stand n-grams of lower orders, at no start of the next one
        text = corpus.text[position]
        begins = np.flatnonzero(new | _changes(text)).astype(np.int32)
        count = np.diff(begins, append=np.int32(len(position)))
        gram, text, position = gram[begins], text[begins], position[begins]
        groups = np.flatnonzero(_changes(gram) | _changes(corpus.item[text])).astype(np.int32)
        del new, begins
        yield Runs(gram, text, position, count, prefix, groups)
        del gram, text, position, count, prefix, groups


def in_references(corpus: Corpus, found: Runs) -> tuple[Ints, Ints]:
    """Of each n-gram its occurrences in all references, and the items that have it in one."""
    if not len(found.groups):
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32)
    count = np.where(corpus.predicted[found.text], np.int32(0), found.count)
    held = np.diff(found.groups, append=np.int32(len(found.text))) > corpus.predicted[found.text[found.groups]]
    occurrences = np.add.reduceat(count, np.flatnonzero(_changes(found.gram)))
    items = np.add.reduceat(held.astype(np.int32), np.flatnonzero(_changes(found.gram[found.groups])))
    return occurrences, items


def _changes(values: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Whether each value differs from the one before; the first one does."""
    found = np.ones(len(values), dtype=bool)
    found[1:] = values[1:] != values[:-1]
    return found


@dataclass(frozen=True)
class Matches:
    """The n-grams of predictions that their references have, in the order of their first occurrence."""

    item: Ints
    gram: Ints
    count: Ints
    """Occurrences in the prediction, at most those in the one reference that has most."""


def matches(corpus: Corpus, found: Runs) -> Matches:
    """The clipped counts of one order."""
    if not len(found.groups):
        none = np.zeros(0, dtype=np.int32)
        return Matches(none, none, none.astype(np.int64))
    predicted = corpus.predicted[found.text]
    most = np.maximum.reduceat(np.where(predicted, np.int32(0), found.count), found.groups)
    both = predicted[found.groups] & (most > 0)
    run = found.groups[both]
    order = np.argsort(found.first[run])
    run, most = run[order], most[both][order]
    return Matches(corpus.item[found.text[run]], found.gram[run], np.minimum(found.count[run], most).astype(np.int64))
