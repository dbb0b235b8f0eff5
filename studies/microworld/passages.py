"""Free text of the microworld for pretraining: reviews, guides, walks, advice and talk about its places.

Passages use the words and phrases of the descriptions (`grammar`) in other sentences, with
everyday talk around them, mostly in the past tense. They hold no meaning representation and no
`label : value` text. Several kinds state a wish or a doubt and then say the same of a named place, and half of
them quote a jotted note before saying it in full, so that a backbone pretrained on them has learned to look back
in its context: what a large model brings from its pretraining, and what an adapter can then call on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from replication.corpora.schema import MeaningRepresentation
from studies.microworld.grammar import (
    Draw,
    capitalised,
    describe,
    draw_meaning,
    location,
    noun_phrase,
    predicates,
    premodified_slots,
    series,
)

SHORTEST_WORDS, LONGEST_WORDS = 20, 40

_PEOPLE = ("my sister", "my brother", "a friend of mine", "our neighbour", "my teacher", "an old friend")
_VISITORS = ("visitors", "students", "people from the office", "travellers", "many of my friends")
_DAYS = ("last Monday", "last Friday", "on Sunday", "yesterday", "two weeks ago", "on Tuesday")
_MEALS = ("lunch", "dinner", "an early supper", "a late breakfast")
_REMARKS = (
    "The staff were kind and we did not wait long.",
    "The tables are small, but the room is warm.",
    "It was raining, so we stayed until the evening.",
    "The music was too loud for me.",
    "I liked the soup and the bread.",
    "Nobody was in a hurry.",
    "We will come back one day.",
    "The tea was cold, which was a pity.",
    "There was a long queue at the door.",
    "The windows look out on a quiet street.",
    "You can find the menu on this wall.",
    "The kitchen is located at the back.",
)
_SIGHTS = (
    "The market opens early and the streets are full.",
    "In the evening the lamps are lit along the water.",
    "On Sundays most of the shops are closed.",
    "In summer the whole street sits outside.",
    "The old walls were built long ago.",
)
_SURFACES = ("on a card", "in a notebook", "on the back of a ticket", "on the wall")
_READINGS = ("This is what was meant.", "We read it like this.", "So we said it in full.")
_LABELS = {"priceRange": "price", "customer rating": "rating", "familyFriendly": "families"}
_PAST = {
    "is": "was",
    "has": "had",
    "does": "did",
    "costs": "cost",
    "serves": "served",
    "offers": "offered",
    "welcomes": "welcomed",
}


class _Place:
    """One place as a passage sees it: a name, some facts, and ways to say each of them."""

    def __init__(self, meaning: MeaningRepresentation, draw: Draw) -> None:
        facts = dict(meaning.slots)
        self.meaning = meaning
        self.name = facts["name"]
        before_noun = premodified_slots(facts, draw)
        self.noun = noun_phrase(facts, before_noun, draw)
        self.location = location(facts, draw)
        self.predicates = predicates(facts, before_noun, draw)

    @property
    def noun_there(self) -> str:
        """The noun phrase with its location, where it has one."""
        return f"{self.noun} {self.location}".strip()

    def said(self, subject: str, otherwise: str) -> str:
        """What remains to be stated about the place, in the past tense, or another sentence."""
        return f"{subject} {in_the_past(self.predicates)}." if self.predicates else otherwise


def in_the_past(predicates: Sequence[str]) -> str:
    """`served Italian food and was cheap` for the predicates `serves Italian food`, `is cheap`."""
    past = []
    for predicate in predicates:
        verb, _, rest = predicate.partition(" ")
        past.append(f"{_PAST[verb]} {rest}")
    return series(past)


def draw_passage(draw: Draw) -> tuple[str, list[MeaningRepresentation]]:
    """One passage of 20 to 40 words, and the facts it may state of each place it names."""
    while True:
        kind = draw.pick(_KINDS)
        text, places = kind(draw)
        if SHORTEST_WORDS <= len(text.split()) <= LONGEST_WORDS:
            return text, [place.meaning for place in places]


def _place(draw: Draw, other_than: str | None = None) -> _Place:
    while True:
        place = _Place(draw_meaning(draw, draw.pick((3, 4, 4, 5, 5, 6))), draw)
        if place.name != other_than and place.noun != "a place":
            return place


def _passage(*sentences: str) -> str:
    return " ".join(capitalised(sentence) for sentence in sentences)


def _review(draw: Draw) -> tuple[str, list[_Place]]:
    place = _place(draw)
    opening = f"{draw.pick(_DAYS)} we had {draw.pick(_MEALS)} at {place.name}, {place.noun_there}."
    say = place.said(draw.pick(("it", "that place", place.name)), draw.pick(_SIGHTS))
    return _passage(opening, draw.pick(_REMARKS), say), [place]


def _advice(draw: Draw) -> tuple[str, list[_Place]]:
    place = _place(draw)
    opening = f"{draw.pick(_PEOPLE)} was looking for {place.noun_there}."
    answer = f"we knew {place.noun_there}, and the name was {place.name}."
    return _passage(opening, answer, place.said(place.name, draw.pick(_REMARKS))), [place]


def _hearsay(draw: Draw) -> tuple[str, list[_Place]]:
    place = _place(draw)
    opening = f"{draw.pick(_PEOPLE)} told me about {place.noun_there} called {place.name}."
    remark, another = draw.some(_REMARKS, 2)
    return _passage(opening, place.said(f"I was told that {place.name}", another), remark), [place]


def _doubt(draw: Draw) -> tuple[str, list[_Place]]:
    while not (place := _place(draw)).predicates:
        pass
    claim = series(place.predicates)
    opening = f"{draw.pick(_PEOPLE)} asked me if {place.name} {claim}."
    answer = f"I think that {place.name} {claim}, as I know {place.noun_there}."
    return _passage(opening, answer, draw.pick(_REMARKS)), [place]


def _walk(draw: Draw) -> tuple[str, list[_Place]]:
    here = _place(draw)
    there = _place(draw, other_than=here.name)
    opening = f"{here.location or 'on the way'} we came to {here.name}, {here.noun}."
    second = f"{draw.pick(_VISITORS)} also went to {there.name}, {there.noun_there}."
    return _passage(draw.pick(_SIGHTS), opening, second, here.said("it", draw.pick(_REMARKS))), [here, there]


def _choice(draw: Draw) -> tuple[str, list[_Place]]:
    one = _place(draw)
    two = _place(draw, other_than=one.name)
    opening = f"{draw.pick(_PEOPLE)} could not choose between {one.name} and {two.name}."
    of_two = in_the_past(two.predicates or [f"is {two.noun}"])
    middle = f"{one.name} was {one.noun_there}, but {two.name} {of_two}."
    end = f"so we went to {draw.pick((one, two)).name} {draw.pick(_DAYS)}."
    return _passage(opening, middle, end), [one, two]


def _guide(draw: Draw) -> tuple[str, list[_Place]]:
    place = _place(draw)
    opening = f"{draw.pick(_VISITORS)} asked us for {place.noun}, so we sent them to {place.noun}, {place.name}."
    where = f"they found {place.name} {place.location}." if place.location else "they found it at once."
    say = place.said(place.name, draw.pick(_REMARKS))
    return _passage(draw.pick(_SIGHTS), opening, where, say), [place]


def _note(draw: Draw) -> tuple[str, list[_Place]]:
    place = _Place(draw_meaning(draw, draw.pick((3, 4, 4, 5, 5, 6))), draw)
    facts = ", ".join(f"{_LABELS.get(slot, '')} {value}".strip() for slot, value in place.meaning.slots)
    opening = f"{draw.pick(_PEOPLE)} wrote {facts} {draw.pick(_SURFACES)}."
    return _passage(opening, draw.pick(_READINGS), describe(place.meaning, draw)), [place]


_KINDS: tuple[Callable[[Draw], tuple[str, list[_Place]]], ...] = (
    *(_review, _advice, _hearsay, _doubt),
    *(_walk, _choice, _guide),
    *(_note,) * 7,
)
