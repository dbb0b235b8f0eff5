"""The grammar of the microworld: the phrases for each fact about a place, and how they make a description.

A description is built from a meaning representation in three steps.

1. Roles. Each fact becomes a premodifier ("a cheap pub"), part of the location ("by the riverside near North
   Gate") or a predicate ("serves Italian food"). Price and food may share a predicate ("serves Italian food
   at cheap prices").
2. Head sentence, one of
       N is NP [LOC] [and VP].             There is NP called N [LOC] [that VP].
       N, NP [LOC], VP and VP.             Located LOC, N is NP [and VP].
       LOC, there is NP called N.          You can find N LOC.            N VP, VP and VP.
       Located LOC, N VP and VP.
   with N the name, NP the premodified noun (the eatType, or "place" where none is given), VP predicates.
3. The predicates left over follow in sentences of at most three, whose subject is "It", "This place" or "The
   pub".

Each phrase expresses exactly one value of one slot, and nothing is stated that is not in the meaning
representation, so a description can be read back into it. Choices are made with `Draw`, which uses nothing of
Python's generator but `random()`, the one method whose sequence is promised to stay the same across versions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from replication.corpora.schema import SLOTS, MeaningRepresentation
from replication.errors import DataError

T = TypeVar("T")

# The closed slots hold the value ranges of the E2E release; names and landmarks are invented.
VALUES: dict[str, tuple[str, ...]] = {
    "name": (
        *("The Copper Kettle", "The Quiet Heron", "Blue Lantern", "Marigold House", "The Old Anchor"),
        *("Saffron Table", "The Silver Spoon", "Harbour Lights", "The Two Foxes", "The Green Door"),
        *("Willow Kitchen", "Maple Corner", "The Golden Pear", "The Brass Bell", "Lemon Tree"),
        *("The Red Kite", "Clover Lodge", "The White Hare", "Salt and Pepper", "The Black Cat"),
        *("Little Acorn", "The Wooden Boat", "The Paper Moon", "Rosemary Yard"),
    ),
    "eatType": ("coffee shop", "pub", "restaurant"),
    "food": ("Chinese", "English", "Fast food", "French", "Indian", "Italian", "Japanese"),
    "priceRange": ("cheap", "moderate", "high", "less than £20", "£20-25", "more than £30"),
    "customer rating": ("low", "average", "high", "1 out of 5", "3 out of 5", "5 out of 5"),
    "area": ("city centre", "riverside"),
    "familyFriendly": ("yes", "no"),
    "near": (
        *("North Gate", "Market Hall", "The Stone Tower", "Crown Theatre", "Station Hotel"),
        *("Café Juniper", "The Glass Bridge", "Union Library", "Fountain Square", "The Clock Museum"),
    ),
}

PREMODIFIERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("customer rating", "low"): ("poorly rated",),
    ("customer rating", "high"): ("highly rated",),
    ("priceRange", "cheap"): ("cheap", "inexpensive"),
    ("priceRange", "moderate"): ("moderately priced",),
    ("priceRange", "high"): ("expensive",),
    ("familyFriendly", "yes"): ("family-friendly",),
    ("familyFriendly", "no"): ("adults-only",),
    **{("food", food): (food if food != "Fast food" else "fast food",) for food in VALUES["food"]},
}

PREDICATES: dict[tuple[str, str], tuple[str, ...]] = {
    **{
        ("food", food): tuple(f"{verb} {food} food" for verb in ("serves", "offers"))
        for food in VALUES["food"]
        if food != "Fast food"
    },
    ("food", "Fast food"): ("serves fast food", "offers fast food"),
    ("priceRange", "cheap"): ("is cheap", "has cheap prices"),
    ("priceRange", "moderate"): ("is moderately priced", "has moderate prices"),
    ("priceRange", "high"): ("is expensive", "has high prices"),
    ("priceRange", "less than £20"): ("costs less than £20", "has prices of less than £20"),
    ("priceRange", "£20-25"): ("costs £20-25", "has prices of £20-25"),
    ("priceRange", "more than £30"): ("costs more than £30", "has prices of more than £30"),
    ("customer rating", "low"): ("has a low customer rating", "is poorly rated by customers"),
    ("customer rating", "average"): ("has an average customer rating", "is rated average by customers"),
    ("customer rating", "high"): ("has a high customer rating", "is highly rated by customers"),
    **{
        ("customer rating", f"{stars} out of 5"): (
            f"has a customer rating of {stars} out of 5",
            f"is rated {stars} out of 5 by customers",
        )
        for stars in (1, 3, 5)
    },
    ("familyFriendly", "yes"): ("is family-friendly", "welcomes families"),
    ("familyFriendly", "no"): ("is not family-friendly", "does not welcome families"),
}

# What "serves Italian food" may add to say the price as well.
AT_PRICE: dict[str, str] = {
    **{price: f"at {price} prices" for price in ("cheap", "moderate", "high")},
    **{price: f"for {price}" for price in ("less than £20", "£20-25", "more than £30")},
}

AREAS: dict[str, tuple[str, ...]] = {
    "city centre": ("in the city centre", "in the centre of the city"),
    "riverside": ("by the riverside", "in the riverside area"),
}
NEARNESS = ("near", "close to", "not far from")

MAX_PREMODIFIERS = 2
MAX_PREDICATES = 3
_ASCRIBED = ("customer rating", "priceRange", "familyFriendly", "food")  # in the order English puts them
_PREDICATED = ("food", "priceRange", "customer rating", "familyFriendly")


class Draw:
    """Seeded choices that repeat on every Python version; streams of one seed differ by `stream`."""

    def __init__(self, seed: int, stream: str) -> None:
        self._random = random.Random(f"{stream}:{seed}")

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, each equally likely."""
        return options[int(self._random.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random.random() < probability

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different members of `options`, in their order there."""
        left = list(range(len(options)))
        chosen = [left.pop(int(self._random.random() * len(left))) for _ in range(count)]
        return [options[index] for index in sorted(chosen)]


def draw_meaning(draw: Draw, slots: int, name: str | None = None) -> MeaningRepresentation:
    """A name and `slots - 1` other facts (`slots` from 1 to 8), in the release's slot order."""
    others = draw.some(SLOTS[1:], slots - 1)
    facts = [("name", name or draw.pick(VALUES["name"]))]
    return MeaningRepresentation((*facts, *((slot, draw.pick(VALUES[slot])) for slot in others)))


def describe(mr: MeaningRepresentation, draw: Draw) -> str:
    """One description that says every fact of `mr` and no other; its first character is a capital.

    Names and landmarks may be any; DataError names a closed slot's value that the grammar has no words for.
    """
    facts = dict(mr.slots)
    name = facts.get("name")
    if name is None or len(facts) < 2:
        raise DataError(f"a description needs a name and one more fact, got {mr}")
    for slot, value in mr.slots:
        if slot not in ("name", "near") and value not in VALUES[slot]:
            raise DataError(f"{slot} {value!r} is not in the grammar, which has {', '.join(VALUES[slot])}")
    said_before_noun = premodified_slots(facts, draw)
    noun = noun_phrase(facts, said_before_noun, draw)
    bare = noun == "a place"
    place = location(facts, draw)
    if place and not bare and draw.chance(0.2):
        rest, place = predicates(facts, said_before_noun, draw, place), ""
    else:
        rest = predicates(facts, said_before_noun, draw)
    plan = draw.pick(_plans(bare, bool(place), bool(rest)))
    head, used = plan(name, noun, place, rest)
    sentences = [head]
    while rest := rest[used:]:
        used = MAX_PREDICATES if len(rest) != MAX_PREDICATES + 1 else 2
        subject = draw.pick(("It", "This place", f"The {facts.get('eatType', 'place')}"))
        sentences.append(f"{subject} {series(rest[:used])}.")
    return " ".join(capitalised(sentence) for sentence in sentences)


def premodified_slots(facts: Mapping[str, str], draw: Draw) -> tuple[str, ...]:
    """Slots placed before the noun, at most two, in the order English puts them."""
    possible = [slot for slot in _ASCRIBED if (slot, facts.get(slot)) in PREMODIFIERS]
    chosen = [slot for slot in possible if draw.chance(0.5)]
    return tuple(draw.some(chosen, MAX_PREMODIFIERS) if len(chosen) > MAX_PREMODIFIERS else chosen)


def noun_phrase(facts: Mapping[str, str], slots: Sequence[str], draw: Draw) -> str:
    """`an inexpensive Italian pub`; the noun is `place` where the eatType is not among the facts."""
    words = [draw.pick(PREMODIFIERS[slot, facts[slot]]) for slot in slots]
    return with_article(" ".join([*words, facts.get("eatType", "place")]))


def location(facts: Mapping[str, str], draw: Draw) -> str:
    """`by the riverside near North Gate`, either half alone, or nothing."""
    parts = []
    if "area" in facts:
        parts.append(draw.pick(AREAS[facts["area"]]))
    if "near" in facts:
        parts.append(f"{draw.pick(NEARNESS)} {facts['near']}")
    if draw.chance(0.3):
        parts.reverse()
    return " ".join(parts)


def predicates(facts: Mapping[str, str], already_said: Sequence[str], draw: Draw, place: str = "") -> list[str]:
    """Predicates for the facts that are not said yet, `is PLACE` among them where a place is given."""
    left = [slot for slot in _PREDICATED if slot in facts and slot not in already_said]
    shared = "food" in left and "priceRange" in left and draw.chance(0.5)
    phrases = []
    for slot in left:
        if slot == "priceRange" and shared:
            continue
        phrase = draw.pick(PREDICATES[slot, facts[slot]])
        phrases.append(f"{phrase} {AT_PRICE[facts['priceRange']]}" if slot == "food" and shared else phrase)
    if place:
        phrases.append(f"is {place}")
    if draw.chance(0.3):
        phrases.reverse()
    return phrases


def with_article(phrase: str) -> str:
    """`a pub`, `an Italian pub`; right for every word of this grammar, which has no silent h."""
    return f"{'an' if phrase[0] in 'AEIOUaeiou' else 'a'} {phrase}"


def series(phrases: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def capitalised(sentence: str) -> str:
    """The sentence with a capital at its start and its names untouched."""
    return sentence[0].upper() + sentence[1:]


# A plan turns name, noun phrase, location (may be empty) and predicates into the head sentence, and says how
# many of the predicates it used.
Plan = Callable[[str, str, str, list[str]], tuple[str, int]]


def _plans(bare: bool, located: bool, predicated: bool) -> list[Plan]:
    if bare and not located:  # "X is a place." would say nothing
        return [_predication]
    if bare:
        return [_there_is, _where_there_is, _found, *([_located_predication] * 2 if predicated else [])]
    plans: list[Plan] = [_is_a, _is_a, _there_is]
    if located:
        plans += [_located, _where_there_is]
    if predicated:
        plans += [_apposition, _apposition]
    return plans


def _is_a(name: str, noun: str, place: str, rest: list[str]) -> tuple[str, int]:
    return f"{_joined(name, 'is', noun, place, *_second('and', rest))}.", min(1, len(rest))


def _there_is(name: str, noun: str, place: str, rest: list[str]) -> tuple[str, int]:
    # "that" must not follow a landmark: it would seem to refer to the landmark.
    clause = () if place else _second("that", rest)
    return f"{_joined('there is', noun, 'called', name, place, *clause)}.", min(1, len(clause))


def _located(name: str, noun: str, place: str, rest: list[str]) -> tuple[str, int]:
    return f"located {place}, {_joined(name, 'is', noun, *_second('and', rest))}.", min(1, len(rest))


def _located_predication(name: str, noun: str, place: str, rest: list[str]) -> tuple[str, int]:
    used = min(2, len(rest))
    return f"located {place}, {name} {series(rest[:used])}.", used


def _where_there_is(name: str, noun: str, place: str, rest: list[str]) -> tuple[str, int]:
    return f"{place}, there is {noun} called {name}.", 0


def _found(name: str, noun: str, place: str, rest: list[str]) -> tuple[str, int]:
    return f"you can find {name} {place}.", 0


def _apposition(name: str, noun: str, place: str, rest: list[str]) -> tuple[str, int]:
    used = min(2, len(rest))
    return f"{name}, {_joined(noun, place)}, {series(rest[:used])}.", used


def _predication(name: str, noun: str, place: str, rest: list[str]) -> tuple[str, int]:
    used = min(MAX_PREDICATES, len(rest))
    return f"{name} {series(rest[:used])}.", used


def _second(link: str, rest: list[str]) -> tuple[str, ...]:
    return (link, rest[0]) if rest else ()


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)
