"""The interface of a metric: its name, its direction, and how items combine into a score.

A metric is the object `METRIC` in its own file in this folder. Scores, bootstrap intervals and table
columns all come from it, and no other file has to change:

    class Words(Metric):
        '''Words of a prediction, mean over items.'''

        name = "words"
        label = "words"
        direction = "lower"
        scale = "words an item"
        reported_for = {"summarisation": ("rouge",)}

        def item_statistics(self, rows):
            return np.array([[len(text.split()), 1] for text in texts(rows, "prediction")], dtype=np.float64)

        def score(self, sums):
            return share(sums)


    METRIC = Words()

A protocol is what a corpus card names in its field `metric` (cola, squad_v1, rouge; e2e for text generation): the
official way to score that corpus. A metric lists the protocols that report it; the card names the protocol.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from replication.errors import DataError

if TYPE_CHECKING:
    from replication.metrics.programs import Programs

Floats = npt.NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]
"""Full prediction rows of one system (replication.predictions), in the order of the items."""


class Metric(ABC):
    """One score of a set of prediction rows."""

    name: str
    """Key in scores.json. The file is called the same in lower case, unless two metrics share a name."""
    label: str
    """Display name."""
    direction: Literal["higher", "lower"] = "higher"
    """Which values are better."""
    scale: str
    """Unit and range."""
    reported_for: Mapping[str, Sequence[str]]
    """Task form -> the protocols under which it is reported."""
    leads: bool | tuple[str, ...] = False
    """Whether curves, searches and verdicts look at it, or under which protocols: one metric of each protocol does."""
    position: int = 100
    """Position among the columns of its protocol; ties are sorted by name."""
    resampled: Literal["exact", "approximate", "no"] = "exact"
    """Whether the summed item statistics of all items give the official score up to rounding, give it on another
    tokenisation, or do not exist."""
    of_one_item: bool = True
    """Whether the score of a single item says something of it (False: a correlation, an F1 of classes)."""
    java: Literal["no", "tokenizer", "program"] = "no"
    """The part that needs Java. Without Java a "tokenizer" metric is approximate and a "program" metric is missing."""

    def item_statistics(self, rows: Rows) -> Floats:
        """Sufficient statistics, shape (n_items, k): sum any selection of items and pass it to `score`.

        DataError names the row and field that cannot be used. Where `resampled` is "no" there are none.
        """
        raise NotImplementedError(f"{self.name} has no item statistics")

    def score(self, sums: Floats) -> Floats:
        """Scores of sums of item statistics, shape (..., k) to (...); a score that is undefined counts as 0."""
        raise NotImplementedError(f"{self.name} has no item statistics")

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """The score of scores.json, of at least one row; None if it cannot be measured on this machine."""
        return float(self.score(self.total(self.item_statistics(rows))))

    def total(self, statistics: Floats) -> Floats:
        """The sum over items, added one after the other: the same on every machine."""
        return np.asarray(np.cumsum(statistics, axis=0)[-1])

    def measured(self, rows: Rows) -> bool:
        """Whether it is reported for these rows at all: False if a field that not every run writes is absent."""
        return True

    def begin(self, programs: Programs) -> None:  # noqa: B027 - most metrics start nothing
        """Start what takes long to start; called before any text is tokenised."""

    def notes(self, rows: Rows) -> tuple[str, ...]:
        """Properties of the predictions that a reader of the score should know."""
        return ()

    def leads_in(self, protocol: str) -> bool:
        """Whether it leads where a corpus is scored by `protocol`."""
        return self.leads if isinstance(self.leads, bool) else protocol in self.leads

    @property
    def higher_is_better(self) -> bool:
        """The direction as a truth value."""
        return self.direction == "higher"

    def __repr__(self) -> str:
        return f"<metric {self.name}>"


def share(sums: Floats) -> Floats:
    """First column over the second, shape (..., 2) to (...); 0 if nothing was counted."""
    return divided(sums[..., 0], sums[..., 1])


def divided(over: Floats, under: Floats) -> Floats:
    """`over` by `under`, and 0 if that divides by zero."""
    return np.asarray(np.where(under == 0, 0.0, over / np.where(under == 0, 1.0, under)))


def with_ones(scores: Sequence[float] | Floats) -> Floats:
    """Scores of single items as statistics whose `share` is their mean, shape (n_items, 2)."""
    return np.stack([np.asarray(scores, dtype=np.float64), np.ones(len(scores))], axis=1)


def classes(rows: Rows, field: str) -> npt.NDArray[np.int64]:
    """One field of all rows: whole numbers from 0."""
    return np.array(_checked(rows, field, _index, "a class's index"), dtype=np.int64)


def numbers(rows: Rows, field: str) -> Floats:
    """One field of all rows: finite numbers."""
    return np.array(_checked(rows, field, _finite, "a finite number"), dtype=np.float64)


def texts(rows: Rows, field: str) -> tuple[str, ...]:
    """One field of all rows: a text."""
    return tuple(_checked(rows, field, lambda value: isinstance(value, str), "text"))


def lists_of_texts(rows: Rows, field: str, *, empty: bool = False) -> tuple[tuple[str, ...], ...]:
    """One field of all rows: a list of texts; `empty` allows a list without any."""

    def usable(value: Any) -> bool:
        listed = isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)
        return listed and (empty or bool(value))

    valid = "a list of texts" + ("" if empty else ", at least one")
    return tuple(tuple(value) for value in _checked(rows, field, usable, valid))


def lists_of_numbers(rows: Rows, field: str) -> list[Sequence[float]]:
    """One field of all rows: a list of finite numbers, at least one."""

    def usable(value: Any) -> bool:
        return isinstance(value, list | tuple) and bool(value) and all(map(_finite, value))

    return _checked(rows, field, usable, "a list of finite numbers, at least one")


def _index(value: Any) -> bool:
    return _finite(value) and value >= 0 and value == int(value)


def _finite(value: Any) -> bool:
    # numpy's numbers are Real as well, its truth values are not
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _checked(rows: Rows, field: str, usable: Callable[[Any], bool], valid: str) -> list[Any]:
    for number, row in enumerate(rows, start=1):
        if field not in row:
            raise DataError(f"row {row.get('id', number)!r}: field {field!r} is missing")
        if not usable(row[field]):
            raise DataError(f"row {row.get('id', number)!r}: field {field!r} must be {valid}, found {row[field]!r}")
    return [row[field] for row in rows]
