"""Shared by the microworld's tasks: items, constructed meanings, and sentences that state one fact.

A place has one value of each slot, so another value of the same slot contradicts it. Only values of one kind
exclude one another without a reader's opinion: `cheap` and `less than £20` may both hold, `cheap` and `high` may
not. `KINDS` lists the kinds; landmarks are in none, because a place can be near two of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from replication.corpora.schema import SLOTS, MeaningRepresentation
from studies.microworld.grammar import (
    AREAS,
    NEARNESS,
    PREDICATES,
    PREMODIFIERS,
    VALUES,
    Draw,
    capitalised,
    describe,
    with_article,
)

T = TypeVar("T")

# Slot -> its kinds: within one kind a place has exactly one value.
KINDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "eatType": (VALUES["eatType"],),
    "food": (VALUES["food"],),
    "priceRange": (VALUES["priceRange"][:3], VALUES["priceRange"][3:]),
    "customer rating": (VALUES["customer rating"][:3], VALUES["customer rating"][3:]),
    "area": (VALUES["area"],),
    "familyFriendly": (VALUES["familyFriendly"],),
}
ASKED = tuple(KINDS)
# Names that read as plurals: "The Two Foxes serve ..." would be no mistake to every reader.
SINGULAR_NAMES = tuple(
    name for name in VALUES["name"] if name not in ("Harbour Lights", "The Two Foxes", "Salt and Pepper")
)

MOST_WORDS = 24
_TRIES = 20  # some meanings have no description as short as that


@dataclass(frozen=True)
class Item:
    """One row without its id, and what it was made from.

    Two items that share a key are never in different splits; `meanings` are the facts it states of each place, which
    no pretraining passage states in full.
    """

    row: dict[str, Any]
    keys: frozenset[str]
    meanings: tuple[MeaningRepresentation, ...] = ()


def item_of(row: dict[str, Any], meanings: Sequence[MeaningRepresentation], more: Sequence[str] = ()) -> Item:
    """An item whose keys are its meaning representations and `more`."""
    return Item(row, frozenset((*map(str, meanings), *more)), tuple(meanings))


def meaning(facts: Mapping[str, str]) -> MeaningRepresentation:
    """The meaning representation of `facts`, in the release's slot order."""
    return MeaningRepresentation(tuple((slot, facts[slot]) for slot in SLOTS if slot in facts))


def others_of(slot: str, value: str) -> tuple[str, ...]:
    """The values of an asked slot that exclude `value`."""
    return tuple(other for kind in KINDS[slot] if value in kind for other in kind if other != value)


def drawn_value(draw: Draw, slot: str) -> tuple[str, tuple[str, ...]]:
    """A value of an asked slot and the values that exclude it."""
    value = draw.pick(draw.pick(KINDS[slot]))
    return value, others_of(slot, value)


def shuffled(draw: Draw, options: Sequence[T]) -> list[T]:
    """All of `options` in a drawn order."""
    left = list(options)
    return [left.pop(draw.pick(range(len(left)))) for _ in options]


def described(facts: MeaningRepresentation, draw: Draw, unlike: str = "") -> str:
    """A description of `facts` that is not `unlike`: the first of at most `MOST_WORDS` words, or the shortest."""
    texts: list[str] = []
    while len(texts) < _TRIES:
        text = describe(facts, draw)
        if text != unlike:
            if len(text.split()) <= MOST_WORDS:
                return text
            texts.append(text)
    return min(texts, key=lambda text: len(text.split()))


def stated(slot: str, value: str, draw: Draw) -> str:
    """A predicate for one fact: `serves Italian food`, `is an Italian place`, `is by the riverside`."""
    if slot == "eatType":
        return f"is {with_article(value)}"
    if slot == "area":
        return f"is {draw.pick(AREAS[value])}"
    if slot == "near":
        return f"is {draw.pick(NEARNESS)} {value}"
    if (slot, value) in PREMODIFIERS and draw.chance(0.25):
        return f"is {with_article(draw.pick(PREMODIFIERS[slot, value]))} place"
    return draw.pick(PREDICATES[slot, value])


def statement(name: str, slot: str, value: str, draw: Draw) -> str:
    """A sentence that states one fact of a place."""
    subject = draw.pick((name, name, "it", "this place"))
    return capitalised(f"{subject} {stated(slot, value, draw)}.")
